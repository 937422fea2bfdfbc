// Where ids lead: each has a page of its own.
import { el } from "./dom.js";

export const PAGES = { product: "products", company: "companies", city: "cities" };
export const NOUNS = Object.fromEntries(Object.entries(PAGES).map(([noun, page]) => [page, noun]));
const COLUMNS = { product_id: "products", company_id: "companies", city_id: "cities", task_id: "runs" };
const TABLES = { product_city_mapping: "products", company_city_mapping: "companies", city_counts: "cities", products: "products", companies: "companies", counts: "cities" };

/** A link to the page of an id, which is a text or a number that is exact. */
export const link = (page, id, text = String(id)) => el("a", { class: "link", href: `#/${page}/${encodeURIComponent(id)}` }, text);

/** Where a kind of incident is explained. */
export const helpOf = (kind) => `#/help/${kind}`;

/** A value of a column; where the column holds an id, a link. */
export const ofColumn = (name, value) => (COLUMNS[name] && value !== null ? link(COLUMNS[name], value) : String(value));

/** The key of a row of a cache. */
export const ofTable = (table, key) => (TABLES[table] && /^-?\d+$/.test(key) ? link(TABLES[table], key) : String(key));

/** A subject such as product/123. */
export function ofSubject(subject) {
  const [noun, id] = subject.split("/");
  return PAGES[noun] && id ? link(PAGES[noun], id, subject) : subject;
}

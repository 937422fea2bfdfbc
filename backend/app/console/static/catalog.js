// Cities, companies and products: lists with their filters in the address, and a page for each.
import { get } from "./api.js";
import { showWeek } from "./city.js";
import { el, facts, table } from "./dom.js";
import { explained, explanation } from "./explain.js";
import { link, NOUNS, PAGES } from "./links.js";
import { rove } from "./rove.js";
import { start, starter } from "./runs.js";
import { clock, has, number, t } from "./text.js";

const PAGE = 50;
const FILTERS = ["city_id", "company_id", "kind", "is_active", "external_id"];
const COLUMNS = { // what a list shows of a row, the name first
  products: { kind: (row) => kind(row.kind), company: (row) => id("companies", row.company_id), active: (row) => yes(row.is_active), external: (row) => row.external_id ?? "–", id: (row) => String(row.id) },
  companies: { city: (row) => id("cities", row.city_id), active: (row) => yes(row.is_active), external: (row) => row.external_id ?? "–", id: (row) => String(row.id) },
  cities: { products: (row) => number(row.products_count), services: (row) => number(row.services_count), companies: (row) => number(row.companies_count), external: (row) => row.external_id ?? "–", id: (row) => String(row.id) },
};
const SORTS = { name: "name", products: "-products_count", services: "-services_count", companies: "-companies_count", id: "id" }; // of cities alone

const id = (page, value) => (value === null ? "–" : link(page, value));
const yes = (value) => (value === null ? "–" : t(value ? "yes" : "no"));
const kind = (value) => (value === null ? "–" : has(`kind.of.${value}`) ? t(`kind.of.${value}`) : value);

/** A name, and where the catalog has none, the noun with its id. */
const nameOf = (noun, key, name) => (name?.trim() ? name : t(`${noun}.title`, { id: key }));

/** A list: #/products?company_id=20, page by page. */
export async function showList(place, page, query) {
  const asked = new URLSearchParams([...query].filter(([name]) => FILTERS.includes(name) || (name === "sort" && page === "cities")));
  const body = el("tbody", {});
  const more = el("button", { type: "button", hidden: true }, t("more"));
  const none = el("p", { class: "muted", hidden: true }, t("catalog.none"));
  const load = async (after) => {
    const { items, next } = await get(`${page}?${new URLSearchParams([...asked, ["limit", PAGE], ...(after ? [["after", after]] : [])])}`);
    body.append(...items.map((row) => rowOf(page, row)));
    none.hidden = Boolean(body.childElementCount);
    more.hidden = next === null;
    if (next) more.onclick = () => load(new URL(next, location.href).searchParams.get("after"));
  };
  if (page === "cities" && !asked.has("sort")) asked.set("sort", SORTS.products);
  await load();
  rove(body, "a");
  place.replaceChildren(...filters(page, asked), table(heads(page, asked), body, t(page), "list"), none, more);
}

function rowOf(page, row) {
  const name = el("th", { scope: "row" }, link(page, row.id, nameOf(NOUNS[page], row.id, row.name)));
  return el("tr", {}, name, ...Object.entries(COLUMNS[page]).map(([column, show]) => el("td", { "data-column": column }, show(row))));
}

function heads(page, asked) {
  const sort = (column) => (page === "cities" ? SORTS[column] : null);
  return ["name", ...Object.keys(COLUMNS[page])].map((column) => {
    const words = t(`list.${column}`);
    const isSorted = sort(column) && asked.get("sort") === sort(column);
    const order = isSorted ? (sort(column).startsWith("-") ? "descending" : "ascending") : null;
    return el("th", { scope: "col", "aria-sort": order, "data-column": column },
      sort(column) && !isSorted ? el("a", { class: "link", href: `#/cities?sort=${sort(column)}` }, words) : words);
  });
}

/** What the list is narrowed down to, and the way back to all of it. */
function filters(page, asked) {
  const given = [...asked].filter(([name]) => name !== "sort");
  if (!given.length) return [];
  const parts = given.map(([name, value]) => el("li", {}, `${t(`filter.${name}`)}: `,
    name.endsWith("_id") && name !== "external_id" ? link(PAGES[name.slice(0, -3)], value) : kind(value)));
  return [el("ul", { class: "chips" }, ...parts, el("li", {}, el("a", { class: "link", href: `#/${page}` }, t("filter.none"))))];
}

/** One city, company or product: what it is, where it is, and why the caches say so. Its name. */
export async function showOne(place, page, key) {
  const noun = NOUNS[page];
  const found = await explanation(noun, key);
  const cities = await citiesOf(noun, key, found);
  const week = el("div", { class: "week" });
  place.replaceChildren(factsOf(noun, key, found, cities), ...listsOf(noun, key), ...(noun === "city" && (found.source || found.cached) ? [rebuilder(key)] : []),
    el("div", { class: "explained" }, ...explained(found)), week);
  if (noun === "city") await showWeek(week, key, found.cached);
  return nameOf(noun, key, found.source?.name);
}

/** Names of the cities that catalog and cache name, by id. */
async function citiesOf(noun, key, { source, wanted, cached }) {
  if (noun === "city") return new Map();
  const ids = new Set([source?.city_id ?? source?.company?.city_id, wanted?.city_id, cached?.city_id].filter((one) => one !== null && one !== undefined).map(String));
  const read = async (one) => [one, await get(`cities/${one}`).then((city) => city.name, () => null)];
  return new Map(await Promise.all([...ids].map(read)));
}

function factsOf(noun, key, { source, cached }, cities) {
  const city = (value) => (value === null || value === undefined ? t("city.none") : link("cities", value, nameOf("city", value, cities.get(String(value)))));
  const pairs = [];
  if (noun === "product") pairs.push(["list.kind", kind(source?.kind ?? null)], ["list.company", source?.company?.id ? link("companies", source.company.id, nameOf("company", source.company.id, source.company.name)) : "–"]);
  if (noun !== "city") pairs.push(["list.active", yes(source?.is_active ?? null)], ["city.catalog", city(source?.city_id ?? source?.company?.city_id)], ["city.cached", city(cached?.city_id)]);
  if (noun === "city") for (const name of ["products", "services", "companies"]) pairs.push([`list.${name}`, cached ? number(cached[`${name}_count`]) : "–"]);
  pairs.push(["list.id", String(key)]);
  if (source?.external_id) pairs.push(["list.external", source.external_id]);
  for (const name of ["created_at", "updated_at"]) if (source?.[name]) pairs.push([`list.${name}`, el("time", { datetime: source[name] }, clock(source[name]))]);
  return facts(pairs.map(([name, value]) => [t(name), value]));
}

/** Rebuilds the city, and leads to the run. */
const rebuilder = (key) => starter(t("city.rebuild"), "rebuild_city", (button) => start("rebuild_city", button, key));

/** Lists of what belongs to it. */
function listsOf(noun, key) {
  const pages = { product: [], company: ["products"], city: ["companies", "products"] }[noun];
  return pages.length ? [el("p", { class: "ways" }, ...pages.map((page) => el("a", { class: "link", href: `#/${page}?${noun}_id=${key}` }, t(`its.${page}`))))] : [];
}

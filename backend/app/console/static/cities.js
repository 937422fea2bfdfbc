// The cities: kept up to date by deltas, shown on the map, in a feed of changes, and as a table.
import { get } from "./api.js";
import { $, el, fill, sync } from "./dom.js";
import { showLevels, startLevels } from "./levels.js";
import { CityMap } from "./map.js";
import { rove } from "./rove.js";
import { ago, clock, number, t } from "./text.js";

const FEED = 9;
const UNPLACED = 40;
const STEP = 50; // rows of the table at once
const COLUMNS = ["name", "products", "services", "companies", "id"];

const cities = new Map();
const feed = [];
let map = null;
let early = null; // deltas that came while all cities were being read
let sort = { by: "products", down: true };
let shown = STEP;
let isRead = false; // whether all cities were read once
let unknownSince = null; // while the database does not answer

export function startCities() {
  map = new CityMap((city) => { location.hash = `#/cities/${city.id}`; });
  startLevels();
  for (const id of ["feed", "unplaced", "city-rows"]) rove($(id), "a.link");
  $("city-search").addEventListener("input", () => { shown = STEP; drawTable(); });
  $("city-more").addEventListener("click", () => { shown += STEP; drawTable(); });
  $("city-details").addEventListener("toggle", drawTable);
}

/** Read all cities; deltas that come meanwhile are applied afterwards. */
export async function loadCities() {
  early = [];
  try {
    const { rows } = await get("console/cities");
    cities.clear();
    for (const row of rows) cities.set(row[0], cityOf(row));
    for (const delta of early) apply(delta);
    isRead = true;
  } finally {
    early = null;
  }
  drawCities();
}

/** Take a delta of the stream. */
export function changeCities(delta) {
  if (early) early.push(delta);
  else {
    apply(delta);
    drawCities();
  }
}

export const recolour = () => map.recolour();

function cityOf([id, name, latitude, longitude, products, services, companies]) {
  return { id, name, latitude, longitude, products, services, companies };
}

function apply({ rows, removed }) {
  for (const row of rows) {
    const fresh = cityOf(row);
    const before = cities.get(fresh.id);
    cities.set(fresh.id, fresh);
    note(fresh, before);
  }
  for (const id of removed) {
    const gone = cities.get(id);
    if (gone && cities.delete(id)) feed.unshift({ city: gone, gone: true, at: Date.now() });
  }
  feed.length = Math.min(feed.length, FEED);
}

function note(fresh, before) {
  const moves = ["products", "services", "companies"].map((name) => [name, fresh[name] - (before?.[name] ?? 0)]).filter(([, by]) => by);
  if (before && !moves.length) return;
  const known = feed.findIndex((entry) => entry.city.id === fresh.id);
  if (known >= 0) feed.splice(known, 1);
  feed.unshift({ city: fresh, fresh: !before, moves, at: Date.now() });
  map.pulse(fresh.id, moves.reduce((sum, [, by]) => sum + by, 0) >= 0);
}

export function drawCities() {
  const all = [...cities.values()];
  drawPlaces(all);
  map.show(all);
  map.translate();
  drawTotals(all);
  drawUnplaced(all);
  drawFeed();
  drawTable();
}

/** The map, or the levels where no city says where it is. */
function drawPlaces(all) {
  const isPlaced = !all.length || all.some(({ latitude, longitude }) => latitude !== null && longitude !== null);
  for (const id of ["map-figure", "beside-map"]) $(id).hidden = !isPlaced;
  $("levels").hidden = isPlaced;
  if (!isPlaced) showLevels();
}

const sum = (all, name) => all.reduce((total, city) => total + city[name], 0);
const isKnown = () => isRead && !unknownSince;

/** Goods and cities; null while nobody knows. */
export function totals() {
  const all = [...cities.values()];
  return isKnown() ? { goods: sum(all, "products") + sum(all, "services"), cities: all.length } : null;
}

/** Whether the numbers of cities are those of now; null: they are. */
export function knowCities(since) {
  if (since === unknownSince) return;
  unknownSince = since;
  drawTotals([...cities.values()]);
}

function drawTotals(all) {
  $("map").dataset.known = String(isKnown());
  if (!isKnown()) return fill($("totals"), [unknownSince ? t("unknown.since", { time: clock(unknownSince) }) : t("unknown")]);
  const values = Object.fromEntries(["products", "services", "companies"].map((name) => [name, number(sum(all, name))]));
  fill($("totals"), [t("totals", { cities: number(all.length), ...values })]);
}

function drawUnplaced(all) {
  const unplaced = all.filter((city) => city.latitude === null || city.longitude === null);
  unplaced.sort((one, other) => other.products + other.services - one.products - one.services);
  const rows = unplaced.slice(0, UNPLACED).map((city) => el("li", {}, pick(city), el("span", { class: "value" }, number(city.products + city.services))));
  if (unplaced.length > UNPLACED) rows.push(el("li", { class: "muted" }, t("unplaced.more", { n: number(unplaced.length - UNPLACED) })));
  fill($("unplaced"), rows.length ? rows : [el("li", { class: "muted" }, isRead ? t("none") : t("unknown"))]);
}

const pick = (city) => el("a", { class: "link", href: `#/cities/${city.id}` }, city.name);

/** What changed lately, with how long ago. */
export function drawFeed() {
  if (!feed.length) {
    fill($("feed"), [el("li", { class: "muted" }, t(isKnown() ? "changed.none" : "unknown"))]);
    return;
  }
  if ($("feed").dataset.mark) {
    $("feed").replaceChildren();
    delete $("feed").dataset.mark;
  }
  const create = ({ city }) => el("li", {}, pick(city), el("span", { class: "moves" }), el("span", { class: "when" }));
  sync($("feed"), feed, ({ city }) => city.id, create, (item, entry) => {
    const [, moves, when] = item.children;
    fill(moves, movesOf(entry));
    fill(when, [ago((Date.now() - entry.at) / 1000)]);
  });
}

function movesOf({ gone, fresh, moves }) {
  if (gone) return [t("changed.gone")];
  const parts = moves.map(([name, by]) => el("span", { class: by > 0 ? "up" : "down" },
    `${t(`column.${name}`).toLowerCase()} ${by > 0 ? "+" : "−"}${number(Math.abs(by))}`));
  return fresh && !parts.length ? [t("changed.new")] : parts;
}

function drawTable() {
  if (!$("city-details").open) return;
  drawHead();
  const wanted = $("city-search").value.trim().toLowerCase();
  const found = [...cities.values()].filter((city) => !wanted || city.name.toLowerCase().includes(wanted) || String(city.id) === wanted);
  found.sort((one, other) => compare(one, other) || byId(one, other));
  fill($("city-shown"), [t("cities.shown", { shown: number(Math.min(shown, found.length)), all: number(found.length) })]);
  $("city-more").hidden = found.length <= shown;
  const create = (city) => el("tr", {}, el("th", { scope: "row" }, pick(city)), ...COLUMNS.slice(1).map(() => el("td", {})));
  sync($("city-rows"), found.slice(0, shown), (city) => city.id, create, (row, city) => {
    COLUMNS.slice(1).forEach((name, index) => fill(row.children[index + 1], [name === "id" ? String(city.id) : number(city[name])]));
  });
}

function drawHead() {
  fill($("city-head"), COLUMNS.map((name) => {
    const order = sort.by === name ? (sort.down ? "descending" : "ascending") : null;
    const button = el("button", { type: "button", class: "sort", onclick: () => sortBy(name) }, t(`column.${name}`));
    return el("th", { scope: "col", "aria-sort": order, "data-column": name }, button);
  }), `${sort.by} ${sort.down} ${t("column.name")}`);
}

function sortBy(name) {
  sort = { by: name, down: sort.by === name ? !sort.down : name !== "name" && name !== "id" };
  drawTable();
  $("city-head").querySelector(`[data-column=${name}] button`).focus();
}

/** Ids are texts, since a number cannot hold them all. */
const byId = (one, other) => (BigInt(one.id) < BigInt(other.id) ? -1 : Number(one.id !== other.id));

function compare(one, other) {
  const order = sort.by === "name" ? one.name.localeCompare(other.name) : sort.by === "id" ? byId(one, other) : one[sort.by] - other[sort.by];
  return sort.down ? -order : order;
}

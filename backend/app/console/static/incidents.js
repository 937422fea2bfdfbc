// What was wrong, from when to when: the newest on the overview, all of them at #/incidents.
import { get } from "./api.js";
import { $, el, fill, icon, table as framed } from "./dom.js";
import { clock, seconds, since, t } from "./text.js";
import { effectOf } from "./verdict.js";

const HOME = 5;
const PAGE = 50;

/** The newest on the overview; unknown while nobody has answered. */
export function drawIncidents({ incidents, unknown_since: unknownSince }) {
  if (!incidents) return fill($("incidents-body"), [el("p", { class: "muted" }, t("unknown"))]);
  if (!incidents.length && !unknownSince) return fill($("incidents-body"), [el("p", { class: "muted" }, t("incidents.none"))]);
  const shown = incidents.slice(0, HOME);
  fill($("incidents-body"), [table(shown)], markOf(shown));
}

/** All of them, page by page. */
export async function showIncidents(place) {
  const items = [];
  const more = el("button", { type: "button", hidden: true, onclick: () => load(items.at(-1).id) }, t("more"));
  const list = el("div", {});
  const load = async (before) => {
    const found = await get(`incidents?limit=${PAGE}${before === undefined ? "" : `&before=${before}`}`);
    items.push(...found.items);
    list.replaceChildren(items.length ? table(items) : el("p", { class: "muted" }, t("incidents.none")));
    more.hidden = found.next === null;
  };
  await load();
  place.replaceChildren(list, more);
}

const markOf = (items) => JSON.stringify([items.map((one) => [one.id, one.ended_at, one.values, one.ended_at ? 0 : Math.floor(since(one.began_at) / 10)]), t("incidents.title")]);

/** A table of incidents. */
export function table(items) {
  const head = ["what", "began", "ended", "lasted"].map((name) => el("th", { scope: "col" }, t(`incidents.${name}`)));
  return framed(head, items.map(rowOf), t("incidents.title"), "incidents");
}

function rowOf(one) {
  const lasted = one.ended_at ? (Date.parse(one.ended_at) - Date.parse(one.began_at)) / 1000 : since(one.began_at);
  const shape = one.severity === "critical" ? "standing" : "slow";
  return el("tr", { "data-kind": one.kind, "data-open": String(!one.ended_at) },
    el("th", { scope: "row" }, el("span", { class: "with-icon" }, one.ended_at ? el("span", { class: "icon" }) : icon(shape), el("span", {}, effectOf(one, lasted), " ", el("a", { class: "meaning", href: `#/help/${one.kind}` }, t("need.help"))))),
    el("td", {}, el("time", { datetime: one.began_at }, clock(one.began_at))),
    el("td", {}, one.ended_at ? el("time", { datetime: one.ended_at }, clock(one.ended_at)) : el("strong", {}, t("incidents.open"))),
    el("td", {}, seconds(lasted, false)));
}

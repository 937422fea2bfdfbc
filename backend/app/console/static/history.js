// #/history?from=…&to=…: freshness, rates and what went on, for a time that can be passed on.
import { el, table } from "./dom.js";
import { historyAt, Timeline } from "./timeline.js";
import { clock, number, seconds, t } from "./text.js";

const HOURS = [1, 6, 24, 168];
const MOST = 100; // spans in the table

export async function showHistory(place, query) {
  const [from, to] = rangeOf(query);
  const plots = el("div", { class: "timeline" });
  const list = el("div", {});
  place.replaceChildren(ways(from, to), el("p", { class: "muted" }, `${whole(from)} – ${whole(to)}`), plots, list);
  const spans = await new Timeline(plots).load(from, to);
  list.replaceChildren(el("h3", {}, t("history.what")), spans.length ? listOf(spans) : el("p", { class: "muted" }, t("history.none")));
}

/** What the address says, else the last hour; in ms. */
function rangeOf(query) {
  const to = Date.parse(query.get("to")) || Date.now();
  return [Date.parse(query.get("from")) || to - 3600000, to];
}

const whole = (at) => clock(new Date(at).toISOString());

/** Earlier, later, wider, and ranges until now. */
function ways(from, to) {
  const length = to - from;
  const way = (key, begin, end) => el("a", { href: historyAt(begin, end) }, t(key));
  return el("nav", { class: "ways", "aria-label": t("range") }, way("history.earlier", from - length / 2, to - length / 2), way("history.later", from + length / 2, to + length / 2),
    way("history.wider", from - length / 2, to + length / 2),
    ...HOURS.map((hours) => way(`history.last.${hours}`, Date.now() - hours * 3600000, Date.now())));
}

function listOf(spans) {
  const shown = spans.slice(-MOST).reverse();
  const head = ["what", "began", "lasted"].map((name) => el("th", { scope: "col" }, t(`incidents.${name}`)));
  const rows = shown.map((one) => el("tr", {}, el("th", { scope: "row" }, el("a", { class: "link", href: one.address }, one.words())),
    el("td", {}, el("time", { datetime: new Date(one.began).toISOString() }, whole(one.began))),
    el("td", {}, one.ended ? seconds((one.ended - one.began) / 1000) : el("strong", {}, t("incidents.open")))));
  return el("div", {}, spans.length > shown.length ? el("p", { class: "muted" }, t("history.newest", { n: number(shown.length), all: number(spans.length) })) : null, table(head, rows, t("history.what")));
}

// Why the cache holds what it holds: one product, company or city, by its id or external id.
import { get } from "./api.js";
import { $, el, icon, table } from "./dom.js";
import { link, ofSubject, PAGES } from "./links.js";
import { row } from "./replay.js";
import { clock, plural, t } from "./text.js";
import { taskName } from "./runs.js";

const TRACE = /^[0-9a-f]{2}-([0-9a-f]{32})-/;
let asked = 0;
let last = null; // what is shown, to be told again in another language

export function startExplain() {
  $("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    find(document.querySelector("input[name=noun]:checked").value, $("explain-id").value.trim());
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea, dialog");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      $("explain-id").focus();
    }
  });
}

async function find(noun, text) {
  if (!text) return;
  const mine = ++asked;
  try {
    const id = await idOf(noun, text);
    const found = id === null ? null : await explanation(noun, id);
    if (mine === asked) show(noun, text, found);
  } catch (problem) {
    if (mine !== asked) return;
    if (problem.status === 404) show(noun, text, null);
    else complain(problem.message);
  }
}

/** External ids first: they may be numbers too. */
async function idOf(noun, text) {
  const query = new URLSearchParams({ external_id: text, limit: "1" });
  const { items } = await get(`${PAGES[noun]}?${query}`);
  if (items.length) return items[0].id;
  return /^-?\d{1,19}$/.test(text) ? text : null;
}

function complain(words) {
  last = null;
  $("explain-result").replaceChildren(el("p", { class: "problem" }, words));
}

function show(noun, text, found) {
  last = [noun, text, found];
  if (!found) return $("explain-result").replaceChildren(el("p", { class: "problem" }, t("explain.unknown", { noun: t(`noun.${noun}`), id: text })));
  $("explain-result").replaceChildren(...explained(found));
}

export const explanation = (noun, id) => get(`caches/explain/${noun}/${encodeURIComponent(id)}`);

/** What the cache holds, what it should hold, and what made it so. */
export function explained(found) {
  const verdict = el("p", { class: found.agrees ? "verdict ok" : "verdict bad" }, icon(found.agrees ? "ok" : "standing"),
    el("strong", {}, ofSubject(found.subject)), " ", t(found.agrees ? "explain.agrees" : "explain.differs"),
    found.pending_events ? el("span", { class: "muted" }, ` ${plural("explain.pending", found.pending_events)}`) : null);
  const column = (title, content) => el("div", { class: "side" }, el("h3", {}, t(title)), content);
  const sides = el("div", { class: "sides" },
    column("explain.source", found.source ? row(found.source, found.source, "") : el("p", { class: "muted" }, t("explain.no.source"))),
    column("explain.wanted", row(found.wanted, found.cached, "new")),
    column("explain.cached", row(found.cached, found.wanted, "old")));
  const since = found.patches_since ? t("explain.since", { time: clock(found.patches_since) }) : t("explain.since.none");
  const which = found.subject.startsWith("city/") ? `${t("explain.city.patch")} ${since}` : since;
  return [verdict, sides, el("h3", {}, t("explain.patches")),
    found.patches.length ? patches(found) : el("p", { class: "muted" }, t("explain.no.patch")), el("p", { class: "muted" }, which)];
}

function patches(found) {
  const head = ["task", "time", "event", "run", "trace"].map((name) => el("th", { scope: "col" }, t(`explain.${name}`)));
  const rows = found.patches.map((patch) => el("tr", {},
    el("th", { scope: "row" }, taskName(patch.task)),
    el("td", {}, el("time", { datetime: patch.time }, clock(patch.time))),
    el("td", {}, ...(patch.subject && patch.subject !== found.subject ? [ofSubject(patch.subject), " "] : []), patch.event_id ? link("events", patch.event_id, code(patch.event_id)) : "–"),
    el("td", {}, patch.task_id ? link("runs", patch.task_id, code(patch.task_id)) : "–"),
    el("td", {}, code(patch.traceparent?.match(TRACE)?.[1]))));
  return table(head, rows, t("explain.patches"));
}

const code = (id) => (id ? el("code", {}, id) : "–");

export function translateExplain() {
  if (last) show(...last);
}

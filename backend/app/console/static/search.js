// Search over whatever has a name or an id, and over actions: Ctrl-K, by the keyboard alone.
import { askKey, get } from "./api.js";
import { $, el, facts, fill, open } from "./dom.js";
import { link, ofSubject, PAGES } from "./links.js";
import { taskName } from "./runs.js";
import { clock, t } from "./text.js";

const PAUSE_MS = 120;
let actions = []; // {words(), run()}
let items = []; // {group, name, hint, go()}
let at = 0; // the chosen one
let asked = 0;
let timer = 0;
let isAsking = false;
let isAwaited = false; // Enter came before the answer

export function startSearch(found) {
  actions = found;
  $("search-open").addEventListener("click", openSearch);
  addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    event.preventDefault();
    if (!document.querySelector("dialog[open]")) openSearch();
  });
  $("search-input").addEventListener("input", () => look());
  $("search-input").addEventListener("keydown", onKey);
  $("search-form").addEventListener("submit", (event) => event.preventDefault());
}

function openSearch() {
  $("search-input").value = "";
  open($("search-dialog"));
  look();
}

function look() {
  clearTimeout(timer);
  const mine = ++asked;
  const text = $("search-input").value.trim();
  [isAsking, isAwaited] = [Boolean(text), false];
  if (!text) return show(actionsOf(""), "");
  timer = setTimeout(() => ask(text, mine), PAUSE_MS);
}

async function ask(text, mine) {
  let found = { items: [], incomplete: [] };
  let note = "";
  let more = [];
  try {
    found = await get(`console/search?${new URLSearchParams({ q: text })}`);
    note = found.incomplete.length ? t("search.incomplete", { kinds: found.incomplete.map((kind) => t(`search.kind.${kind}`)).join(", ") }) : "";
  } catch (problem) {
    note = problem.status === 401 ? t("search.key") : problem.message;
    if (problem.status === 401) more = [{ group: "action", name: t("key.none"), hint: "", go: async () => { if (await askKey()) openSearch(); } }];
  }
  if (mine !== asked) return;
  isAsking = false;
  show([...more, ...found.items.map(itemOf), ...actionsOf(text)], note || (found.items.length ? "" : t("search.none")));
  if (isAwaited && items.length) choose(items[at]);
}

function itemOf({ kind, id, name, external_id: external, state, at: when }) {
  const address = { run: `#/runs/${id}`, event: `#/events/${id}` }[kind] ?? `#/${PAGES[kind]}/${encodeURIComponent(id)}`;
  const title = kind === "run" ? taskName(name) : name?.trim() ? name : t(`${kind}.title`, { id });
  const hint = [id, external, state && t(`run.${state}`), when && clock(when)].filter(Boolean).join(" · ");
  return { group: kind, name: title, hint, go: () => { location.hash = address; } };
}

/** Actions whose words have all of these. */
function actionsOf(text) {
  const wanted = text.toLowerCase().split(/\s+/);
  return actions.map((one) => ({ group: "action", name: one.words(), hint: "", go: one.run }))
    .filter(({ name }) => wanted.every((word) => name.toLowerCase().includes(word)));
}

function show(found, note) {
  [items, at] = [found, 0];
  const list = $("search-list");
  list.hidden = !found.length;
  list.replaceChildren(...found.map((item, index) => el("li", { role: "option", id: `hit-${index}`, onclick: () => choose(item) },
    el("span", { class: "hit-kind" }, t(`search.kind.${item.group}`)), el("span", { class: "hit-name" }, item.name), el("span", { class: "hit-hint" }, item.hint))));
  fill($("search-note"), [note]);
  $("search-input").setAttribute("aria-expanded", String(Boolean(found.length)));
  mark();
}

function mark() {
  const options = [...$("search-list").children];
  options.forEach((option, index) => option.setAttribute("aria-selected", String(index === at)));
  options[at]?.scrollIntoView({ block: "nearest" });
  if (options[at]) $("search-input").setAttribute("aria-activedescendant", options[at].id);
  else $("search-input").removeAttribute("aria-activedescendant");
}

function onKey(event) {
  const last = items.length - 1;
  const to = { ArrowDown: at === last ? 0 : at + 1, ArrowUp: at === 0 ? last : at - 1, PageDown: last, PageUp: 0 }[event.key];
  if (event.key === "Enter") {
    event.preventDefault();
    if (isAsking) isAwaited = true;
    else if (items[at]) choose(items[at]);
  } else if (to !== undefined && last >= 0) {
    event.preventDefault();
    at = to;
    mark();
  }
}

function choose(item) {
  $("search-dialog").close();
  item.go();
}

/** One event, as far as anybody remembers: #/events/ID. */
export async function showEvent(place, id) {
  const found = await get(`console/search?${new URLSearchParams({ q: id })}`);
  const events = found.items.filter(({ kind }) => kind === "event");
  const shown = events.map((one) => facts([
    [t("event.of"), one.name ? ofSubject(one.name) : "–"], [t("event.run"), one.task_id ? link("runs", one.task_id) : t("event.run.none")],
    [t("event.at"), el("time", { datetime: one.at }, clock(one.at))],
  ]));
  const none = t(found.incomplete.includes("event") ? "event.unknown" : "event.none");
  place.replaceChildren(...(shown.length ? shown : [el("p", { class: "muted" }, none)]));
}

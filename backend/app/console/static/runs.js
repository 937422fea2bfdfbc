// Task runs, and the buttons that start them.
import { get, guarded } from "./api.js";
import { askClear } from "./clear.js";
import { $, el, facts, fill, icon, sync, table, toast } from "./dom.js";
import { link, ofColumn } from "./links.js";
import { askReplay, wouldChange } from "./replay.js";
import { rove } from "./rove.js";
import { ago, clock, has, language, number, plural, seconds, since, t } from "./text.js";

export const REFRESHES = ["update_product_city_cache", "update_company_city_cache", "update_cities_product_count", "refresh_all_caches"];
const ICONS = { SUCCESS: "ok", FAILURE: "standing", EXPIRED: "standing", REVOKED: "standing", RETRY: "slow", SKIPPED: "unknown", PENDING: "unknown" };
const PHASES = ["products", "companies", "counts"]; // in the order in which they are done
const AGAIN = [...REFRESHES, "rebuild_city", "replay_events"];
const ACTIVE = ["PENDING", "STARTED", "RETRY"];
const SAID = { // sentences of the ledger → codes
  "not queued: the broker is away": "not_queued",
  "its process is gone, and so is the message that would have begun it again": "gone",
  "the process that applied it died": "died",
};
const PAGE = 50;
const HOME = 8; // runs at first
const BY_EVENTS = ["apply_catalog_events", "apply_wide_patches"]; // what these patch was never wrong, only late

let live = null; // {active, recent}; null: unknown
let filtered = null; // of the filter that is chosen; null: none
let asked = 0;
let most = HOME;

export function startRuns() {
  $("runs-filter").addEventListener("change", filter);
  $("runs-again").addEventListener("click", filter);
  $("runs-more").addEventListener("click", () => { most = Infinity; drawRuns(); });
  rove($("run-list"), "summary, a");
  drawActions();
}

export const taskName = (task) => (has(`task.${task}`) ? t(`task.${task}`) : task);

/** Take the stream's runs. */
export function takeRuns({ runs }) {
  if (runs?.recent) live = runs;
  drawRuns();
}

export function drawActions() {
  const refresh = REFRESHES.map((task) => el("button", { type: "button", "data-task": task, onclick: (event) => start(task, event.currentTarget) },
    t(`action.${task}`)));
  const replay = el("button", { type: "button", id: "replay-open", onclick: askReplay }, t("action.replay"));
  const clear = el("button", { type: "button", id: "clear-open", class: "danger", onclick: askClear }, t("action.clear"));
  $("actions").replaceChildren(
    el("div", { class: "group", role: "group", "aria-labelledby": "refresh-label" }, el("span", { id: "refresh-label", class: "label" }, t("runs.refresh")), ...refresh),
    el("div", { class: "group" }, replay, clear));
}

/** Start a run, of all or of one id, with what it is given; it, or nothing when it was refused. */
export async function start(task, button, of = "", body = undefined) {
  button.disabled = true;
  try {
    const started = await guarded("POST", `celery/tasks/${task.replaceAll("_", "-")}${of !== "" ? `/${encodeURIComponent(of)}` : ""}`, body);
    toast(t("run.queued", { task: taskName(task) }));
    return started;
  } catch (problem) {
    toast(problem.message, true);
  } finally {
    button.disabled = false;
    if (document.activeElement === document.body) button.focus(); // unless somebody has gone on meanwhile
  }
}

/** A list that was asked for stays until somebody asks again: batches come faster than anybody reads. */
async function filter() {
  const query = $("runs-filter").value;
  const mine = ++asked;
  let found = null;
  if (query) {
    try {
      found = (await get(`celery/tasks?${query}&limit=20`)).items;
    } catch (problem) {
      return toast(problem.message, true);
    }
  }
  if (mine !== asked) return;
  filtered = found;
  $("runs-again").hidden = !query;
  fill($("runs-at"), [query ? t("runs.at", { time: clock(new Date().toISOString()) }) : ""]);
  drawRuns();
}

/** The newest runs, with how long ago. */
export function drawRuns() {
  const runs = filtered ?? latest();
  $("runs-more").hidden = !runs || runs.length <= most;
  if (!runs?.length) return fill($("run-list"), [el("p", { class: "muted" }, t(runs ? "runs.none" : "unknown"))]);
  if ($("run-list").dataset.mark) {
    $("run-list").replaceChildren();
    delete $("run-list").dataset.mark;
  }
  sync($("run-list"), withOpened(runs.slice(0, most)), (run) => run.task_id, create, update);
}

function latest() {
  if (!live) return null;
  const recent = live.recent.map((run) => run.task_id);
  return [...live.active.filter((run) => !recent.includes(run.task_id)), ...live.recent];
}

/** What somebody has opened stays, though newer ones have come. */
function withOpened(runs) {
  const known = new Set(runs.map((run) => run.task_id));
  const opened = [...$("run-list").querySelectorAll("details[open]")].map((one) => one.closest(".run").run);
  return [...runs, ...opened.filter((run) => run && !known.has(run.task_id))];
}

function create() {
  return el("article", { class: "run" },
    el("p", { class: "run-state" }), el("h3", { class: "run-task" }), el("p", { class: "run-trigger" }),
    el("div", { class: "run-result" }), el("p", { class: "run-took" }), el("p", { class: "run-when" }));
}

function update(item, run) {
  const [state, task, trigger, result, took, when] = item.children;
  const known = item.run === run && item.language === language();
  Object.assign(item, { run, language: language() });
  if (!known) describe(run, state, task, trigger, result);
  const end = run.finished_at ? Date.parse(run.finished_at) : Date.now();
  const duration = run.started_at ? (end - Date.parse(run.started_at)) / 1000 : null;
  const active = ACTIVE.includes(run.state);
  fill(took, [duration === null ? "" : t(active ? "run.runs" : "run.took", { time: seconds(duration, !active) })]);
  const words = ago(since(run.queued_at));
  if (when.dataset.words === words) return;
  when.dataset.words = words;
  if (!when.firstChild) when.append(el("a", { href: `#/runs/${run.task_id}`, title: clock(run.queued_at) }, el("time", { datetime: run.queued_at })));
  when.querySelector("time").textContent = words;
}

function itemOf(run) {
  const item = create();
  update(item, run);
  return item;
}

/** All of it but its times. */
function describe(run, state, task, trigger, result) {
  state.parentElement.dataset.state = run.state;
  fill(state, [run.state === "STARTED" ? el("span", { class: "spinner", "aria-hidden": "true" }) : icon(ICONS[run.state]),
    el("span", {}, t(`run.${run.state}`))], run.state + t("title"));
  fill(task, [taskName(run.task)]);
  fill(trigger, [t(`trigger.${run.trigger}`)]);
  fill(result, outcome(run), JSON.stringify([run.state, run.progress, run.result, run.error, t("title")]));
}

/** The code of an error: of a sentence that is always the same, or the name that it begins with. */
const codeOf = (error) => SAID[error] ?? /^(\w+): /.exec(error ?? "")?.[1];

/** An error in the page's language, as far as its code has words; what is said behind a name stays as it is. */
function wordsOf(error) {
  const code = codeOf(error);
  if (!code || !has(`error.${code}`)) return error;
  return SAID[error] ? t(`error.${code}`) : t(`error.${code}`, { detail: error.slice(code.length + 2) });
}

function outcome(run) {
  if (run.state === "STARTED") return [progressBar(run)];
  if (run.error) return [el("p", { class: "problem" }, wordsOf(run.error))];
  if (run.state === "SKIPPED") return [t("run.skipped")];
  if (!run.result) return [""];
  const json = JSON.stringify(run.result, null, 2);
  return [el("details", {}, el("summary", {}, summary(run.result, run.task) || t("details")), el("pre", { tabindex: "0" }, `${run.task_id}\n${json}`))];
}

function progressBar(run) {
  const share = shareDone(run.progress, run);
  const bar = el("progress", { max: "1", "aria-label": t("run.progress", { task: taskName(run.task) }) });
  if (share !== null) bar.value = share;
  return el("div", { class: "progressing" }, bar, el("span", {}, summary(run.progress ?? {}, run.task) || (share === null ? "" : `${number(share * 100)} %`)));
}

/** Between 0 and 1, or null where the run cannot know. */
function shareDone(progress, run) {
  if (!progress) return null;
  if (progress.part) return (progress.done?.length ?? 0) / 3;
  if (progress.differing) return (progress.looked_at ?? 0) / progress.differing;
  if (progress.eta_seconds !== undefined && run.started_at) {
    const past = since(run.started_at);
    return past / (past + progress.eta_seconds + 0.001);
  }
  return null;
}

/** A result in a few words. */
export function summary(result, task) {
  const say = (name, value) => t(`result.${name}`, { n: number(value) });
  const parts = [];
  for (const name of ["checked", "events", "keys", "lines"]) if (Number.isInteger(result[name])) parts.push(say(name, result[name]));
  if (result.would_change) parts.push(say("would", wouldChange(result)));
  else if (result.rows_changed !== undefined) parts.push(say("rows_changed", result.rows_changed));
  if (result.removed) parts.push(say("removed", sum(result.removed)));
  const wrong = ["missing", "extra", "different", "patched", "drift", "delayed", "buried"].filter((name) => result[name] > 0);
  parts.push(...wrong.map((name) => say(name === "patched" && BY_EVENTS.includes(task) ? "rows_changed" : name, result[name])));
  if (result.checked !== undefined && !wrong.length) parts.push(t("result.right"));
  return parts.join(" · ");
}

/** The page of one run: #/runs/ID. */
export async function showRun(place, id) {
  const key = encodeURIComponent(id);
  const [run, { arguments: given, started_by: by }] = await Promise.all([get(`celery/tasks/${key}`), get(`console/runs/${key}`)]);
  const told = run.result ?? run.progress;
  place.replaceChildren(el("div", { class: "run-list" }, itemOf(run)), facts(factsOf(run, given ?? {}, by)),
    ...[sentenceOf(run), phases(told), advice(run), again(run, given ?? {}), told ? el("details", {}, el("summary", {}, t("details")), el("pre", { tabindex: "0" }, JSON.stringify(told, null, 2))) : null].filter(Boolean));
  if (ACTIVE.includes(run.state)) setTimeout(() => { if (place.isConnected) showRun(place, id).catch(() => {}); }, 1000);
}

/** Who started it, with what, and when. */
function factsOf(run, given, by) {
  const words = Object.entries(given).filter(([, value]) => value !== null)
    .map(([name, value]) => [has(`argument.${name}`) ? t(`argument.${name}`) : name, argument(name, value)]);
  const times = [["run.queued_at", run.queued_at], ["run.started_at", run.started_at], ["run.finished_at", run.finished_at]]
    .map(([name, at]) => [t(name), at ? el("time", { datetime: at }, clock(at)) : "–"]);
  return [[t("run.by"), [t(`trigger.${run.trigger}`), by].filter(Boolean).join(" · ")], ...words, ...times];
}

function argument(name, value) {
  if (name === "since" || name === "until") return el("time", { datetime: value }, clock(value));
  return typeof value === "boolean" ? t(value ? "yes" : "no") : typeof value === "object" ? JSON.stringify(value) : ofColumn(name, value);
}

/** What a comparison found, what of it was only late, and what was repaired. */
function sentenceOf({ result }) {
  if (result?.checked === undefined) return null;
  const found = result.missing + result.extra + result.different;
  const told = [plural("run.compared", result.checked), found ? plural("run.found", found) : t("run.found.none")];
  if (result.delayed) told.push(plural("run.delayed", result.delayed));
  if (result.patched) told.push(plural("run.repaired", result.patched));
  return el("p", { class: "told" }, told.join(" "));
}

/** Parts of a run: each with what it found, or whether it is done. */
function phases(told) {
  const parts = told?.parts ? PHASES.filter((name) => told.parts[name]).map((name) => [name, told.parts[name]]) : told?.part ? [...told.done, told.part].map((name) => [name, null]) : [];
  if (!parts.length) return null;
  const rows = parts.map(([name, part]) => el("tr", {}, el("th", { scope: "row" }, t(`cache.${name}`)),
    el("td", {}, part?.skipped ? t("run.skipped") : part ? summary(part) : t(name === told.part ? "run.STARTED" : "run.SUCCESS"))));
  return table([t("run.phase"), t("run.phase.found")].map((words) => el("th", { scope: "col" }, words)), rows, t("run.phase"), "phases");
}

/** What to do about an error, by its name. */
function advice({ state, error }) {
  if (!error && !["EXPIRED", "REVOKED", "SKIPPED"].includes(state)) return null;
  return el("p", { class: "told" }, t([`advice.of.${codeOf(error)}`, `advice.of.${state}`].find(has) ?? "advice.of.FAILURE"));
}

/** The same once more, where that can be done from here. */
function again(run, given) {
  if (!AGAIN.includes(run.task) || ACTIVE.includes(run.state)) return null;
  return starter(t("run.again"), run.task, (button) => start(run.task, button, given.city_id ?? "", run.task === "replay_events" ? given : undefined));
}

/** A button that starts a run and then leads to it. */
export function starter(words, task, begin) {
  const told = el("span", { role: "status" });
  const button = el("button", { type: "button", "data-task": task, onclick: async () => {
    const run = await begin(button);
    if (run) told.replaceChildren(link("runs", run.task_id, t("run.title", { id: run.task_id })));
  } }, words);
  return el("p", { class: "ways" }, button, told);
}

const FILTERS = { task: [...REFRESHES, "rebuild_city", "import_feed", "clear_all_caches", "replay_events", "apply_wide_patches", "apply_catalog_events"], state: [...ACTIVE, ...Object.keys(ICONS).filter((name) => !ACTIVE.includes(name))] };

/** All runs: #/runs?task=…&state=…, page by page. */
export async function showRuns(place, query) {
  const asked = [...query].filter(([name, value]) => FILTERS[name] && value);
  const list = el("div", { class: "run-list" });
  const more = el("button", { type: "button", hidden: true }, t("more"));
  const none = el("p", { class: "muted" }, t("runs.none"));
  const load = async (before) => {
    const found = await get(`celery/tasks?${new URLSearchParams([...asked, ["limit", PAGE], ...(before ? [["before", before]] : [])])}`);
    list.append(...found.items.map(itemOf));
    none.hidden = Boolean(list.childElementCount);
    more.hidden = found.next === null;
    more.onclick = () => load(found.items.at(-1).task_id);
  };
  await load();
  rove(list, "summary, a");
  place.replaceChildren(el("div", { class: "tools" }, ...Object.keys(FILTERS).map((name) => chooser(name, query))), list, none, more);
}

/** One filter, which goes into the address. */
function chooser(name, query) {
  const choose = ({ target }) => {
    const wanted = new URLSearchParams(query);
    if (target.value) wanted.set(name, target.value);
    else wanted.delete(name);
    location.hash = `#/runs${wanted.size ? `?${wanted}` : ""}`;
  };
  const words = { task: taskName, state: (state) => t(`run.${state}`) }[name];
  const options = ["", ...FILTERS[name]].map((value) => el("option", { value, selected: value === (query.get(name) ?? "") }, value ? words(value) : t("filter.any")));
  return el("label", { class: "field inline" }, el("span", {}, t(`filter.${name}`)), el("select", { onchange: choose, "data-filter": name }, ...options));
}

const sum = (numbers) => Object.values(numbers).reduce((total, one) => total + one, 0);

// Schedule, dead letters, and what the auditor found.
import { get, guarded, key, onKey } from "./api.js";
import { $, el, fill, icon, open, table as framed, toast } from "./dom.js";
import { link, ofSubject, ofTable } from "./links.js";
import { row } from "./replay.js";
import { taskName } from "./runs.js";
import { ago, clock, number, plural, seconds, since, t } from "./text.js";

let letters = null; // null: unknown
let unknownSince = null;
let reasons = null; // null: not shown, they may need the key
let guardedSetup = false;

export function startRecords() {
  $("requeue-all").addEventListener("click", requeueAll);
  onKey(() => loadReasons());
}

/** Unknown is said, never drawn as none. */
const unknown = (body, at) => fill(body, [el("p", { class: "unknown-note" }, icon("unknown"), at ? t("unknown.since", { time: clock(at) }) : t("unknown"))], `unknown ${at} ${t("unknown")}`);

export function drawSchedule({ schedule, health }) {
  if (!schedule) return unknown($("schedule-body"), null);
  const missed = new Set(health.wrong.filter(({ kind }) => kind === "run_missed").map(({ subject }) => subject));
  const head = ["schedule.task", "schedule.when", "schedule.last", "schedule.next"].map((name) => el("th", { scope: "col" }, t(name)));
  const rows = schedule.map((entry) => el("tr", { "data-task": entry.task },
    el("th", { scope: "row" }, taskName(entry.task)),
    el("td", {}, el("code", {}, entry.crontab)),
    el("td", {}, entry.last ? el("time", { datetime: entry.last }, clock(entry.last, false)) : el("span", { class: "muted" }, t("schedule.never")),
      missed.has(entry.task) ? el("span", { class: "warn" }, icon("slow"), t("schedule.missed")) : null),
    el("td", {}, el("time", { datetime: entry.next }, clock(entry.next, false)),
      el("span", { class: "muted" }, ` ${t("in", { time: seconds(Math.max(0, (Date.parse(entry.next) - Date.now()) / 1000), false) })}`))));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
  fill($("schedule-body"), [el("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "h-schedule" }, table)], table.textContent);
}

export function takeLetters({ dead_letters: found, setup, unknown_since: at }) {
  unknownSince = at;
  if (!found || at) return drawLetters();
  const changed = JSON.stringify(found) !== JSON.stringify(letters);
  guardedSetup = setup.guarded || setup.closed;
  letters = found;
  if (changed) loadReasons();
  else drawLetters();
}

async function loadReasons() {
  let found = null;
  if (letters?.open && (!guardedSetup || key())) {
    try {
      found = await get("events/dead-letters/reasons");
    } catch (problem) {
      toast(problem.message, true);
    }
  }
  reasons = found;
  drawLetters();
}

async function showReasons() {
  try {
    reasons = await guarded("GET", "events/dead-letters/reasons");
  } catch (problem) {
    toast(problem.message, true);
  }
  drawLetters();
}

export function drawLetters() {
  if (!letters || unknownSince) {
    $("requeue-all").hidden = true;
    return unknown($("letters-body"), unknownSince);
  }
  const none = reasons ? !reasons.length : !letters.open;
  $("requeue-all").hidden = none;
  if (none) return fill($("letters-body"), [el("p", { class: "good" }, icon("ok"), t("letters.none"))], t("letters.none"));
  if (reasons) return drawReasons();
  const kinds = Object.entries(letters.kinds).map(([kind, found]) => el("li", {},
    el("strong", {}, t(`letters.kind.${kind}`)), ` ${plural("letters.count", found.letters)}, ${t("letters.last", { ago: ago(since(found.last)) })}`));
  fill($("letters-body"), [el("ul", { class: "plain" }, ...kinds), el("p", { class: "muted" }, t("letters.key.why")),
    el("button", { type: "button", onclick: showReasons }, t("letters.key"))]);
}

function drawReasons() {
  const items = reasons.map((found) => el("li", { class: "reason" },
    el("div", {}, el("strong", {}, t(`letters.kind.${found.kind}`)),
      el("span", { class: "muted" }, ` ${plural("letters.count", found.letters)}, ${t("letters.last", { ago: ago(since(found.last)) })}`)),
    el("p", { class: "quote" }, found.reason),
    el("div", { class: "buttons start" },
      el("button", { type: "button", onclick: () => look(found) }, t("letters.look")),
      requeueButton(found))));
  fill($("letters-body"), [el("ul", { class: "plain" }, ...items)], JSON.stringify([reasons, t("letters.look")]));
}

/** Sends again the letters of a reason, or one letter; `sent` is called then. */
export const requeueButton = ({ group, id }, sent = () => {}) => el("button", { type: "button", onclick: (event) => (group ? askRequeue({ group }) : requeueOne(id, event.currentTarget, sent)) }, t("letters.requeue"));

async function requeueOne(id, button, sent) {
  button.disabled = await requeue({ ids: [id] });
  if (button.disabled) sent();
}

async function look(found) {
  $("letters-reason").textContent = found.reason;
  $("letters-problem").hidden = true;
  $("letters-list").replaceChildren();
  open($("letters-dialog"));
  try {
    const query = new URLSearchParams({ group: found.group, limit: "20" });
    const { items } = await guarded("GET", `events/dead-letters?${query}`);
    $("letters-list").replaceChildren(...items.map(letter));
  } catch (problem) {
    $("letters-problem").textContent = problem.message;
    $("letters-problem").hidden = false;
  }
}

/** One letter of a list, which it leaves when it was sent again. */
export function letter(one) {
  const again = requeueButton(one, () => article.remove());
  const facts = [link("letters", one.id, `#${one.id}`), one.subject && ofSubject(one.subject), one.event_type, clock(one.buried_at), t("letters.attempts", { n: number(one.attempts) })];
  const article = el("article", { class: "letter" },
    el("div", { class: "card-head" }, el("p", {}, ...facts.filter(Boolean).flatMap((fact, index) => (index ? [" · ", fact] : [fact]))), again),
    one.payload ? el("pre", { tabindex: "0" }, one.payload) : null);
  return article;
}

export const requeueAll = () => askRequeue({ all: true });

/** Say first what would be sent again, and what would come of it. */
async function askRequeue(which) {
  let found;
  try {
    found = (await guarded("GET", "events/dead-letters/reasons")).filter(({ group }) => which.all || group === which.group);
  } catch (problem) {
    return toast(problem.message, true);
  }
  const sum = found.reduce((total, { letters: some }) => total + some, 0);
  $("h-requeue").textContent = plural("requeue.title", sum);
  $("requeue-go").disabled = !sum;
  $("requeue-preview").replaceChildren(el("ul", { class: "plain" }, ...found.map((one) => el("li", {},
    el("strong", {}, `${t(`letters.kind.${one.kind}`)}: ${plural("letters.count", one.letters)}`), el("p", { class: "quote" }, one.reason),
    el("p", { class: "muted" }, t(`requeue.then.${one.kind}`))))));
  $("requeue-form").onsubmit = (event) => {
    event.preventDefault();
    $("requeue-dialog").close();
    requeue(which, sum);
  };
  open($("requeue-dialog"));
}

/** As many as there are time for at once, and again until all that were told are sent. */
async function requeue(which, sum = 1) {
  try {
    let sent = 0, answer;
    do {
      answer = await guarded("POST", "events/dead-letters/requeue", which);
      sent += answer.requeued;
    } while (answer.more && answer.requeued && sent < sum);
    toast(plural("letters.requeued", sent));
    await loadReasons();
    return true;
  } catch (problem) {
    toast(problem.message, true);
    return false;
  }
}

export function drawFindings({ findings, findings_total: total, unknown_since: at }) {
  if (!findings || at) return unknown($("findings-body"), at);
  if (!findings.length) return fill($("findings-body"), [el("p", { class: "good" }, icon("ok"), t("findings.none"))], t("findings.none"));
  const all = t("findings.total", { shown: number(findings.length), all: number(total.total), open: number(total.open) });
  fill($("findings-body"), [el("p", { class: total.open ? "warn" : "muted" }, total.open ? icon("slow") : null, all),
    findingsTable(findings)],
    JSON.stringify([findings.map((one) => [one.id, one.mended_at]), total, t("findings.title")]));
}

/** A table of rows that were wrong. */
export function findingsTable(findings) {
  const head = ["when", "cache", "key", "side", "cached", "wanted", "mended"].map((name) => el("th", { scope: "col" }, t(`findings.${name}`)));
  return framed(head, findings.map(findingRow), t("findings.title"), "diff");
}

function findingRow(one) {
  return el("tr", { "data-open": String(!one.mended_at) },
    el("td", {}, el("time", { datetime: one.found_at }, clock(one.found_at))),
    el("td", {}, t(`cache.${one.cache}`)),
    el("th", { scope: "row" }, ofTable(one.cache, one.key)),
    el("td", {}, t(`side.${one.side}`)),
    el("td", {}, one.cached || one.side === "missing" ? row(one.cached, one.wanted, "old") : "–"),
    el("td", {}, one.wanted || one.side === "extra" ? row(one.wanted, one.cached, "new") : "–"),
    el("td", {}, one.mended_at ? el("time", { datetime: one.mended_at }, clock(one.mended_at)) : el("strong", { class: "warn" }, icon("slow"), t("findings.open"))));
}

// Who did what: the audit log, shown when asked for, since reading it is written down as well.
import { guarded, onKey } from "./api.js";
import { $, el, fill } from "./dom.js";
import { link } from "./links.js";
import { clock, t } from "./text.js";

const PAGE = 20;
let entries = null; // null: not shown
let older = false; // whether there are more
let problem = "";

export function startAuditLog() {
  $("log-show").addEventListener("click", () => load());
  $("log-more").addEventListener("click", () => load(entries.at(-1).id));
  onKey(() => { // what one key may read is not left to the next
    [entries, older, problem] = [null, false, ""];
    drawAuditLog();
  });
}

async function load(before) {
  const query = new URLSearchParams(before === undefined ? { limit: PAGE } : { limit: PAGE, before });
  try {
    const { items, next } = await guarded("GET", `audit-log?${query}`);
    entries = before === undefined ? items : [...entries, ...items];
    [older, problem] = [next !== null, ""];
  } catch (failure) {
    problem = failure.message;
  }
  drawAuditLog();
}

export function drawAuditLog() {
  $("log-show").textContent = t(entries ? "log.again" : "log.show");
  $("log-more").hidden = !older;
  const body = problem ? el("p", { class: "problem" }, problem)
    : entries?.length ? table()
    : el("p", { class: "muted" }, t(entries ? "log.none" : "log.why"));
  fill($("log-body"), [body], body.textContent);
}

/** What came of it: what was made, as a link to its page, or a sentence. */
function made(detail) {
  const [, page, id] = /^\/api\/v1\/(celery\/tasks|products|companies|cities)\/([\w-]+)$/.exec(detail ?? "") ?? [];
  return page ? link(page === "celery/tasks" ? "runs" : page, id) : detail ?? "–";
}

function table() {
  const head = ["when", "who", "from", "what", "status", "detail"].map((name) => el("th", { scope: "col" }, t(`log.${name}`)));
  const rows = entries.map((one) => el("tr", {},
    el("td", {}, el("time", { datetime: one.at }, clock(one.at))),
    el("th", { scope: "row" }, one.name ?? t("log.nobody"), one.role ? el("span", { class: "muted" }, ` ${one.role}`) : null),
    el("td", {}, one.address ?? "–"),
    el("td", {}, el("code", {}, `${one.method} ${one.path.replace(/^\/api\/v1/, "")}`)),
    el("td", { class: one.status < 400 ? null : "problem" }, String(one.status)),
    el("td", {}, made(one.detail))));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "h-log" },
    el("table", { class: "log" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)));
}

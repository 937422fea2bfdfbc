// Replay: a dry run shows what would change, row by row, before anything is written.
import { get, guarded } from "./api.js";
import { $, el, open, table as framed, toast } from "./dom.js";
import { link, ofColumn, ofTable, PAGES } from "./links.js";
import { number, plural, t } from "./text.js";

const LOOK_MS = 400;
const ENDED = ["SUCCESS", "FAILURE", "REVOKED", "EXPIRED", "SKIPPED"];
let shown = 0; // only the newest run may write into the dialog

export function startReplay() {
  $("replay-dry").addEventListener("click", () => run(true));
  $("replay-go").addEventListener("click", () => run(false));
  $("replay-form").addEventListener("submit", (event) => {
    event.preventDefault(); // Enter in a field
    run(true);
  });
}

export function askReplay() {
  shown += 1;
  $("replay-result").replaceChildren();
  problem("");
  busy(false);
  open($("replay-dialog"));
}

function wanted(dry) {
  const instant = (id) => ($(id).value ? new Date($(id).value).toISOString() : undefined);
  const offset = $("replay-offset").value.trim();
  return { since: instant("replay-since"), until: instant("replay-until"), from_offset: offset ? Number(offset) : undefined, dry_run: dry };
}

async function run(dry) {
  const mine = ++shown;
  problem("");
  if (!$("replay-form").reportValidity()) return;
  busy(true);
  $("replay-result").replaceChildren(el("p", {}, plural("replay.reading", 0)));
  try {
    const started = await guarded("POST", "celery/tasks/replay-events", wanted(dry));
    if (!dry) {
      $("replay-dialog").close();
      toast(t("run.queued", { task: t("task.replay_events") }));
      return;
    }
    await follow(started.task_id, mine);
  } catch (failure) {
    if (mine !== shown) return;
    $("replay-result").replaceChildren();
    problem(failure.message);
  } finally {
    if (mine === shown) busy(false);
  }
}

async function follow(id, mine) {
  while (mine === shown && $("replay-dialog").open) {
    const run = await get(`celery/tasks/${id}`);
    if (mine !== shown) return;
    if (run.state === "SUCCESS") return show(run.result);
    if (ENDED.includes(run.state)) {
      $("replay-result").replaceChildren();
      return problem(t("replay.failed", { state: t(`run.${run.state}`), error: run.error ?? run.result?.reason ?? "" }));
    }
    $("replay-result").replaceChildren(el("p", {}, plural("replay.reading", run.progress?.events ?? 0)));
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function show(result) {
  const tables = Object.entries(result.would_change ?? {});
  const rows = result.rows ?? [];
  const total = wouldChange(result);
  const from = result.events ? el("p", { class: "muted" }, t("replay.from", {
    events: number(result.events), keys: number(result.keys), first: number(result.first_offset), last: number(result.last_offset) })) : null;
  const parts = total
    ? [el("h3", {}, plural("replay.would", total)),
      el("ul", { class: "chips" }, ...tables.map(([table, n]) => el("li", {}, el("code", {}, table), ` ${number(n)}`))),
      rows.length < total ? el("p", { class: "muted" }, t("replay.first", { n: number(rows.length) })) : null,
      differences(rows)]
    : [el("p", { class: "good" }, plural("replay.same", result.events ?? 0))];
  $("replay-result").replaceChildren(...[from, ...parts].filter(Boolean));
}

/** Rows that a dry run would change; counts follow from them and are no rows of their own. */
export const wouldChange = ({ would_change: tables }) =>
  Object.entries(tables ?? {}).filter(([table]) => table !== "city_counts").reduce((sum, [, n]) => sum + n, 0);

/** Rows before and after, beside each other, what differs marked. */
function differences(rows) {
  const head = ["diff.table", "diff.key", "diff.before", "diff.after"].map((key) => el("th", { scope: "col" }, t(key)));
  const body = rows.map(({ table, key, before, after }) => el("tr", {},
    el("td", {}, el("code", {}, table)), el("th", { scope: "row" }, ofTable(table, key)),
    el("td", {}, row(before, after, "old")), el("td", {}, row(after, before, "new"))));
  return framed(head, body, t("replay.dry"), "diff");
}

/** One row as names and values; those that differ from `other` stand out. */
export function row(values, other, side) {
  if (!values) return el("span", { class: "muted" }, t("explain.no.row"));
  return el("dl", { class: "row" }, ...Object.entries(values).map(([name, value]) => {
    const differs = JSON.stringify(other?.[name]) !== JSON.stringify(value);
    return el("div", { class: differs ? side : null }, el("dt", {}, name), el("dd", {}, ...pieces(name, value)));
  }));
}

/** A value as texts and links; of a row inside a row, such as a product's company, the names as well. */
function pieces(name, value) {
  if (value === null) return ["∅"];
  if (typeof value !== "object") return [ofColumn(name, value)];
  return Object.entries(value).flatMap(([inner, one], index) => [
    index ? ", " : "", Array.isArray(value) ? "" : `${inner}: `,
    ...(inner === "id" && PAGES[name] ? [link(PAGES[name], one)] : pieces(inner, one))]);
}

function problem(words) {
  $("replay-problem").textContent = words;
  $("replay-problem").hidden = !words;
}

function busy(is) {
  for (const id of ["replay-dry", "replay-go"]) $(id).disabled = is;
  $("replay-dialog").setAttribute("aria-busy", String(is));
}

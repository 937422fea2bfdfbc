// The verdict on top: all is well, something needs a person, or nobody can say. In the title, the icon and aloud.
import { $, el, fill, icon, sync } from "./dom.js";
import { helpOf } from "./links.js";
import { requeueAll } from "./records.js";
import { start, taskName } from "./runs.js";
import { clock, has, milliseconds, number, plural, seconds, since, t } from "./text.js";

const ICONS = { well: "ok", critical: "standing", warning: "slow", unknown: "unknown" };
const PLACES = {
  relay: "#way", worker: "#way", broker: "#way", database: "#/incidents", capture: "#/incidents", freshness: "#freshness",
  caches: "#findings", dead_letters: "#/letters", schedule: "#schedule", observer: "#/incidents",
};
const HOLDS_EVENTS = ["relay", "worker", "broker"];
const ACTIONS = { // kind → what its one button does
  rows_wrong: { word: () => t("act.refresh"), run: (one, button) => start("refresh_all_caches", button) },
  dead_letters_open: { word: () => t("letters.requeue.all"), run: () => requeueAll() },
  run_failed: { word: (one) => t("act.start", { task: taskName(one.subject) }), run: (one, button) => start(one.subject, button) },
  run_missed: { word: (one) => t("act.start", { task: taskName(one.subject) }), run: (one, button) => start(one.subject, button) },
};
const LATE = ["no answer in time", "no answer"]; // what the judge says where a server itself said nothing
let said = null; // what was announced last

/** What an incident means, in the page's language; of a kind that this page does not know, the server's words. */
export function effectOf({ kind, values, effect }, duration) {
  if (!has(`kind.${kind}`)) return effect;
  const told = { ...values, seconds: seconds(duration, false) };
  if (LATE.includes(told.failure)) told.failure = t("failure.late");
  if (told.task) told.task = taskName(told.task);
  if (told.state && has(`run.${told.state}`)) told.state = t(`run.${told.state}`);
  for (const [name, value] of Object.entries(told)) if (typeof value === "number") told[name] = number(value);
  return t(`kind.${kind}`, told);
}

const adviceOf = ({ kind, advice }) => (has(`advice.${kind}`) ? t(`advice.${kind}`) : advice);

/** `about`: goods and cities, null while they are unknown; `isLost`: the API does not answer. */
export function drawVerdict(state, about, isLost) {
  const health = isLost ? { state: "unknown", since: null, unknown: [], wrong: [] } : state.health;
  const title = titleOf(health, isLost);
  const weight = health.state === "bad" ? (health.wrong.some((one) => one.severity === "critical") ? "critical" : "warning") : health.state;
  Object.assign($("verdict").dataset, { state: health.state, weight });
  fill($("verdict-icon"), [icon(ICONS[weight])], weight);
  fill($("verdict-title"), [title]);
  fill($("verdict-about"), [isLost ? t("verdict.lost") : aboutOf(state, health, about)]);
  $("verdict-list").hidden = !health.wrong.length;
  sync($("verdict-list"), health.wrong, (one) => `${one.kind}/${one.subject}`, create, (item, one) => update(item, one, state));
  tell(health, title);
}

function titleOf({ state, since: at, wrong, unknown }, isLost) {
  if (state === "bad") return plural("verdict.bad", wrong.length);
  if (state === "well") return at ? t("verdict.well.since", { time: seconds(since(at), false) }) : t("verdict.well");
  return t(isLost || !unknown.length ? "verdict.unknown" : "verdict.partly");
}

function aboutOf(state, { state: word, unknown }, about) {
  const parts = [];
  if (about) parts.push(sentence(word === "well" ? state.freshness.p99_ms : null, about));
  if (word !== "well" && unknown.length) parts.push(t("verdict.unknown.parts", { parts: unknown.map((part) => t(`part.${part}`)).join(", ") }));
  if (word === "well" && unknown.includes("schedule")) parts.push(t("verdict.schedule"));
  return parts.join(" ");
}

/** What this is; `within`: how many ms the caches are behind at most, null where nobody can say so now. */
function sentence(within, { goods, cities }) {
  if (!cities) return t("verdict.empty");
  const values = { goods: plural("goods", goods), cities: plural("cities.in", cities) };
  return within === null ? t("verdict.holds", values) : t("verdict.follows", { ...values, time: milliseconds(within) });
}

function create(one) {
  const action = ACTIONS[one.kind];
  const button = action && el("button", { type: "button", onclick: (event) => action.run(one, event.currentTarget) });
  return el("li", { "data-kind": one.kind },
    el("span", { class: "need-icon" }, icon(one.severity === "critical" ? "standing" : "slow")),
    el("div", { class: "need" }, el("p", { class: "need-what" }), el("p", { class: "need-since muted" }), el("p", { class: "need-advice" })),
    el("div", { class: "need-act" }, button, el("a", { class: "where", href: PLACES[one.part] ?? "#/incidents" }), el("a", { class: "meaning", href: helpOf(one.kind) })));
}

function update(item, one, state) {
  const duration = Math.max(1, since(one.since));
  fill(item.querySelector(".need-what"), [effectOf(one, duration)]);
  const facts = [t("need.since", { at: clock(one.since), time: seconds(duration, false) })];
  if (HOLDS_EVENTS.includes(one.part)) facts.push(waiting(state));
  fill(item.querySelector(".need-since"), [facts.filter(Boolean).join(" · ")]);
  fill(item.querySelector(".need-advice"), [adviceOf(one)]);
  const button = item.querySelector("button");
  if (button) fill(button, [ACTIONS[one.kind].word(one)]);
  fill(item.querySelector(".where"), [t("need.more")]);
  fill(item.querySelector(".meaning"), [t("need.help")]);
}

/** How many events wait, as far as anybody knows. */
function waiting({ stations }) {
  const depths = stations.filter(({ name, depth }) => ["outbox", "queue", "worker"].includes(name) && depth !== null).map(({ depth }) => depth);
  const sum = depths.reduce((total, one) => total + one, 0);
  return sum ? plural("need.waiting", sum) : "";
}

/** Title and icon at each look; aloud only when it is another thing that is wrong. */
function tell({ state, wrong }, title) {
  const name = { well: "citycache", bad: `${title} · citycache`, unknown: `? ${title} · citycache` }[state];
  if (document.title !== name) document.title = name;
  const file = { well: "icon.svg", bad: "icon-bad.svg", unknown: "icon-unknown.svg" }[state];
  const link = document.querySelector("link[rel=icon]");
  if (!link.href.endsWith(file)) link.href = `console/${file}`;
  const about = `${document.documentElement.lang} ${state} ${wrong.map((one) => one.kind + one.subject).sort().join()}`;
  if (said === about) return;
  said = about;
  const spoken = state === "well" ? t("verdict.well") : title;
  $("announce").textContent = [spoken, ...wrong.map((one) => effectOf(one, since(one.since)))].join(" ");
}

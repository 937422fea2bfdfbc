// The three numbers that matter: is it flowing, how fresh is it, how right is it. What is not known is a dash.
import { $, el, fill, icon } from "./dom.js";
import { ago, clock, has, milliseconds, number, percent, plural, seconds, t } from "./text.js";
import { effectOf } from "./verdict.js";

const CACHES = ["products", "companies", "counts", "active"];

/** Why a station or the pipeline is as it is, in words. */
export function why({ code, values, why: sentence }) {
  if (has(`kind.${code}`)) return effectOf({ kind: code, values, effect: sentence }, values.seconds ?? 0);
  if (!has(`why.${code}`)) return sentence;
  const told = Object.entries(values ?? {}).map(([name, value]) => [name, name === "seconds" ? seconds(value, false) : value]);
  return t(`why.${code}`, Object.fromEntries(told));
}

export function drawPipeline(state) {
  const { pipeline } = state;
  const word = t(`pipeline.${pipeline.state}`, { station: pipeline.station && t(`station.${pipeline.station}`) });
  mark("tile-pipeline", pipeline.state);
  fill($("pipeline-word"), [icon(pipeline.state), el("span", {}, word)], `${pipeline.state} ${word}`);
  fill($("pipeline-why"), [why(pipeline)]);
  const workers = state.workers ? plural("workers", state.workers.length) : t("workers.unknown");
  fill($("pipeline-foot"), [[lastChange(state), state.setup.workers ? workers : null].filter(Boolean).join(" · ")]);
}

export function lastChange({ unknown_since: unknownSince, changed_seconds: changed }) {
  if (unknownSince) return t("unknown.since", { time: clock(unknownSince) });
  return typeof changed === "number" ? t("pipeline.foot", { ago: ago(changed) }) : t("pipeline.never");
}

export function drawFreshness({ freshness, unknown_since: unknownSince }) {
  const bad = { absent: "standing", slow: "slow", unknown: "unknown" }[freshness.canary] ?? "ok";
  mark("tile-freshness", unknownSince && bad === "ok" ? "unknown" : bad);
  number2("p50", freshness.p50_ms);
  number2("p99", freshness.p99_ms);
  fill($("fresh-events"), [unknownSince ? t("unknown.since", { time: clock(unknownSince) })
    : freshness.events ? plural("freshness.events", freshness.events) : t("freshness.none")]);
  const age = freshness.canary_age_seconds;
  const text = unknownSince && freshness.canary === "unknown" ? t("unknown.since", { time: clock(unknownSince) }) : t(`canary.${freshness.canary}`, {
    ms: milliseconds(freshness.canary_ms), ago: ago(age ?? 0), time: seconds(age ?? 0, false),
  });
  fill($("canary-icon"), [icon(bad)], bad);
  fill($("canary-text"), [text]);
  $("canary").dataset.state = freshness.canary;
}

/** A number with its unit set smaller. */
function number2(id, value) {
  const text = milliseconds(value);
  const [, digits, unit] = text.match(/^(\S+)(?:\s(.*))?$/) ?? [null, text, ""];
  fill($(id), [digits, unit ? el("small", {}, ` ${unit}`) : null], text);
}

export function drawConsistency({ consistency, unknown_since: unknownSince }) {
  if (unknownSince || !consistency) return noConsistency("–", unknownSince ? t("unknown.since", { time: clock(unknownSince) }) : t("unknown"));
  const chosen = document.querySelector("input[name=window]:checked").value;
  const level = consistency.all[chosen];
  const known = level.supported > 0 || level.wrong > 0; // a handful of rows says nothing
  mark("tile-consistency", level.wrong ? "slow" : "ok");
  if (!known) return noConsistency(t("nines.none"), "");
  const [digits, unit] = t("nines", { n: `${number(level.nines, 1)}|` }).split("|");
  fill($("nines"), [digits, el("small", {}, unit)], `${digits}${unit}`);
  const under = t("nines.under", {
    percent: percent(level.nines), seconds: seconds(consistency.within_seconds), rows: number(level.checked), wrong: number(level.wrong),
  });
  const within = Object.values(consistency.found_within_seconds);
  const promise = within.length === CACHES.length ? t("nines.found", { time: seconds(Math.max(...within), false) }) : t("nines.found.not");
  fill($("nines-under"), [under]);
  fill($("nines-found"), [promise]);
  const order = CACHES.filter((name) => consistency.caches[name]);
  const rows = order.map((name) => cacheRow(name, consistency.caches[name][chosen]));
  fill($("nines-caches"), rows, order.map((name) => JSON.stringify(consistency.caches[name][chosen])).join() + t("consistency"));
}

function noConsistency(word, under) {
  mark("tile-consistency", "unknown");
  fill($("nines"), [word]);
  fill($("nines-under"), [under]);
  fill($("nines-found"), [""]);
  $("nines-caches").replaceChildren();
  delete $("nines-caches").dataset.mark;
}

function cacheRow(name, level) {
  const cache = t(`cache.${name}`);
  const full = t("nines.cache", { cache, n: number(level.nines, 1), rows: number(level.checked), wrong: number(level.wrong) });
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span", { class: level.wrong ? "filled wrong" : "filled" }));
  bar.firstChild.style.width = `${Math.min(100, (level.nines / 7) * 100)}%`;
  return el("li", { title: full }, el("span", { class: "name" }, cache), bar, el("span", { class: "value" }, number(level.nines, 1)));
}

function mark(id, state) {
  $(id).dataset.state = state;
}

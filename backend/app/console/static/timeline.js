// Incidents and runs as spans above two plots of the same time: one cursor for all, and a range that can be drawn.
import { get } from "./api.js";
import { el, fill, svg } from "./dom.js";
import { MARGIN, Plot } from "./plot.js";
import { taskName } from "./runs.js";
import { milliseconds, number, rate, seconds, t } from "./text.js";
import { effectOf } from "./verdict.js";

const POINTS = 240;
const LEAST_SECONDS = 60; // of a range
const MOST_SECONDS = 7 * 86400;
const LANE = 14; // pixels
const LANES = ["incidents", "imports", "replays", "runs"];
const LANE_OF = { replay_events: "replays", import_feed: "imports" }; // of tasks; of others: runs
const tick = (value) => t(value >= 1000 ? "s" : "ms", { n: value < 1 ? number(value, 1) : number(value >= 1000 ? value / 1000 : value) });
let targetMs = null; // that freshness should stay below; null: unknown

/** What the stream says of this installation. */
export const knowTarget = (ms) => { targetMs = ms; };

/** Between two points of a range, in seconds. */
export const stepOf = (range) => Math.max(5, range / POINTS);

/** The page of a range, within what may be asked for; times in ms. */
export function historyAt(from, to) {
  const now = Date.now();
  const end = Math.min(now, to);
  const least = Math.max(end - from, LEAST_SECONDS * 1000);
  const begin = end - Math.min(least, MOST_SECONDS * 1000);
  const text = (at) => new Date(at).toISOString().replace(/\.\d+Z/, "Z");
  return `#/history?from=${text(begin)}&to=${text(end)}`;
}

export class Timeline {
  constructor(place) {
    const [lanes, high, low] = ["lanes", "plot tall", "plot"].map((kind) => el("div", { class: kind }));
    this.lanes = lanes;
    this.now = el("p", { class: "lane-now", "aria-hidden": "true" });
    this.note = el("p", { class: "muted plot-note" });
    const lines = (...keys) => keys.map(([name, key]) => ({ key, style: name, name: () => t(`plot.${name}`) }));
    const shared = { told: () => this.now.textContent, onCursor: (index) => this.#move(index), onRange: (from, to) => { location.hash = historyAt(from, to); } };
    this.latency = new Plot(high, lines(["p50", "p50_ms"], ["p99", "p99_ms"], ["canary", "canary_ms"]), { ...shared, log: true,
      format: (value) => (Number.isInteger(Math.log10(value)) ? tick(value) : milliseconds(value)), words: this.#words("plot.latency"),
      target: () => targetMs && { value: targetMs, name: t("plot.target", { time: milliseconds(targetMs) }) } });
    this.rates = new Plot(low, lines(["captured", "captured_per_second"], ["applied", "applied_per_second"]), { ...shared, log: false, format: rate, words: this.#words("plot.rate") });
    place.replaceChildren(lanes, this.now, high, low, this.note);
    new ResizeObserver(() => this.#drawLanes()).observe(lanes);
    lanes.addEventListener("pointermove", (event) => this.#point(event));
    lanes.addEventListener("pointerleave", () => this.#say(null));
    lanes.addEventListener("click", ({ target }) => { if (target.dataset.to) location.hash = target.dataset.to; });
  }

  #words(title) {
    return () => ({
      title: t(title), range: seconds((this.to - this.from) / 1000), empty: t("plot.empty"),
      label: (name, range, series) => t("plot.label", { title: name, range, series }),
      entry: (name, now, high) => t("plot.series", { name, now, high }),
    });
  }

  /** Read and draw a range, in ms. What it shows, for lists below it. */
  async load(from, to) {
    const mine = (this.asked = (this.asked ?? 0) + 1);
    const query = new URLSearchParams({ from: new Date(from).toISOString(), to: new Date(to).toISOString() });
    const [points, spans] = await Promise.all([get(`console/history?${query}`), get(`console/spans?${query}`)]);
    if (mine !== this.asked) return this.spans;
    Object.assign(this, { from, to, spans: spansOf(spans), isWhole: spans.is_whole });
    const inside = points.map((point) => ({ ...point, at: Date.parse(point.at) })).filter(({ at }) => at >= from);
    this.latency.show(inside, from, to);
    this.rates.show(inside, from, to);
    this.#around();
    return this.spans;
  }

  /** Nobody has answered; what was drawn before stays. */
  unknown() {
    if (this.from === undefined) for (const plot of [this.latency, this.rates]) plot.frame.dataset.empty = t("unknown");
  }

  draw() {
    if (this.from === undefined) return;
    this.latency.draw();
    this.rates.draw();
    this.#around();
  }

  /** Spans and note. */
  #around() {
    this.#drawLanes();
    fill(this.note, [t("plot.note", { step: seconds(stepOf((this.to - this.from) / 1000)) }), this.isWhole ? "" : ` ${t("spans.part")}`]);
  }

  #x(at) {
    const inside = this.lanes.clientWidth - MARGIN.left - MARGIN.right;
    return MARGIN.left + (Math.max(0, Math.min(1, (at - this.from) / (this.to - this.from)))) * inside;
  }

  #drawLanes() {
    const width = Math.max(this.lanes.clientWidth, MARGIN.left + MARGIN.right);
    if (!width || this.from === undefined) return;
    const height = LANES.length * LANE;
    this.mark = svg("line", { class: "mark", y1: 0, y2: height });
    this.lanes.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" },
      ...LANES.flatMap((lane, index) => this.#lane(lane, index * LANE, width)), this.mark));
  }

  #lane(lane, y, width) {
    const spans = this.spans.filter((one) => one.lane === lane);
    return [svg("text", { x: MARGIN.left - 8, y: y + 10, "text-anchor": "end" }, t(`lane.${lane}`)),
      svg("rect", { class: "ground", x: MARGIN.left, y: y + 2, width: width - MARGIN.left - MARGIN.right, height: LANE - 4 }),
      ...spans.map(({ began, ended, weight, address }) => svg("rect", { class: `span ${lane} ${weight}`, x: this.#x(began), y: y + 2, height: LANE - 4,
        width: Math.max(3, this.#x(ended ?? this.to) - this.#x(began)), "data-to": address }))];
  }

  #point(event) {
    if (this.from === undefined) return;
    const share = (event.clientX - this.lanes.getBoundingClientRect().left - MARGIN.left) / (this.lanes.clientWidth - MARGIN.left - MARGIN.right);
    this.#say(this.from + share * (this.to - this.from));
  }

  /** One cursor for both plots and the spans. */
  #move(index) {
    this.latency.move(index);
    this.rates.move(index);
    this.#say(index === null ? null : this.latency.points[index]?.at ?? null);
  }

  /** Name what was under way at this time. */
  #say(at) {
    if (!this.mark) return;
    const near = ((this.to - this.from) / Math.max(1, this.lanes.clientWidth)) * 2;
    const found = at === null ? [] : this.spans.filter(({ began, ended }) => began <= at + near && (ended ?? this.to) >= at - near);
    this.mark.classList.toggle("shown", at !== null);
    if (at !== null) for (const name of ["x1", "x2"]) this.mark.setAttribute(name, this.#x(at));
    fill(this.now, [found.slice(0, 3).map((one) => one.words()).join(" · ")]);
  }
}

/** Spans of both kinds alike, in the order of their begin. */
function spansOf({ incidents, runs }) {
  const troubles = incidents.map((one) => ({ lane: "incidents", weight: one.severity, address: "#/incidents", began: Date.parse(one.began_at), ended: one.ended_at && Date.parse(one.ended_at),
    words: () => effectOf(one, ((one.ended_at ? Date.parse(one.ended_at) : Date.now()) - Date.parse(one.began_at)) / 1000) }));
  const tasks = runs.map((run) => ({ lane: LANE_OF[run.task] ?? "runs", weight: run.state === "SUCCESS" ? "well" : run.state.toLowerCase(), address: `#/runs/${run.task_id}`,
    began: Date.parse(run.started_at ?? run.queued_at), ended: run.finished_at && Date.parse(run.finished_at),
    words: () => `${taskName(run.task)}: ${t(`run.${run.state}`)}` }));
  return [...troubles, ...tasks].sort((one, other) => one.began - other.began);
}

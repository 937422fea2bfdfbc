// The way of an event as stations with arrows; each with its last minute of rates as a line.
import { $, el, icon, svg, sync } from "./dom.js";
import { why } from "./overview.js";
import { number, rate, seconds, t } from "./text.js";

const MEMORY = 60; // seconds of a line
const past = new Map();

/** Keep a reading for the lines. */
export function remember(stations) {
  for (const { name, rate: value } of stations) {
    const line = past.get(name) ?? [];
    line.push(value ?? null);
    past.set(name, line.slice(-MEMORY));
  }
}

export function drawWay({ stations, workers, setup }) {
  const rest = 2.5 / (setup.canary_seconds || 1); // events a second that are only canaries
  sync($("stations"), stations, (station) => station.name, create, (item, station) => update(item, station, workers ?? [], rest));
}

function create({ name }) {
  return el("li", { class: "station", "data-station": name },
    el("div", { class: "station-head" }, el("span", { class: "station-icon" }), el("h3", {}), el("span", { class: "sr" })),
    el("p", { class: "sub" }),
    el("p", { class: "rate" }),
    svg("svg", { class: "line", viewBox: "0 0 60 16", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("path", {})),
    el("p", { class: "waits" }),
    el("p", { class: "why" }));
}

function update(item, station, workers, rest) {
  const set = (selector, text) => {
    const part = item.querySelector(selector);
    if (part.textContent !== text) part.textContent = text;
  };
  if (item.dataset.state !== station.state) {
    item.dataset.state = station.state;
    item.querySelector(".station-icon").replaceChildren(icon(station.state));
  }
  set("h3", t(`station.${station.name}`));
  set(".sr", t(`state.${station.state}`));
  set(".sub", station.name === "worker" && workers.length > 1 ? `${workers.length} × ${t("station.sub.worker")}` : t(`station.sub.${station.name}`));
  set(".rate", station.rate === null ? "–" : rate(station.rate));
  set(".waits", waits(station));
  set(".why", station.state === "ok" && station.code !== "in_process" ? "" : why(station));
  const path = line(past.get(station.name) ?? []);
  if (item.dataset.path !== path) item.querySelector("path").setAttribute("d", (item.dataset.path = path));
  item.classList.toggle("moving", (station.rate ?? 0) > rest && station.state !== "standing");
}

function waits({ name, depth, age_seconds: age }) {
  if (depth === null) return "";
  const parts = [t(name === "worker" ? "held" : "waiting", { n: number(depth) })];
  if (depth && age !== null) parts.push(t("oldest", { time: seconds(age) }));
  return parts.join(", ");
}

function line(values) {
  const high = Math.max(1, ...values);
  const first = MEMORY - values.length;
  const point = (value, index) => (value === null ? "" : `${index && values[index - 1] !== null ? "L" : "M"}${first + index},${(15 - (14 * value) / high).toFixed(1)}`);
  return values.length > 1 ? values.map(point).join("") : "";
}

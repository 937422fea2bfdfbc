// Freshness and rates over the last hours.
import { get } from "./api.js";
import { $, fill } from "./dom.js";
import { Plot } from "./plot.js";
import { milliseconds, number, rate, seconds, t } from "./text.js";

const POINTS = 240;
const tick = (value) => t(value >= 1000 ? "s" : "ms", { n: value < 1 ? number(value, 1) : number(value >= 1000 ? value / 1000 : value) });
const chosen = () => Number(document.querySelector("input[name=range]:checked").value);

const words = (title) => () => ({
  title: t(title),
  range: t(`range.${chosen()}`),
  empty: t("plot.empty"),
  label: (name, range, series) => t("plot.label", { title: name, range, series }),
  entry: (name, now, high) => t("plot.series", { name, now, high }),
});

let latency = null;
let rates = null;
let timer = 0;
let asked = 0;

export function startFreshness() {
  const lines = (...keys) => keys.map(([name, key]) => ({ key, style: name, name: () => t(`plot.${name}`) }));
  latency = new Plot($("plot-latency"), lines(["p50", "p50_ms"], ["p99", "p99_ms"], ["canary", "canary_ms"]),
    { log: true, format: (value) => (Number.isInteger(Math.log10(value)) ? tick(value) : milliseconds(value)), words: words("plot.latency") });
  rates = new Plot($("plot-rate"), lines(["captured", "captured_per_second"], ["applied", "applied_per_second"]),
    { log: false, format: rate, words: words("plot.rate") });
  for (const input of document.querySelectorAll("input[name=range]")) input.addEventListener("change", load);
  load();
}

/** Read the range's points, and again as soon as there can be a new one. */
async function load() {
  clearTimeout(timer);
  const mine = ++asked;
  const hours = chosen();
  const step = Math.max(5, (hours * 3600) / POINTS);
  try {
    const found = await get(`console/history?hours=${hours}`);
    if (mine !== asked) return;
    const points = found.map((point) => ({ ...point, at: Date.parse(point.at) }));
    const to = Date.now();
    const from = to - hours * 3600000;
    const inside = points.filter(({ at }) => at >= from);
    latency.show(inside, from, to);
    rates.show(inside, from, to);
  } catch { /* the page says elsewhere that the API or the database is away */ }
  fill($("plot-note"), [t("plot.note", { step: seconds(step) })]);
  if (mine === asked) timer = setTimeout(load, Math.min(60, step) * 1000);
}

export function translateFreshness() {
  latency.draw();
  rates.draw();
  load();
}

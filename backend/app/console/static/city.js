// A city's week: its counts hour by hour, and what was wrong with it.
import { get } from "./api.js";
import { el } from "./dom.js";
import { table } from "./incidents.js";
import { Plot } from "./plot.js";
import { findingsTable } from "./records.js";
import { number, seconds, t } from "./text.js";

const WEEK_MS = 7 * 86400 * 1000;
const HOUR_MS = 3600 * 1000;
const COUNTS = ["products", "services", "companies"];

/** Reads and draws it; `cached` is the row of counts as it is now. */
export async function showWeek(place, key, cached) {
  const { counts, findings, incidents } = await get(`console/cities/${encodeURIComponent(key)}`);
  const plot = el("div", { class: "plot" });
  place.replaceChildren(plot, el("h3", {}, t("findings.title")), findings.length ? findingsTable(findings) : none("city.findings.none"),
    el("h3", {}, t("incidents.title")), incidents.length ? table(incidents) : none("city.incidents.none"));
  const now = Date.now();
  new Plot(plot, COUNTS.map((name) => ({ key: name, style: name, name: () => t(`column.${name}`) })), { log: false, format: number, words, gap: 2 * HOUR_MS })
    .show([...counts.map((look) => ({ ...look, at: Date.parse(look.at) })), ...(cached ? [asNow(cached, now)] : [])], now - WEEK_MS, now);
}

const none = (key) => el("p", { class: "muted" }, t(key));
const asNow = (cached, now) => ({ at: now, ...Object.fromEntries(COUNTS.map((name) => [name, cached[`${name}_count`]])) });

function words() {
  return { title: t("city.week"), range: seconds(WEEK_MS / 1000), empty: t("plot.empty"), label: (title, range, series) => t("city.week.label", { title, range, series }),
    entry: (name, now, high) => t("plot.series", { name, now, high }) };
}

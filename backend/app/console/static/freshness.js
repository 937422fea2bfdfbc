// Freshness, rates and what went on over the last hours.
import { $ } from "./dom.js";
import { historyAt, Timeline } from "./timeline.js";

const POINTS = 240;
const chosen = () => Number(document.querySelector("input[name=range]:checked").value);
let timeline = null;
let timer = 0;
let asked = 0;

export function startFreshness() {
  timeline = new Timeline($("timeline"));
  for (const input of document.querySelectorAll("input[name=range]")) input.addEventListener("change", load);
  $("history-open").addEventListener("click", aim);
  load();
}

/** The range as it is now, as an address. */
function aim() {
  $("history-open").href = historyAt(Date.now() - chosen() * 3600000, Date.now());
}

/** Read the range's points, and again as soon as there can be a new one. */
async function load() {
  clearTimeout(timer);
  const mine = ++asked;
  const step = Math.max(5, (chosen() * 3600) / POINTS);
  try {
    const to = Date.now();
    await timeline.load(to - chosen() * 3600000, to);
  } catch { /* the page says elsewhere that the API or the database is away */ }
  if (mine === asked) timer = setTimeout(load, Math.min(60, step) * 1000);
}

export function translateFreshness() {
  timeline.draw();
  load();
}

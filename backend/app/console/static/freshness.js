// Freshness, rates and what went on over the last hours.
import { $ } from "./dom.js";
import { historyAt, stepOf, Timeline } from "./timeline.js";

const chosen = () => Number(document.querySelector("input[name=range]:checked").value);
let timeline = null;
let timer = 0;
let asked = 0;
let isSeen = true; // whether the plots are in sight
let isDue = false; // whether there can be a new point that nobody has looked for yet

export function startFreshness() {
  timeline = new Timeline($("timeline"));
  for (const input of document.querySelectorAll("input[name=range]")) input.addEventListener("change", load);
  $("history-open").addEventListener("click", aim);
  new IntersectionObserver((changes) => see(changes.at(-1).isIntersecting)).observe($("timeline"));
  load();
}

function see(isInSight) {
  isSeen = isInSight;
  if (isSeen && isDue) load();
}

/** The range as it is now, as an address. */
function aim() {
  $("history-open").href = historyAt(Date.now() - chosen() * 3600000, Date.now());
}

/** Read the range's points, and again as soon as there can be a new one that somebody sees. */
async function load() {
  clearTimeout(timer);
  const mine = ++asked;
  isDue = false;
  try {
    const to = Date.now();
    await timeline.load(to - chosen() * 3600000, to);
  } catch {
    timeline.unknown();
  }
  if (mine === asked) timer = setTimeout(due, Math.min(60, stepOf(chosen() * 3600)) * 1000);
}

function due() {
  if (isSeen) load();
  else isDue = true;
}

export const translateFreshness = () => timeline.draw();

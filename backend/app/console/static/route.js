// Pages with addresses: #/incidents, #/runs/ID, #/cities/ID; everything else is the overview.
import { $, el } from "./dom.js";
import { explainInto } from "./explain.js";
import { unfold } from "./fold.js";
import { showIncidents } from "./incidents.js";
import { showRun } from "./runs.js";
import { t } from "./text.js";

const SETTLE_MS = 6000; // the overview has filled by then
const PAGES = {
  incidents: { title: () => t("incidents.title"), show: (place) => showIncidents(place) },
  runs: { title: (id) => t("run.title", { id }), show: (place, id) => showRun(place, id) },
  cities: { title: (id) => t("city.title", { id }), show: (place, id) => explainInto(place, "city", id) },
};
let asked = 0;
let touched = false; // whether somebody has moved the page himself

export function startRoutes() {
  addEventListener("hashchange", () => go(true));
  for (const name of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(name, () => { touched = true; }, { passive: true });
  new ResizeObserver(settle).observe($("main"));
  go(false);
}

/** The page that the address names; null is the overview. */
export function current() {
  const [, name, id] = location.hash.match(/^#\/(\w+)(?:\/([^/]+))?$/) ?? [];
  return Object.hasOwn(PAGES, name ?? "") ? { name, id: id && decodeURIComponent(id) } : null;
}

/** Draw the page of the address, anew in another language. */
export function drawPage() {
  const page = current();
  $("main").dataset.page = page?.name ?? "home";
  $("detail").hidden = !page;
  if (page) show(page);
}

async function show({ name, id }) {
  const mine = ++asked;
  $("detail-title").textContent = PAGES[name].title(id);
  const place = el("div", {}, el("p", { class: "muted" }, "…"));
  $("detail-body").replaceChildren(place);
  try {
    await PAGES[name].show(place, id);
  } catch (problem) {
    if (mine === asked) place.replaceChildren(el("p", { class: "problem" }, problem.message));
  }
}

function go(byHand) {
  drawPage();
  if (current()) {
    scrollTo({ top: 0 });
    if (byHand) $("detail-title").focus({ preventScroll: true });
  } else toSection();
}

const section = () => document.getElementById(location.hash.slice(1));

function toSection() {
  const found = location.hash && !current() ? section() : null;
  if (!found) return;
  unfold(found);
  found.scrollIntoView({ block: "start" });
}

/** What is above a section grows while it fills: stay at the section until somebody scrolls. */
function settle() {
  if (!touched && performance.now() < SETTLE_MS) toSection();
}

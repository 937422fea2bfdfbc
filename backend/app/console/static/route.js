// Pages with addresses: #/products, #/products/ID, #/history?from=…&to=…; everything else is the overview.
import { showList, showOne } from "./catalog.js";
import { $, closeLeft, el } from "./dom.js";
import { unfold } from "./fold.js";
import { showHelp } from "./help.js";
import { showHistory } from "./history.js";
import { showIncidents } from "./incidents.js";
import { showLetter, showLetters } from "./letters.js";
import { showRun, showRuns } from "./runs.js";
import { showEvent } from "./search.js";
import { t } from "./text.js";

const SETTLE_MS = 6000; // the overview has filled by then
const catalog = (noun) => ({
  title: (page, id) => (id ? t(`${noun}.title`, { id }) : t(page)),
  show: (place, { name, id, query }) => (id ? showOne(place, name, id) : showList(place, name, query)),
});
const PAGES = { // what `show` answers is a better title
  incidents: { title: () => t("incidents.title"), show: (place) => showIncidents(place) },
  letters: { title: (_, id) => (id ? t("letter.title", { id }) : t("letters")), show: (place, { id, query }) => (id ? showLetter(place, id) : showLetters(place, query)) },
  runs: { title: (_, id) => (id ? t("run.title", { id }) : t("runs")), show: (place, { id, query }) => (id ? showRun(place, id) : showRuns(place, query)) },
  cities: catalog("city"),
  companies: catalog("company"),
  products: catalog("product"),
  events: { title: (_, id) => t("event.title", { id }), show: (place, { id }) => showEvent(place, id) },
  help: { title: (_, id) => id ?? t("help.title"), show: (place, { id }) => showHelp(place, id) },
  history: { title: () => t("history"), show: (place, { query }) => showHistory(place, query) },
};
let asked = 0;
let touched = false; // whether somebody has moved the page himself

/** Follow the address; its page is drawn already. */
export function startRoutes() {
  addEventListener("hashchange", () => {
    closeLeft(); // the link in one may have led here
    drawPage();
    land(true);
  });
  for (const name of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(name, () => { touched = true; }, { passive: true });
  new ResizeObserver(settle).observe($("main"));
  land(false);
}

/** The page that the address names; null is the overview. */
export function current() {
  const [, name, id, query] = location.hash.match(/^#\/(\w+)(?:\/([^/?]+))?(?:\?(.*))?$/) ?? [];
  return Object.hasOwn(PAGES, name ?? "") ? { name, id: id && decoded(id), query: new URLSearchParams(query) } : null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Draw the page of the address, anew in another language. */
export function drawPage() {
  const page = current();
  $("main").dataset.page = page?.name ?? "home";
  $("detail").hidden = !page;
  if (page) show(page);
}

async function show(page) {
  const mine = ++asked;
  $("detail-title").textContent = PAGES[page.name].title(page.name, page.id);
  const place = el("div", {}, el("p", { class: "muted" }, "…"));
  $("detail-body").replaceChildren(place);
  try {
    const title = await PAGES[page.name].show(place, page);
    if (title && mine === asked) $("detail-title").textContent = title;
  } catch (problem) {
    if (mine === asked) place.replaceChildren(el("p", { class: "problem" }, problem.message));
  }
}

/** Begin at the top of a page, or at the section that the address names. */
function land(byHand) {
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

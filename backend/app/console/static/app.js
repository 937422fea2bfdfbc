// The console: the stream's facts into the page's parts, and the page's language, theme and key.
import { askKey, key, onKey } from "./api.js";
import { drawAuditLog, startAuditLog } from "./auditlog.js";
import { changeCities, drawCities, drawFeed, knowCities, loadCities, recolour, startCities, totals } from "./cities.js";
import { askClear, startClear } from "./clear.js";
import { $, fill } from "./dom.js";
import { drawEmpty } from "./empty.js";
import { startExplain, translateExplain } from "./explain.js";
import { startFolding } from "./fold.js";
import { startFreshness, translateFreshness } from "./freshness.js";
import { drawIncidents } from "./incidents.js";
import { drawConsistency, drawFreshness, drawPipeline } from "./overview.js";
import { drawFindings, drawLetters, drawSchedule, requeueAll, startRecords, takeLetters } from "./records.js";
import { askReplay, startReplay } from "./replay.js";
import { drawPage, startRoutes } from "./route.js";
import { drawActions, drawRuns, REFRESHES, start, startRuns, takeRuns, taskName } from "./runs.js";
import { startSearch } from "./search.js";
import { listen } from "./stream.js";
import { LANGUAGES, language, seconds, t, translate } from "./text.js";
import { knowTarget } from "./timeline.js";
import { drawVerdict } from "./verdict.js";
import { drawWay, remember } from "./way.js";

const THEMES = ["auto", "light", "dark"];
let state = null;
let isLost = false; // whether the API does not answer
let ticked = 0; // when what counts seconds was drawn last
const TICK_MS = 1200; // without news of the stream
let linked = ""; // what the page shows of the link
const awaited = new Set(["state", "cities"]); // before the page is shown, but not for long
const SHOWN_MS = 2500;

const SHOWS = [ // what shows which sections of the state; the others need not be drawn again
  [() => knowCities(state.unknown_since), ["unknown_since"]],
  [() => drawVerdict(state, totals(), isLost), ["health", "freshness", "stations", "cities"]],
  [() => drawIncidents(state), ["incidents"]],
  [() => drawPipeline(state), ["pipeline", "changed_seconds", "workers"]],
  [() => drawFreshness(state), ["freshness"]],
  [() => drawConsistency(state), ["consistency"]],
  [() => drawWay(state), ["stations", "workers"]],
  [() => takeRuns(state), ["runs"]],
  [() => drawSchedule(state), ["schedule"]],
  [() => takeLetters(state), ["dead_letters"]],
  [() => drawFindings(state), ["findings", "findings_total"]],
  [drawSetup, ["unknown_since", "setup", "cities"]],
  [drawKey, []],
  [() => knowTarget(state.setup.freshness_target_ms), ["setup"]],
];
const ALWAYS = ["unknown_since", "setup"]; // all is drawn again when these change
const AGAIN_SECONDS = 10; // until what tells how long ago something was is drawn again

function take(sections) {
  const changed = ALWAYS.some((name) => name in sections) ? null : Object.keys(sections);
  state = { ...state, ...sections };
  if (!state.pipeline) return;
  if (sections.stations) remember(sections.stations);
  draw(changed);
  tick();
  came("state");
}

function takeCities(delta) {
  changeCities(delta);
  if (state?.pipeline) draw(["cities"]); // so that the verdict speaks of as many as the map
}

/** What tells how long ago something was: with what the stream brings each second, so that one frame shows all of it. */
function tick() {
  ticked = performance.now();
  drawFeed();
  drawRuns();
}

function came(what) {
  if (awaited.delete(what) && !awaited.size) document.documentElement.classList.remove("filling");
}

/** Draw what shows these sections; null: everything. */
function draw(changed = null) {
  for (const [show, sections] of SHOWS) if (!changed || sections.some((name) => changed.includes(name))) show();
}

function link(isLive, silent) {
  if (performance.now() - ticked > TICK_MS) tick();
  const long = !isLive && silent > 4;
  const fresh = [isLive, long && Math.round(silent), language()].join();
  if (fresh === linked) return;
  linked = fresh;
  document.body.classList.toggle("away", !isLive);
  $("live").dataset.state = isLive ? "ok" : "standing";
  fill($("live-text"), [t(isLive ? "live" : "live.not")]);
  if (isLost !== long && state?.health) drawVerdict(state, totals(), long);
  isLost = long;
  $("lost").hidden = !long;
  if (long) fill($("lost"), [t("lost", { ago: seconds(silent, false) })]);
}

async function hello() {
  try {
    await loadCities();
    if (state?.pipeline) draw(["cities"]);
    came("cities");
  } catch {
    setTimeout(hello, 2000); // the database is away; the stream lives
  }
}

function drawSetup() {
  $("demo").hidden = !state.setup.demo;
  drawEmpty(totals()?.cities ?? null, state.setup);
}

function drawKey() {
  const setup = state?.setup;
  $("key-button").hidden = !setup?.guarded && !setup?.closed && !key();
  $("key-button").disabled = Boolean(setup?.closed);
  fill($("key-button"), [t(setup?.closed ? "key.closed" : key() ? "key.there" : "key.none")]);
}

function speak(chosen) {
  document.documentElement.lang = chosen;
  keep("citycache.lang", chosen);
  translate();
  const other = LANGUAGES.find((one) => one !== chosen);
  $("language").textContent = other.toUpperCase();
  $("language").lang = other;
  $("language").title = other === "ru" ? "Русский" : "English";
  $("language").setAttribute("aria-label", `${other.toUpperCase()}: ${$("language").title}`);
  drawTheme();
  drawActions();
  drawCities();
  translateFreshness();
  translateExplain();
  drawLetters();
  drawAuditLog();
  drawPage();
  if (state?.pipeline) draw();
}

function drawTheme() {
  const chosen = document.documentElement.dataset.theme ?? "auto";
  fill($("theme"), [t(`theme.${chosen}`)]);
  $("theme").setAttribute("aria-label", `${t("theme")}: ${t(`theme.${chosen}`)}`);
}

function nextTheme() {
  const chosen = document.documentElement.dataset.theme ?? "auto";
  const following = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
  if (following === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = following;
  keep("citycache.theme", following);
  drawTheme();
  recolour();
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch { /* not allowed: it holds for this visit */ }
}

/** What can be done besides looking, for search. */
const actions = () => [
  ...["products", "companies", "cities", "runs", "letters", "incidents", "history"].map((page) => ({ words: () => t("search.page", { page: t(page) }), run: () => { location.hash = `#/${page}`; } })),
  ...REFRESHES.map((task) => ({ words: () => taskName(task), run: () => start(task, $("search-open")) })),
  { words: () => t("task.replay_events"), run: askReplay },
  { words: () => t("task.clear_all_caches"), run: askClear },
  { words: () => t("letters.requeue.all"), run: requeueAll },
  { words: () => t("theme"), run: nextTheme },
];

startFolding();
startCities();
startFreshness();
startRuns();
startClear();
startReplay();
startRecords();
startExplain();
startAuditLog();
startSearch(actions());
$("language").addEventListener("click", () => speak(LANGUAGES.find((one) => one !== language())));
$("theme").addEventListener("click", nextTheme);
$("key-button").addEventListener("click", () => askKey());
onKey(drawKey);
for (const input of document.querySelectorAll("input[name=window]")) input.addEventListener("change", () => state && drawConsistency(state));
speak(language());
startRoutes();
setTimeout(() => [...awaited].forEach(came), SHOWN_MS);
setInterval(() => { if (state?.pipeline) draw(); }, AGAIN_SECONDS * 1000);
listen({ hello, state: take, cities: takeCities, link });

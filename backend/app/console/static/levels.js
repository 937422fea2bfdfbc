// A catalog without coordinates: its places, the widest first, each with a bar of what is below it, instead of the map.
import { get } from "./api.js";
import { $, el } from "./dom.js";
import { link } from "./links.js";
import { number, t } from "./text.js";

const PAUSE_MS = 10000; // between two readings
const opened = new Set(); // level/id of places that somebody has opened
let places = []; // as they were read last
let isBegun = false; // whether the largest has been opened
let due = 0; // when they may be read again
let timer = 0;

export function startLevels() {
  for (const input of document.querySelectorAll("input[name=counted]")) input.addEventListener("change", () => { due = 0; read(); });
}

/** Show them, as they are now or were a moment ago. */
export function showLevels() {
  const left = due - performance.now();
  if (left <= 0) read();
  else if (!timer) timer = setTimeout(read, left);
}

async function read() {
  clearTimeout(timer);
  [timer, due] = [0, performance.now() + PAUSE_MS];
  try {
    const counted = document.querySelector("input[name=counted]:checked").value;
    places = await get(`cities/tree?${new URLSearchParams({ count: counted, all: "true" })}`);
  } catch {
    return; // the verdict says what is away; what is shown is as old as the totals say
  }
  draw();
}

function draw() {
  if ($("tree").contains(document.activeElement)) return; // whoever walks there goes on
  if (!isBegun && places.length) opened.add(keyOf(places.reduce((most, one) => (one.count > most.count ? one : most))));
  isBegun = true;
  $("tree").replaceChildren(places.length ? branch(places) : el("p", { class: "muted" }, t("none")));
}

const keyOf = ({ level, id }) => `${level}/${id}`;

function branch(found) {
  const sorted = [...found].sort((one, other) => other.count - one.count);
  const most = Math.max(1, sorted[0]?.count);
  return el("ul", {}, ...sorted.map((place) => el("li", {}, place.children.length ? wider(place, most) : leaf(place, most))));
}

function wider(place, most) {
  const details = el("details", { open: opened.has(keyOf(place)) }, el("summary", {}, ...words(place, nameOf(place), most)));
  const fillIn = () => { if (details.open && !details.querySelector("ul")) details.append(branch(place.children)); };
  details.addEventListener("toggle", () => {
    if (details.open) opened.add(keyOf(place));
    else opened.delete(keyOf(place));
    fillIn();
  });
  fillIn();
  return details;
}

const leaf = (place, most) => el("p", {}, ...words(place, place.level === "city" ? link("cities", place.id, nameOf(place)) : nameOf(place), most));

const nameOf = ({ name, level, id }) => (name?.trim() ? name : level === "city" ? t("city.title", { id }) : `${level} ${id}`);

function words({ count }, name, most) {
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span", { class: "filled" }));
  bar.firstChild.style.width = `${(count / most) * 100}%`;
  return [el("span", { class: "name" }, name), bar, el("span", { class: "value" }, number(count))];
}

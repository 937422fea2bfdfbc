// On a phone the sections of the overview are folded: the whole of it is three screens.
import { el } from "./dom.js";

const NARROW = matchMedia("(max-width: 620px)");

export function startFolding() {
  for (const section of document.querySelectorAll("section[data-fold]")) {
    const heading = section.querySelector("h2");
    const button = el("button", { type: "button", class: "fold", "aria-labelledby": heading.id, onclick: () => toggle(section) });
    heading.after(button);
    heading.addEventListener("click", () => { if (NARROW.matches) toggle(section); });
  }
  NARROW.addEventListener("change", foldAll);
  foldAll();
}

/** Open a section that somebody goes to. */
export function unfold(element) {
  const section = element.closest("section[data-fold]");
  if (section) set(section, false);
}

function foldAll() {
  for (const section of document.querySelectorAll("section[data-fold]")) set(section, NARROW.matches);
}

function toggle(section) {
  set(section, !section.classList.contains("folded"));
}

function set(section, isFolded) {
  section.classList.toggle("folded", isFolded);
  section.querySelector("button.fold").setAttribute("aria-expanded", String(!isFolded));
}

// Small tools for the page's elements. Texts are set as texts, never as markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `data-…`, `aria-…`, `on…`, others as attributes) and children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A table that scrolls by itself, `label` for who cannot see it. `body`: rows, or a tbody. */
export function table(head, body, label, kind = null) {
  const rows = Array.isArray(body) ? el("tbody", {}, ...body) : body;
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
    el("table", { class: kind }, el("thead", {}, el("tr", {}, ...head)), rows));
}

/** Names with what is known of them. */
export const facts = (pairs) => el("dl", { class: "facts" }, ...pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The icon of a state: a shape of its own for each, so that colour is never alone. */
export function icon(state) {
  return svg("svg", { class: `icon ${state}`, "aria-hidden": "true" }, svg("use", { href: `#${state}` }));
}

/** Set an element's children, only when its text or `mark` changed. */
export function fill(element, children, mark) {
  const fresh = mark ?? children.map((child) => (typeof child === "string" ? child : child?.textContent ?? "")).join("\u0001");
  if (element.dataset.mark === fresh) return;
  element.dataset.mark = fresh;
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false));
}

/** Make `parent`'s children those of `items`, in order, keeping elements (and the focus in them) by key. */
export function sync(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let last = null;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = known.get(key);
    if (child) known.delete(key);
    else {
      child = create(item);
      child.dataset.key = key;
    }
    update(child, item);
    const wanted = last ? last.nextElementSibling : parent.firstElementChild;
    if (wanted !== child) parent.insertBefore(child, wanted);
    last = child;
  }
  for (const child of known.values()) child.remove();
}

/** Say something in passing; failures stay longer. */
export function toast(text, bad = false) {
  const element = el("p", { class: bad ? "toast bad" : "toast" }, text);
  if (bad) element.setAttribute("role", "alert");
  $("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 12000 : 5000);
}

/** Open a dialog; its buttons with data-close close it, and the focus returns to where it was. */
export function open(dialog) {
  if (!dialog.dataset.wired) {
    dialog.dataset.wired = "yes";
    for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  if (!dialog.open) dialog.showModal();
  dialog.dataset.address = location.hash;
}

/** Close the dialogs of other addresses; one may be of this already when the browser says that the address is new. */
export function closeLeft() {
  for (const dialog of document.querySelectorAll("dialog[open]")) if (dialog.dataset.address !== location.hash) dialog.close();
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// The map: land and circles on a canvas, so that ten thousand cities cost no more than they must.
import { $, calm, el } from "./dom.js";
import { LAND } from "./land.js";
import { number, t } from "./text.js";

const UNITS = 1800 / Math.PI;
const PULSE_MS = 1400;
const BOXES = { // west, south, east, north
  world: [-168, -56, 180, 76], europe: [-11, 35, 42, 65], north: [-128, 18, -62, 56], south: [-84, -56, -33, 14],
  africa: [-20, -36, 54, 38], asia: [35, -10, 148, 55], oceania: [110, -48, 180, 0],
};

/** Miller's projection, in the units of the land's outline. */
export function project(latitude, longitude) {
  const phi = (Math.max(-85, Math.min(85, latitude)) * Math.PI) / 180;
  return [longitude * 10, -1.25 * Math.log(Math.tan(Math.PI / 4 + 0.4 * phi)) * UNITS];
}

export class CityMap {
  constructor(onPick) {
    this.canvas = $("map-canvas");
    this.context = this.canvas.getContext("2d");
    this.land = new Path2D(LAND);
    this.cities = [];
    this.pulses = new Map(); // city id → {at, up}
    this.view = null; // centre in map units, scale in pixels a unit
    this.onPick = onPick;
    this.size = { width: 0, height: 0 };
    this.#views();
    this.#pointer();
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
    $("zoom-in").addEventListener("click", () => this.#zoom(1.6));
    $("zoom-out").addEventListener("click", () => this.#zoom(1 / 1.6));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    this.recolour();
  }

  /** Show these cities; each has id, name, latitude, longitude, products, services, companies. */
  show(cities) {
    this.cities = cities
      .filter((city) => city.latitude !== null && city.longitude !== null)
      .map((city) => ({ city, at: project(city.latitude, city.longitude), total: city.products + city.services }))
      .sort((one, other) => other.total - one.total);
    this.#plan();
  }

  /** Draw attention to a city that changed. */
  pulse(id, up) {
    this.pulses.set(id, { at: performance.now(), up });
    this.#plan();
  }

  /** Take the theme's colours anew. */
  recolour() {
    const style = getComputedStyle(document.documentElement);
    const names = ["sea", "land", "shore", "grid", "circle", "circle-line", "up", "down", "ink", "surface"];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.font = `500 11px ${style.getPropertyValue("--font")}`;
    this.#plan();
  }

  /** Words of the language. */
  translate() {
    for (const label of $("views").querySelectorAll("span")) label.textContent = t(`view.${label.dataset.view}`);
    const largest = this.cities.slice(0, 5).map(({ city, total }) => `${city.name} ${number(total)}`).join(", ");
    this.canvas.setAttribute("aria-label", t("map.label", { placed: number(this.cities.length), largest: largest || t("none") }));
  }

  #views() {
    for (const name of Object.keys(BOXES)) {
      const input = el("input", { type: "radio", name: "view", value: name, onchange: () => this.#go(name) });
      input.checked = name === "world";
      $("views").append(el("label", {}, input, el("span", { "data-view": name }, name)));
    }
  }

  #fitted(name) {
    const [west, south, east, north] = BOXES[name];
    const [[left, bottom], [right, top]] = [project(south, west), project(north, east)];
    const scale = Math.min(this.size.width / (right - left), this.size.height / (bottom - top));
    return { x: (left + right) / 2, y: (top + bottom) / 2, scale };
  }

  #go(name) {
    this.#flyTo(this.#fitted(name));
  }

  #flyTo(target) {
    const from = this.view ?? target;
    const began = performance.now();
    const step = (now) => {
      const share = calm() ? 1 : Math.min(1, (now - began) / 350);
      const eased = 1 - (1 - share) ** 3;
      const scale = from.scale * (target.scale / from.scale) ** eased;
      this.view = { x: from.x + (target.x - from.x) * eased, y: from.y + (target.y - from.y) * eased, scale };
      this.#plan();
      if (share < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #zoom(factor, [x, y] = [this.view.x, this.view.y]) {
    const scale = Math.max(this.#fitted("world").scale * 0.8, Math.min(6, this.view.scale * factor));
    const share = 1 - this.view.scale / scale;
    this.#flyTo({ x: this.view.x + (x - this.view.x) * share, y: this.view.y + (y - this.view.y) * share, scale });
  }

  #resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    this.size = { width, height };
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
    this.view = this.#fitted(document.querySelector("input[name=view]:checked").value);
    this.#draw();
  }

  #pointer() {
    let drag = null;
    const local = (event) => [event.offsetX, event.offsetY];
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse") return; // a finger scrolls the page; views and buttons are for it
      drag = { from: local(event), view: { ...this.view }, moved: false };
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const [x, y] = local(event);
      if (!drag) return this.#tip(this.#near(x, y, 6), x, y);
      const [dx, dy] = [x - drag.from[0], y - drag.from[1]];
      drag.moved ||= Math.hypot(dx, dy) > 4;
      if (drag.moved) {
        this.view = { ...this.view, x: drag.view.x - dx / this.view.scale, y: drag.view.y - dy / this.view.scale };
        this.#tip(null);
        this.#plan();
      }
    });
    this.canvas.addEventListener("pointerup", () => { if (!drag?.moved) drag = null; });
    this.canvas.addEventListener("click", (event) => {
      const moved = drag?.moved;
      drag = null;
      const found = moved ? null : this.#near(...local(event), 10);
      if (found) this.onPick(found.city);
    });
    this.canvas.addEventListener("pointerleave", () => this.#tip(null));
    this.canvas.addEventListener("dblclick", (event) => this.#zoom(2, this.#unit(...local(event))));
  }

  #unit(x, y) {
    return [this.view.x + (x - this.size.width / 2) / this.view.scale, this.view.y + (y - this.size.height / 2) / this.view.scale];
  }

  #pixel([x, y]) {
    return [(x - this.view.x) * this.view.scale + this.size.width / 2, (y - this.view.y) * this.view.scale + this.size.height / 2];
  }

  #radius(total) {
    const growth = Math.min(2.2, Math.max(1, (this.view.scale / this.#fitted("world").scale) ** 0.35));
    const room = Math.min(1, Math.max(0.55, this.size.width / 900));
    return Math.min(24, total ? 1.5 + 0.62 * Math.sqrt(total) : 1.2) * growth * room;
  }

  #near(x, y, reach) {
    let found = null;
    let best = Infinity;
    for (const one of this.cities) {
      const [cx, cy] = this.#pixel(one.at);
      const distance = Math.hypot(cx - x, cy - y);
      const radius = this.#radius(one.total);
      if (distance <= radius + reach && distance - radius / 2 < best) [found, best] = [one, distance - radius / 2];
    }
    return found;
  }

  #tip(found, x = 0, y = 0) {
    const tip = $("map-tip");
    tip.hidden = !found;
    this.canvas.style.cursor = found ? "pointer" : "";
    if (!found) return;
    const { city } = found;
    const counts = { products: number(city.products), services: number(city.services), companies: number(city.companies) };
    tip.replaceChildren(el("strong", {}, city.name), el("span", {}, t("tip.counts", counts)));
    tip.style.left = `${Math.min(x + 14, this.size.width - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(y + 14, this.size.height - tip.offsetHeight - 8)}px`;
  }

  #plan() {
    if (this.planned || !this.view) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      this.#draw();
    });
  }

  #draw() {
    const { context, view, size, colours } = this;
    const ratio = devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.sea;
    context.fillRect(0, 0, size.width, size.height);
    const [dx, dy] = [size.width / 2 - view.x * view.scale, size.height / 2 - view.y * view.scale];
    context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * dx, ratio * dy);
    context.lineWidth = 0.7 / view.scale;
    this.#grid();
    context.fillStyle = colours.land;
    context.fill(this.land, "evenodd");
    context.strokeStyle = colours.shore;
    context.stroke(this.land);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#circles();
    this.#labels();
    this.#rings();
  }

  #grid() {
    this.context.strokeStyle = this.colours.grid;
    this.context.beginPath();
    for (let longitude = -180; longitude <= 180; longitude += 30) {
      this.context.moveTo(longitude * 10, -2000);
      this.context.lineTo(longitude * 10, 2000);
    }
    for (let latitude = -60; latitude <= 75; latitude += 15) {
      const [, y] = project(latitude, 0);
      this.context.moveTo(-1800, y);
      this.context.lineTo(1800, y);
    }
    this.context.stroke();
  }

  #circles() {
    const { context, size, colours } = this;
    context.fillStyle = colours.circle;
    context.strokeStyle = colours["circle-line"];
    context.lineWidth = 1;
    for (const one of this.cities) {
      const [x, y] = this.#pixel(one.at);
      const radius = this.#radius(one.total);
      if (x < -radius || y < -radius || x > size.width + radius || y > size.height + radius) continue;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      if (one.total) context.fill();
      context.stroke();
    }
  }

  /** Names of the largest, where there is room. */
  #labels() {
    const { context, size, colours } = this;
    const taken = [];
    context.font = this.font;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3;
    context.strokeStyle = colours.land;
    context.fillStyle = colours.ink;
    for (const one of this.cities.slice(0, 60)) {
      if (taken.length >= Math.max(4, size.width / 70) || !one.total) break;
      const [x, y] = this.#pixel(one.at);
      const left = x + this.#radius(one.total) + 4;
      const name = one.city.name.split(",")[0];
      const box = [left, y - 8, left + context.measureText(name).width, y + 8];
      const outside = box[0] < 0 || box[1] < 40 || box[2] > size.width - 4 || box[3] > size.height - 4;
      if (outside || taken.some((other) => box[0] < other[2] + 6 && box[2] + 6 > other[0] && box[1] < other[3] && box[3] > other[1])) continue;
      taken.push(box);
      context.strokeText(name, left, y);
      context.fillText(name, left, y);
    }
  }

  /** A ring that widens and fades around what changed; a still one for who wants no motion. */
  #rings() {
    const { context, colours } = this;
    const now = performance.now();
    for (const one of this.cities) {
      const pulse = this.pulses.get(one.city.id);
      if (!pulse) continue;
      const share = (now - pulse.at) / PULSE_MS;
      if (share >= 1) {
        this.pulses.delete(one.city.id);
        continue;
      }
      const [x, y] = this.#pixel(one.at);
      context.globalAlpha = calm() ? 1 : 1 - share;
      context.strokeStyle = pulse.up ? colours.up : colours.down;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, this.#radius(one.total) + 3 + (calm() ? 0 : 16 * share), 0, 2 * Math.PI);
      context.stroke();
      context.globalAlpha = 1;
    }
    if (this.pulses.size) this.#plan();
  }
}

// A plot over time: axes with round ticks, linear or logarithmic, gaps where nothing was measured, a cursor for
// pointer and keyboard, and all of it in words for who cannot see it.
import { el, svg } from "./dom.js";
import { clock, formatter } from "./text.js";

const DRAGGED = 8; // pixels that are meant
const DAY = 86400000;
const DATE = { day: "numeric", month: "short" };
export const MARGIN = { top: 10, right: 12, bottom: 24, left: 66 };

export class Plot {
  /** `series`: [{name, key, style}]; `options`: {log, format, words(), gap, target(), told(), onCursor(index), onRange(from, to)}. */
  constructor(place, series, options) {
    this.place = place;
    this.series = series;
    this.options = options;
    this.points = [];
    this.cursor = null;
    this.title = el("h3", {});
    this.legend = el("ul", { class: "legend" });
    this.svg = svg("svg", { "aria-hidden": "true" });
    this.frame = el("div", { class: "frame", tabindex: "0", role: "group" }, this.svg);
    this.spoken = el("p", { class: "sr", "aria-live": "polite" });
    place.append(el("div", { class: "plot-head" }, this.title, this.legend), this.frame, this.spoken);
    new ResizeObserver(() => this.draw()).observe(this.frame);
    this.frame.addEventListener("pointerdown", (event) => this.#grab(event));
    this.frame.addEventListener("pointermove", (event) => this.#point(event));
    this.frame.addEventListener("pointerup", (event) => this.#let(event));
    this.frame.addEventListener("pointercancel", () => this.#drop());
    this.frame.addEventListener("pointerleave", () => this.#tell(null));
    this.frame.addEventListener("keydown", (event) => this.#key(event));
    this.frame.addEventListener("blur", () => this.#tell(null));
  }

  /** Points have `at` in ms and a value for each key, null where there is none; `from` and `to` in ms. */
  show(points, from, to) {
    Object.assign(this, { points, from, to });
    this.cursor = null;
    this.draw();
  }

  draw() {
    const { width, height } = this.frame.getBoundingClientRect();
    if (!width || this.from === undefined) return;
    Object.assign(this, { width, height });
    this.scale = this.#scale();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.marker = svg("g", { class: "cursor" });
    this.range = svg("rect", { class: "range", y: MARGIN.top, height: height - MARGIN.top - MARGIN.bottom });
    this.svg.replaceChildren(this.#axes(), ...this.#target(), ...this.series.map((one) => this.#line(one)), this.range, this.marker);
    this.#words();
    this.move(this.cursor);
  }

  x(at) {
    return MARGIN.left + ((at - this.from) / (this.to - this.from)) * (this.width - MARGIN.left - MARGIN.right);
  }

  y(value) {
    const { low, high } = this.scale;
    const share = this.options.log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low);
    return this.height - MARGIN.bottom - share * (this.height - MARGIN.top - MARGIN.bottom);
  }

  values(key) {
    return this.points.map((point) => point[key]).filter((value) => value !== null && value !== undefined);
  }

  #scale() {
    const values = this.series.flatMap(({ key }) => this.values(key));
    const [least, most] = [Math.min(...values, Infinity), Math.max(...values, 0)];
    if (this.options.log) {
      const low = 10 ** Math.floor(Math.log10(Math.max(0.1, Math.min(least, 1))));
      const high = 10 ** Math.ceil(Math.log10(Math.max(most * 1.05, low * 100)));
      return { low, high, ticks: logTicks(low, high) };
    }
    const step = roundStep(Math.max(most, 1) / (this.height < 150 ? 2 : 4));
    const high = Math.max(step, Math.ceil(most / step) * step);
    return { low: 0, high, ticks: Array.from({ length: Math.round(high / step) + 1 }, (_, index) => index * step) };
  }

  #axes() {
    const group = svg("g", { class: "axes" });
    for (const value of this.scale.ticks) {
      const y = this.y(value);
      group.append(svg("line", { x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }));
      group.append(svg("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, this.options.format(value)));
    }
    const { step, style } = timeStep(this.to - this.from, (this.width - MARGIN.left) / 76);
    const offset = new Date(this.from).getTimezoneOffset() * 60000;
    for (let at = Math.ceil((this.from - offset) / step) * step + offset; at <= this.to; at += step) {
      const x = this.x(at);
      if (x > this.width - 24 || x < MARGIN.left + 8) continue;
      const isDay = this.to - this.from > 2 * DAY && (at - offset) % DAY === 0;
      const text = formatter(Intl.DateTimeFormat, isDay ? DATE : style).format(at);
      group.append(svg("line", { class: "tick", x1: x, x2: x, y1: this.height - MARGIN.bottom, y2: this.height - MARGIN.bottom + 4 }));
      group.append(svg("text", { x, y: this.height - 6, "text-anchor": "middle" }, text));
    }
    return group;
  }

  /** Where a value should stay below. */
  #target() {
    const found = this.options.target?.();
    if (!found || found.value > this.scale.high) return [];
    const y = this.y(found.value);
    return [svg("line", { class: "target", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }),
      svg("text", { class: "target", x: MARGIN.left + 4, y: y - 4 }, found.name)];
  }

  #line({ key, style }) {
    const step = this.points.length > 1 ? this.points[1].at - this.points[0].at : 0;
    const gap = this.options.gap ?? 3 * step;
    let path = "";
    let last = null;
    for (const point of this.points) {
      const value = point[key];
      if (value === null || value === undefined) { last = null; continue; }
      const joined = last !== null && point.at - last < gap;
      path += `${joined ? "L" : "M"}${this.x(point.at).toFixed(1)},${this.y(value).toFixed(1)}${joined ? "" : "h.01"}`;
      last = point.at;
    }
    return svg("path", { class: `series ${style}`, d: path });
  }

  #words() {
    const { title, range, label, entry, empty } = this.options.words();
    this.title.textContent = title;
    const told = this.series.map(({ key, name }) => ({ name: name(), values: this.values(key) })).filter(({ values }) => values.length)
      .map(({ name, values }) => entry(name, this.options.format(values.at(-1)), this.options.format(Math.max(...values))));
    this.frame.setAttribute("aria-label", label(title, range, told.join("; ") || empty));
    this.frame.dataset.empty = told.length ? "" : empty;
  }

  #legend(point) {
    this.legend.replaceChildren(...this.series.map(({ key, name, style }) => {
      const value = point?.[key];
      const line = svg("svg", { viewBox: "0 0 18 8", "aria-hidden": "true" }, svg("path", { class: `series ${style}`, d: "M0,4H18" }));
      return el("li", {}, line, el("span", {}, name()), el("b", {}, value === null || value === undefined ? "–" : this.options.format(value)));
    }), ...(this.cursor === null ? [] : [el("li", { class: "at" }, clock(new Date(point.at).toISOString(), this.to - this.from < 7200000))]));
  }

  /** Set the cursor, of all plots that share it. */
  #tell(index) {
    this.move(index);
    this.options.onCursor?.(index);
  }

  move(index) {
    this.cursor = index;
    const point = this.points[index ?? this.points.length - 1];
    this.#legend(point);
    if (!this.marker) return;
    this.marker.replaceChildren();
    if (index === null || !point) return;
    const x = this.x(point.at);
    this.marker.append(svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: this.height - MARGIN.bottom }));
    for (const { key, style } of this.series) {
      if (point[key] !== null && point[key] !== undefined) {
        this.marker.append(svg("circle", { class: `spot ${style}`, cx: x, cy: this.y(point[key]), r: 3.5 }));
      }
    }
  }

  /** The time below the pointer, in ms. */
  #time(event) {
    const share = (event.clientX - this.frame.getBoundingClientRect().left - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    return this.from + Math.max(0, Math.min(1, share)) * (this.to - this.from);
  }

  #point(event) {
    const at = this.#time(event);
    if (this.grabbed !== undefined && event.pointerId === this.pointer) this.#stretch(this.grabbed, at);
    let best = null;
    this.points.forEach((point, index) => {
      if (best === null || Math.abs(point.at - at) < Math.abs(this.points[best].at - at)) best = index;
    });
    if (best !== null) this.#tell(best);
  }

  /** A mouse draws a range; a finger scrolls. */
  #grab(event) {
    if (!this.options.onRange || event.button !== 0 || event.pointerType === "touch" || this.from === undefined) return;
    Object.assign(this, { grabbed: this.#time(event), pointer: event.pointerId });
    this.frame.setPointerCapture(event.pointerId);
  }

  #let(event) {
    if (this.grabbed === undefined) return;
    const [from, to] = [this.grabbed, this.#time(event)].sort((one, other) => one - other);
    this.#drop();
    if (this.x(to) - this.x(from) >= DRAGGED) this.options.onRange(from, to);
  }

  #drop() {
    this.grabbed = undefined;
    this.range?.removeAttribute("width");
  }

  #stretch(one, other) {
    const [from, to] = [this.x(Math.min(one, other)), this.x(Math.max(one, other))];
    this.range.setAttribute("x", from);
    this.range.setAttribute("width", to - from);
  }

  /** Half of the range or twice of it, around the cursor. */
  #zoom(factor) {
    const middle = this.points[this.cursor]?.at ?? (this.from + this.to) / 2;
    const half = ((this.to - this.from) * factor) / 2;
    this.options.onRange(middle - half, middle + half);
  }

  #key(event) {
    if (this.from === undefined) return;
    const last = this.points.length - 1;
    if (this.options.onRange && "+-".includes(event.key)) {
      event.preventDefault();
      this.#zoom(event.key === "+" ? 0.5 : 2);
    }
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -last, End: last };
    if (!(event.key in steps) || last < 0) return;
    event.preventDefault();
    this.#tell(Math.max(0, Math.min(last, (this.cursor ?? last) + steps[event.key])));
    const parts = [...this.legend.children].map((item) => [...item.children].map((part) => part.textContent).join(" ").trim() || item.textContent);
    this.spoken.textContent = [...parts, this.options.told?.()].filter(Boolean).join(", ");
  }
}

function logTicks(low, high) {
  const ticks = [];
  for (let value = low; value <= high * 1.001; value *= 10) ticks.push(value);
  return ticks;
}

function roundStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return Math.max(1, [1, 2, 5, 10].find((factor) => factor * power >= raw) * power);
}

function timeStep(span, most) {
  const minute = 60000;
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880].map((minutes) => minutes * minute);
  const step = steps.find((one) => span / one <= most) ?? steps.at(-1);
  return { step, style: step >= DAY ? DATE : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } };
}

// Reads single values off a plot: the nearest to the pointer, or from point to point by arrow keys.

import { make } from "/page/dom.js";
import { formatNumber, formatSeconds } from "/page/format.js";
import { draw } from "/page/svg.js";

const REACH = 60;

export class Reader {
  #drawing;
  #mark;
  #shown = null;
  #place = null;
  #dot = draw("circle", { r: 4, class: "dot" });

  /** Read off `drawing`; `mark` is told the key of the curve that is read, or null. */
  constructor(drawing, mark) {
    this.#drawing = drawing;
    this.#mark = mark;
    this.element = make("output", { className: "tip", hidden: true });
    drawing.addEventListener("pointermove", (event) => this.#follow(event));
    drawing.addEventListener("pointerdown", (event) => this.#follow(event));
    drawing.addEventListener("pointerleave", () => this.#leave());
    drawing.addEventListener("blur", () => this.#leave());
    drawing.addEventListener("keydown", (event) => this.#step(event));
  }

  /** Read what is shown now: curves, axes and options of the plot; null: there is nothing. */
  watch(shown) {
    this.#shown = shown;
    if (this.#place === null) return;
    const { key, across } = this.#place;
    const curve = shown?.curves.find((one) => one.key === key);
    const index = curve ? findNearest(curve.points, across) : -1;
    if (index < 0) this.#leave();
    else this.#tell(curve, index);
  }

  #follow({ offsetX, offsetY }) {
    if (this.#shown === null) return;
    const { curves, x, y } = this.#shown;
    let best = null;
    for (const curve of curves) {
      const index = findNearest(curve.points, offsetX, x.at);
      if (index < 0) continue;
      const [across, up] = curve.points[index];
      const distance = Math.hypot(x.at(across) - offsetX, y.at(up) - offsetY);
      if (best === null || distance < best.distance) best = { curve, index, distance };
    }
    if (best === null || best.distance > REACH) this.#leave();
    else this.#tell(best.curve, best.index);
  }

  #step(event) {
    if (event.key === "Escape") return this.#leave();
    const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const over = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const curves = this.#shown?.curves.filter(({ points }) => points.some(isFinitePoint)) ?? [];
    if ((!along && !over) || curves.length === 0) return undefined;
    event.preventDefault();
    const at = Math.max(0, curves.findIndex(({ key }) => key === this.#place?.key));
    const curve = curves[(at + (over ?? 0) + curves.length) % curves.length];
    const { points } = curve;
    const from = findNearest(points, this.#place?.across ?? points[0][0]);
    let index = from;
    if (along && this.#place) {
      do index += along; while (points[index] && !isFinitePoint(points[index]));
    }
    return this.#tell(curve, points[index] ? index : from);
  }

  #tell(curve, index) {
    const { x, y, box, options } = this.#shown;
    const [across, up] = curve.points[index];
    this.#place = { key: curve.key, across };
    const where = options.across === "time" ? formatSeconds(across) : `step ${formatNumber(across)}`;
    this.element.textContent = `${curve.name}: ${options.format(up)} at ${where}`;
    this.element.hidden = false;
    const [left, top] = [x.at(across), y.at(up)];
    const isRight = left > (box.left + box.right) / 2;
    this.element.style.left = isRight ? "" : `${left + 10}px`;
    this.element.style.right = isRight ? `${this.#drawing.clientWidth - left + 10}px` : "";
    this.element.style.top = `${Math.max(0, top - 34)}px`;
    this.#dot.setAttribute("cx", left);
    this.#dot.setAttribute("cy", top);
    this.#drawing.append(this.#dot);
    this.#mark(curve.key);
  }

  #leave() {
    this.#place = null;
    this.element.hidden = true;
    this.#dot.remove();
    this.#mark(null);
  }
}

const isFinitePoint = ([, up]) => Number.isFinite(up);

/** The index of the point nearest to `wanted` across; -1: none has a value. */
function findNearest(points, wanted, at = (value) => value) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(points[middle][0]) < wanted) low = middle + 1;
    else high = middle;
  }
  let before = low - 1;
  let after = low;
  while (before >= 0 && !isFinitePoint(points[before])) before -= 1;
  while (after < points.length && !isFinitePoint(points[after])) after += 1;
  if (before < 0) return after < points.length ? after : -1;
  if (after >= points.length) return before;
  const [left, right] = [wanted - at(points[before][0]), at(points[after][0]) - wanted];
  return left < right ? before : after;
}

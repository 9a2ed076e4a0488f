// A plot of curves, drawn to the width that there is; its values are read by pointer or by arrow keys.

import { Looks } from "/page/colors.js";
import { make } from "/page/dom.js";
import { formatNumber, formatSeconds } from "/page/format.js";
import { Legend } from "/page/legend.js";
import { Reader } from "/page/plotreader.js";
import { findRange, linearAxis, logAxis, timeAxis } from "/page/scale.js";
import { draw, writePath } from "/page/svg.js";

const HEIGHT = 260;
const EDGE = { top: 10, right: 14, bottom: 36 };
const LETTER = 7;
const GREATEST = 1e300; // differences of greater ones may be none any more

export class Plot {
  #curves = [];
  #isLog = false;
  #looks;
  #hidden = new Set();
  #options;
  #drawing = draw("svg", { class: "plot", role: "img", tabindex: 0, height: HEIGHT });
  #legend;
  #reader;

  /**
   * Make an empty plot; `element` is what is shown.
   *
   * `label` names it, `across` what the values stand over: "steps", or "time" for seconds.
   * `format` writes a value, `up` is the axis of values; plots with the same `looks` paint alike.
   */
  constructor({ label, across = "steps", format = formatNumber, up = linearAxis, looks = new Looks() }) {
    this.#options = { label, across, format, up };
    this.#looks = looks;
    this.#legend = new Legend(this.#looks, {
      toggle: (key) => this.#toggle(key),
      point: (key) => this.#mark(key),
    });
    this.#reader = new Reader(this.#drawing, (key) => this.#mark(key));
    const frame = make("div", { className: "frame" }, this.#drawing, this.#reader.element);
    this.element = make("figure", { className: "figure" }, frame, this.#legend.element);
    new ResizeObserver(() => this.#render()).observe(frame);
  }

  /**
   * Show these curves: each has a `key`, a `name`, the `points` ([across, up], in order), and for
   * the legend perhaps a `link` and `words`.
   */
  show(curves, { isLog = false } = {}) {
    this.#curves = curves;
    this.#isLog = isLog;
    this.#legend.show(curves, this.#hidden);
    this.#render();
  }

  #toggle(key) {
    if (!this.#hidden.delete(key)) this.#hidden.add(key);
    this.#legend.show(this.#curves, this.#hidden);
    this.#render();
  }

  #mark(key) {
    for (const path of this.#drawing.querySelectorAll(".curve")) {
      path.classList.toggle("marked", path.dataset.key === String(key));
    }
    this.#drawing.classList.toggle("has-marked", key !== null);
  }

  #render() {
    const width = this.#drawing.parentElement.clientWidth;
    if (!width) return;
    const curves = this.#listVisible();
    const { label } = this.#options;
    this.#drawing.setAttribute("width", width);
    this.#drawing.setAttribute("aria-label", `${label}: ${curves.length} curves. Arrow keys read values.`);
    const axes = this.#layOut(curves, width);
    if (axes === null) {
      this.#drawing.replaceChildren(
        draw("text", { x: width / 2, y: HEIGHT / 2, class: "mark middle" }, "Nothing to show yet"),
      );
      this.#reader.watch(null);
      return;
    }
    this.#drawing.replaceChildren(...this.#drawAxes(axes), ...this.#drawCurves(curves, axes));
    this.#reader.watch({ curves, ...axes, options: this.#options });
  }

  /** The curves that are not switched off, of a logarithmic plot without what has no logarithm. */
  #listVisible() {
    const isShown = ([, up]) => Math.abs(up) <= GREATEST && (!this.#isLog || up > 0);
    return this.#curves
      .filter(({ key }) => !this.#hidden.has(key))
      .map((curve) => ({
        ...curve,
        points: curve.points.map((point) => (isShown(point) ? point : [point[0], NaN])),
      }));
  }

  #layOut(curves, width) {
    const across = findRange(curves.flatMap(({ points }) => points.map(([x]) => x)));
    const up = findRange(curves.flatMap(({ points }) => points.map(([, y]) => y)));
    if (across === null || up === null) return null;
    const tall = HEIGHT - EDGE.top - EDGE.bottom;
    const y = (this.#isLog ? logAxis : this.#options.up)(up, tall, tall / 32);
    const longest = Math.max(0, ...y.marks.map((mark) => this.#options.format(mark).length));
    const left = longest * LETTER + 12;
    const wide = Math.max(40, width - left - EDGE.right);
    const x = this.#options.across === "time"
      ? timeAxis(across, wide, wide / 90)
      : linearAxis(across, wide, wide / 64);
    return {
      x: { ...x, at: (value) => left + x.at(value) },
      y: { ...y, at: (value) => HEIGHT - EDGE.bottom - y.at(value) },
      box: { left, right: left + wide, top: EDGE.top, bottom: HEIGHT - EDGE.bottom },
    };
  }

  #drawAxes({ x, y, box }) {
    const { across, format } = this.#options;
    const down = x.marks.map((mark) => {
      const place = x.at(mark).toFixed(1);
      const words = across === "time" ? formatSeconds(mark) : formatNumber(mark);
      return draw(
        "g",
        {},
        draw("line", { x1: place, x2: place, y1: box.bottom, y2: box.bottom + 4, class: "axis" }),
        draw("text", { x: place, y: box.bottom + 17, class: "mark middle" }, words),
      );
    });
    const over = y.marks.map((mark) => {
      const place = y.at(mark).toFixed(1);
      return draw(
        "g",
        {},
        draw("line", { x1: box.left, x2: box.right, y1: place, y2: place, class: "grid" }),
        draw("text", { x: box.left - 6, y: place, class: "mark end" }, format(mark)),
      );
    });
    const base = { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" };
    const name = { x: (box.left + box.right) / 2, y: HEIGHT - 4, class: "mark middle" };
    return [...over, ...down, draw("line", base), draw("text", name, across)];
  }

  #drawCurves(curves, { x, y }) {
    return curves.map(({ key, points }) => draw("path", {
      class: `curve ${this.#looks.classesOf(key)}${points.length === 1 ? " lone" : ""}`,
      "data-key": key,
      d: writePath(points.map(([across, up]) => [x.at(across), y.at(up)])),
    }));
  }
}

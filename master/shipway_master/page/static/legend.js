// What the curves of a plot are called; each can be switched off and on.

import { make, update } from "/page/dom.js";
import { draw } from "/page/svg.js";

export class Legend {
  #looks;
  #on;

  /** `on.toggle` is told the key of a curve to switch, `on.point` of one to point out, or null. */
  constructor(looks, on) {
    this.#looks = looks;
    this.#on = on;
    this.element = make("ul", { className: "curves", "aria-label": "Curves" });
  }

  /** Show these curves, of which those with `hidden` keys are off. */
  show(curves, hidden) {
    update(this.element, ...curves.map((curve) => this.#draw(curve, !hidden.has(curve.key))));
  }

  #draw({ key, name, link, words }, isOn) {
    const sample = draw("svg", { width: 26, height: 10, "aria-hidden": "true" },
      draw("path", { class: `curve ${this.#looks.classesOf(key)}`, d: "M2 5L24 5" }));
    const toggle = make(
      "button",
      { type: "button", className: "sample", "aria-pressed": String(isOn), "aria-label": `Show ${name}` },
      sample,
    );
    toggle.addEventListener("click", () => this.#on.toggle(key));
    const item = make(
      "li",
      { "data-key": String(key) },
      toggle,
      link ?? make("span", {}, name),
      ...(words ? [make("span", { className: "quiet words", title: words }, words)] : []),
    );
    item.addEventListener("pointerenter", () => this.#on.point(key));
    item.addEventListener("pointerleave", () => this.#on.point(null));
    return item;
  }
}

// What tells curves apart: colours that the colour-blind can tell apart too, and dashes when they run out.

const COLORS = 6;
const DASHES = 4;

/** Gives each key a look of its own, the same as long as the view is shown. */
export class Looks {
  #places = new Map();

  /** The classes of what has this key. */
  classesOf(key) {
    if (!this.#places.has(key)) this.#places.set(key, this.#places.size);
    const place = this.#places.get(key);
    return `color-${place % COLORS} dash-${Math.floor(place / COLORS) % DASHES}`;
  }
}

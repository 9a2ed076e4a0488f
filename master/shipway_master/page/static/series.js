// A series of any length in few points: when there are too many, neighbours become their mean.

const MOST_POINTS = 800;

export class Series {
  points = [];
  #span = 1;
  #open = { count: 0, moment: 0, sum: 0 };

  /** The moment of the first reading, in seconds. */
  get begin() {
    return this.points.length ? this.points[0][0] : this.#open.moment || Infinity;
  }

  /** Add a reading; readings come in the order of time. */
  add(moment, value) {
    const open = this.#open;
    if (open.count === 0) open.moment = moment;
    open.count += 1;
    open.sum += value;
    if (open.count < this.#span) return;
    this.points.push([open.moment, open.sum / open.count]);
    this.#open = { count: 0, moment: 0, sum: 0 };
    if (this.points.length >= MOST_POINTS) this.#halve();
  }

  #halve() {
    const old = this.points;
    this.points = [];
    for (let place = 0; place + 1 < old.length; place += 2) {
      const [[moment, one], [, other]] = [old[place], old[place + 1]];
      this.points.push([moment, (one + other) / 2]);
    }
    this.#span *= 2;
  }
}

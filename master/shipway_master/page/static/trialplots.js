// The metrics of one trial, each in a plot of its own with a curve for each group that reports it.

import { get, query } from "/page/api.js";
import { Looks } from "/page/colors.js";
import { make, update } from "/page/dom.js";
import { groupOfKey, isOfMachine } from "/page/metricgroups.js";
import { Plot } from "/page/plot.js";

const MOST_PLOTS = 8;
const MOST_POINTS = 400;

export class TrialPlots {
  #page;
  #trial = null;
  #drawn = "";
  #plots = new Map();
  #looks = new Looks(); // one for all: a group has one colour
  #note = make("p", { className: "quiet" });
  #grid = make("div", { className: "plots" });
  #filter = make("input", {
    type: "search",
    placeholder: "Only metrics with …",
    "aria-label": "Only metrics with",
    hidden: true,
  });

  /** Show them in `section`. */
  constructor(page, section) {
    this.#page = page;
    this.#filter.addEventListener("input", () => page.act(() => this.#draw()));
    section.replaceChildren(
      make("h2", {}, "Metrics"),
      make("div", { className: "bar" }, this.#filter),
      this.#note,
      this.#grid,
    );
  }

  /** Show the metrics of a trial as it is now; only what is new is asked for. */
  async show(trial) {
    this.#trial = trial;
    await this.#draw();
  }

  async #draw() {
    const { id, summaryMetrics } = this.#trial;
    const all = listMetrics(summaryMetrics);
    const fitting = [...all.keys()].filter((name) => name.includes(this.#filter.value)).sort();
    const names = fitting.slice(0, MOST_PLOTS);
    const now = JSON.stringify([names, summaryMetrics]);
    if (now === this.#drawn) return;
    this.#drawn = now;
    this.#filter.hidden = all.size <= MOST_PLOTS;
    this.#note.textContent = tellHowMany(names.length, fitting.length);
    update(this.#grid, ...names.map((name) => this.#find(name).frame));
    if (names.length === 0) return;
    const metricIds = names.flatMap((name) => all.get(name).map((group) => `${group}.${name}`));
    const asked = query({ trialIds: id, metricIds, maxDatapoints: MOST_POINTS });
    const { trials } = await get(`/trials/time-series?${asked}`, this.#page.signal);
    for (const name of names) this.#find(name).plot.show(listCurves(trials[0].metrics, name));
  }

  #find(name) {
    if (!this.#plots.has(name)) {
      const plot = new Plot({ label: name, looks: this.#looks });
      const frame = make("article", { "data-metric": name }, make("h3", {}, name), plot.element);
      this.#plots.set(name, { plot, frame });
    }
    return this.#plots.get(name);
  }
}

/** The groups of each numeric metric, by its name. */
function listMetrics(summary) {
  const found = new Map();
  for (const [key, metrics] of Object.entries(summary ?? {})) {
    const group = groupOfKey(key);
    if (isOfMachine(group)) continue;
    for (const [name, { type }] of Object.entries(metrics)) {
      if (type === "number") found.set(name, [...(found.get(name) ?? []), group]);
    }
  }
  return found;
}

function tellHowMany(shown, fitting) {
  if (fitting === 0) return "It has reported no metrics yet.";
  return shown < fitting ? `${shown} of ${fitting} metrics` : "";
}

const listCurves = (groups, name) => groups
  .map(({ group, data }) => ({
    key: group,
    name: group,
    points: data
      .filter(({ values }) => name in values)
      .map(({ batches, values }) => [batches, Number(values[name])]),
  }))
  .filter(({ points }) => points.length > 0);

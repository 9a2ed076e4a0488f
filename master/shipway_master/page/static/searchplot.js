// One metric of all trials of an experiment together, while they train.

import { query, stream } from "/page/api.js";
import { make, update } from "/page/dom.js";
import { formatHparams } from "/page/format.js";
import { linkToTrial } from "/page/links.js";
import { isOfMachine } from "/page/metricgroups.js";
import { Plot } from "/page/plot.js";
import { pause, whileSeen } from "/page/seen.js";

const MOST_TRIALS = 100;
const MOST_POINTS = 400;

/** Show the plot; `isLive` tells whether more may come. */
export function showSearchPlot(page, section, { id, searcherMetric, isLive }) {
  const { signal, repeat, tell } = page;
  const select = make("select", { id: "metric", "aria-label": "Metric" });
  const log = make("input", { type: "checkbox", id: "logarithmic" });
  const note = make("span", { className: "quiet" });
  const plot = new Plot({ label: "Metric of all trials" });
  section.replaceChildren(
    make("h2", {}, "Metrics"),
    make("div", { className: "bar" }, select, make("label", {}, log, " logarithmic"), note),
    plot.element,
  );

  const sample = new Sample();
  let waiting = false;
  const show = () => {
    waiting = false;
    const curves = sample.listCurves();
    plot.show(curves, { isLog: log.checked });
    note.textContent = curves.length === MOST_TRIALS ? `the best ${MOST_TRIALS} trials` : "";
  };
  const showSoon = () => {
    if (!waiting) requestAnimationFrame(show);
    waiting = true;
  };

  let choice = new AbortController();
  let isWhole = false;
  async function follow(asking) {
    if (!select.value || (isWhole && !isLive())) return;
    const [group, metricName] = JSON.parse(select.value);
    const asked = query({
      metricName, group, maxTrials: MOST_TRIALS, maxDatapoints: MOST_POINTS, periodSeconds: 1,
    });
    await whileSeen(asking, async (seen) => {
      sample.clear();
      for await (const news of stream(`/experiments/${id}/metrics-stream/trials-sample?${asked}`, seen)) {
        sample.take(news);
        showSoon();
        if (sample.isLong) return; // asked for anew, the master thins it out
      }
      isWhole = !isLive();
    });
  }

  /** Follow what is chosen, and begin anew whenever that ends, breaks off, or is changed. */
  async function keepFollowing() {
    while (!signal.aborted) {
      const mine = choice.signal;
      try {
        await follow(AbortSignal.any([signal, mine]));
      } catch (error) {
        if (!mine.aborted) tell(error);
      }
      await pause(2000, mine);
    }
  }
  const choose = () => {
    choice.abort();
    choice = new AbortController();
    isWhole = false;
    sample.clear();
    show();
  };
  select.addEventListener("change", choose);
  log.addEventListener("change", show);
  keepFollowing();
  repeat(async () => {
    if (await listNames(select, { id, searcherMetric, signal })) choose();
  }, 5, signal);
}

/** Offer the metrics that there are by now; tells whether these are the first ones. */
async function listNames(select, { id, searcherMetric, signal }) {
  const path = `/experiments/metrics-stream/metric-names?${query({ ids: id, periodSeconds: 60 })}`;
  let names = [];
  for await (const first of stream(path, signal)) {
    names = first.metricNames.filter(({ group }) => !isOfMachine(group));
    break;
  }
  const groups = [...new Set(names.map(({ group }) => group))].sort().reverse(); // validation first
  const isFirst = select.options.length === 0 && names.length > 0;
  update(select, ...groups.map((group) => make(
    "optgroup",
    { label: group },
    ...names.filter((one) => one.group === group).map(({ name }) =>
      make("option", { value: JSON.stringify([group, name]) }, name)),
  )));
  const judge = JSON.stringify(["validation", searcherMetric]);
  if (isFirst && [...select.options].some(({ value }) => value === judge)) select.value = judge;
  return isFirst;
}

/** What a stream has told of the trials. */
class Sample {
  #trials = new Map();

  clear() {
    this.#trials.clear();
  }

  take({ trials, demotedTrials }) {
    for (const id of demotedTrials) this.#trials.delete(id);
    for (const { trialId, hparams, data } of trials) {
      const trial = this.#trials.get(trialId) ?? { hparams, points: [] };
      for (const { batches, values } of data) {
        trial.points.push([batches, Number(Object.values(values)[0])]);
      }
      this.#trials.set(trialId, trial);
    }
  }

  /** Whether more points have come than a plot shows. */
  get isLong() {
    return [...this.#trials.values()].some(({ points }) => points.length > 4 * MOST_POINTS);
  }

  listCurves() {
    const ids = [...this.#trials.keys()].sort((one, other) => one - other);
    return ids.map((id) => {
      const { hparams, points } = this.#trials.get(id);
      const name = `Trial ${id}`;
      return { key: id, name, link: linkToTrial(id, name), words: formatHparams(hparams), points };
    });
  }
}

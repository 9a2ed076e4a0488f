// What the hardware did under a trial: read by the agent, and by the profiler of the harness.

import { get, query, stream } from "/page/api.js";
import { make, update } from "/page/dom.js";
import { formatBytes, formatNumber } from "/page/format.js";
import { Plot } from "/page/plot.js";
import { bytesAxis } from "/page/scale.js";
import { pause, whileSeen } from "/page/seen.js";
import { Series } from "/page/series.js";

const WORDS = {
  cpu_util_simple: "Processors",
  gpu_util: "GPU",
  gpu_free_memory: "GPU memory, free",
  gpu_used_memory: "GPU memory, used",
  gpu_temperature: "GPU temperature",
  gpu_power: "GPU power",
  memory_free: "Memory, free",
  disk_util: "Disk, full",
  disk_iops: "Disk operations",
  disk_throughput_read: "Disk, read",
  disk_throughput_write: "Disk, written",
  net_throughput_sent: "Network, sent",
  net_throughput_recv: "Network, received",
};
const FIRST = Object.keys(WORDS);
const MOST_POINTS = 400;

/** Fill `details`; readings are asked for when it is opened. */
export function showHardware(page, details, id, isLive) {
  const note = make("p", { className: "quiet" });
  const grid = make("div", { className: "plots" });
  details.replaceChildren(make("summary", {}, "Hardware"), note, grid);
  const plots = new Map();
  const readings = new Readings();

  let waiting = false;
  const show = () => {
    waiting = false;
    const names = readings.listNames();
    note.textContent = names.length ? "" : "There are no readings: they come with profiling.enabled.";
    update(grid, ...names.map((name) => find(plots, name).frame));
    for (const name of names) find(plots, name).plot.show(readings.listCurves(name));
  };
  const showSoon = () => {
    if (!waiting) setTimeout(show, 200);
    waiting = true;
  };

  async function follow(seen) {
    readings.clear();
    const asked = query({ trialIds: id, metricType: "METRIC_TYPE_PROFILING", maxDatapoints: MOST_POINTS });
    const { trials } = await get(`/trials/time-series?${asked}`, seen);
    for (const { data } of trials[0].metrics) data.forEach((point) => readings.takePoint(point));
    showSoon();
    const path = `/trials/${id}/profiler/metrics?${query({ follow: isLive() })}`;
    for await (const { batch } of stream(path, seen)) {
      readings.takeBatch(batch);
      showSoon();
    }
  }

  async function keepFollowing() {
    do {
      try {
        await whileSeen(page.signal, follow);
      } catch (error) {
        page.tell(error);
      }
      await pause(5000, page.signal);
    } while (!page.signal.aborted && isLive());
  }
  details.addEventListener("toggle", keepFollowing, { once: true });
}

function find(plots, name) {
  if (!plots.has(name)) {
    const label = WORDS[name] ?? name;
    const up = hasBytes(name) ? bytesAxis : undefined;
    const plot = new Plot({ label, across: "time", format: chooseFormat(name), up });
    const frame = make("article", { "data-metric": name }, make("h3", {}, label), plot.element);
    plots.set(name, { plot, frame });
  }
  return plots.get(name);
}

const hasBytes = (name) => name.includes("throughput") || name.includes("memory");

function chooseFormat(name) {
  if (name.includes("throughput")) return (value) => `${formatBytes(value)}/s`;
  if (hasBytes(name)) return formatBytes;
  const unit = name.includes("util") ? " %" : { gpu_temperature: " °C", gpu_power: " W" }[name] ?? "";
  return (value) => `${formatNumber(value)}${unit}`;
}

/** All series of a trial, by what was measured and where. */
class Readings {
  #agents = new Map();
  #harness = new Map();

  clear() {
    this.#agents.clear();
    this.#harness.clear();
  }

  /** Take readings of the agent: one series, some moments. */
  takeBatch({ labels, timestamps, values }) {
    const series = findSeries(this.#agents, labels.name, join(labels.agentId, labels.gpuUuid));
    timestamps.forEach((moment, index) => series.add(Date.parse(moment) / 1000, Number(values[index])));
  }

  /** Take a report of the harness: one moment, some series, named by node, device and measure. */
  takePoint({ time, values }) {
    for (const [path, value] of Object.entries(values)) {
      const place = path.lastIndexOf(".");
      const [where, name] = [path.slice(0, Math.max(0, place)), path.slice(place + 1)];
      findSeries(this.#harness, name, where).add(Date.parse(time) / 1000, Number(value));
    }
  }

  #listSeries() {
    const places = [this.#agents, this.#harness].flatMap((measures) => [...measures.values()]);
    return places.flatMap((one) => [...one.values()]);
  }

  listNames() {
    const names = new Set([...this.#agents.keys(), ...this.#harness.keys()]);
    const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
    return [...names].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
  }

  /** The curves of one measure, over the seconds since the first reading of all. */
  listCurves(name) {
    const found = this.#agents.get(name) ?? this.#harness.get(name); // both may have read the same
    const begin = Math.min(...this.#listSeries().map((series) => series.begin));
    return [...found.keys()].sort().map((where) => ({
      key: where,
      name: where || "reading",
      points: found.get(where).points.map(([moment, value]) => [moment - begin, value]),
    }));
  }
}

const join = (...parts) => parts.filter(Boolean).join(" ");

function findSeries(all, name, where) {
  if (!all.has(name)) all.set(name, new Map());
  const found = all.get(name);
  if (!found.has(where)) found.set(where, new Series());
  return found.get(where);
}

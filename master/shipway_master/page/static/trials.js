// The trials of an experiment as a table.

import { get, query } from "/page/api.js";
import { ago, make } from "/page/dom.js";
import { drawState } from "/page/experimentparts.js";
import { formatBytes, formatHparams, formatNumber, listLeaves } from "/page/format.js";
import { linkToTrial } from "/page/links.js";
import { showListing } from "/page/listing.js";

export function showTrials(page, section, { id, searcherMetric }) {
  const list = make("div");
  section.replaceChildren(make("h2", {}, "Trials"), list);
  showListing(page, list, {
    sort: "SORT_BY_ID",
    columns: listColumns(searcherMetric),
    whenEmpty: "It has no trial yet.",
    load: async (range) => {
      const path = `/experiments/${id}/trials?${query(range)}`;
      const { trials, pagination } = await get(path, page.signal);
      return { items: trials, total: pagination.total };
    },
  });
}

const listColumns = (metric) => [
  { title: "Id", sort: "SORT_BY_ID", cell: (one) => linkToTrial(one.id) },
  { title: "State", sort: "SORT_BY_STATE", cell: drawState },
  { title: "Hyperparameters", cell: ({ hparams }) => drawHparams(hparams) },
  {
    title: `Best ${metric}`,
    sort: "SORT_BY_BEST_VALIDATION_METRIC",
    cell: (one) => drawMetric(one.bestValidation, metric),
  },
  {
    title: `Latest ${metric}`,
    sort: "SORT_BY_LATEST_VALIDATION_METRIC",
    cell: (one) => drawMetric(one.latestValidation, metric),
  },
  { title: "Steps", sort: "SORT_BY_BATCHES_PROCESSED", cell: (one) => one.totalBatchesProcessed },
  { title: "Restarts", sort: "SORT_BY_RESTARTS", cell: (one) => one.restarts },
  {
    title: "Checkpoints",
    sort: "SORT_BY_CHECKPOINT_SIZE",
    cell: (one) =>
      one.checkpointCount ? `${one.checkpointCount}, ${formatBytes(one.totalCheckpointSize)}` : "",
  },
  { title: "Started", sort: "SORT_BY_START_TIME", cell: (one) => ago(one.startTime) },
];

export function drawHparams(hparams) {
  const words = formatHparams(hparams);
  return make("span", { className: "words", title: words }, words);
}

/** The value of a metric in a report of a trial; it may stand in nested objects. */
export function drawMetric(workload, metric) {
  const found = listLeaves(workload?.metrics?.avgMetrics ?? {}).find(([name]) => name === metric);
  return found ? make("span", { className: "value" }, formatNumber(found[1])) : "";
}

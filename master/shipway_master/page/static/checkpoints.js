// The checkpoints of an experiment or a trial, with what leads to their files.

import { get, query } from "/page/api.js";
import { ago, make } from "/page/dom.js";
import { drawState } from "/page/experimentparts.js";
import { formatBytes, formatNumber } from "/page/format.js";
import { linkToTrial } from "/page/links.js";
import { showListing } from "/page/listing.js";

const WITH_FILES = ["STATE_COMPLETED", "STATE_PARTIALLY_DELETED"];

/** Show what `path` of the API has of them. */
export function showCheckpoints(page, section, path) {
  const list = make("div", { className: "checkpoints" });
  section.replaceChildren(make("h2", {}, "Checkpoints"), list);
  showListing(page, list, {
    sort: "SORT_BY_END_TIME",
    columns: COLUMNS,
    rows: 20, // each has the whole configuration with it
    whenEmpty: "There is no checkpoint.",
    load: async ({ sortBy, ...range }) => {
      const asked = query({ ...range, sortByAttr: sortBy });
      const { checkpoints, pagination } = await get(`${path}/checkpoints?${asked}`, page.signal);
      return { items: checkpoints, total: pagination.total };
    },
  });
}

const COLUMNS = [
  {
    title: "Checkpoint",
    cell: (one) => make("code", { title: one.uuid }, one.uuid.slice(0, 8)),
  },
  {
    title: "Trial",
    sort: "SORT_BY_TRIAL_ID",
    cell: ({ training }) => (training.trialId === undefined ? "" : linkToTrial(training.trialId)),
  },
  { title: "Steps", sort: "SORT_BY_BATCH_NUMBER", cell: (one) => one.metadata.steps_completed },
  {
    title: "Metric",
    sort: "SORT_BY_SEARCHER_METRIC",
    cell: ({ training }) =>
      training.searcherMetric === undefined ? "" : formatNumber(training.searcherMetric),
  },
  { title: "State", sort: "SORT_BY_STATE", cell: drawState },
  {
    title: "Size",
    cell: (one) => formatBytes(Object.values(one.resources).reduce((sum, size) => sum + Number(size), 0)),
  },
  {
    title: "Written",
    sort: "SORT_BY_END_TIME",
    cell: (one) => (one.reportTime ? ago(one.reportTime) : ""),
  },
  { title: "Files", cell: drawDownload },
];

/** The master itself packs the files; the session's cookie says who asks. */
function drawDownload({ uuid, state }) {
  if (!WITH_FILES.includes(state)) return "";
  return make(
    "a",
    {
      href: `/checkpoints/${encodeURIComponent(uuid)}`,
      download: "",
      "aria-label": `Download checkpoint ${uuid}`,
    },
    "Download",
  );
}

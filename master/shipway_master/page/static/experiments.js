// The experiments: chosen by name, state and owner, page by page, and acted on together.

import { get, query } from "/page/api.js";
import { ago, make, update } from "/page/dom.js";
import { drawActions, drawProgress, drawState } from "/page/experimentparts.js";
import { formatNumber } from "/page/format.js";
import { linkToExperiment } from "/page/links.js";
import { showListing } from "/page/listing.js";

const STATES = ["active", "queued", "running", "paused", "completed", "canceled", "error"];

export function showExperiments(page, wanted) {
  const { main, user, signal } = page;
  const fields = makeFields(wanted);
  const actions = make("div", { className: "bar", role: "group", "aria-label": "With the chosen" });
  const list = make("section");
  const form = make(
    "form",
    { className: "bar", role: "search" },
    fields.name,
    fields.state,
    make("label", {}, fields.mine, " only mine"),
    make("label", {}, fields.archived, " archived"),
  );
  main.replaceChildren(make("h2", {}, "Experiments"), form, actions, list);

  const chosen = new Map();
  let again = () => {};
  const drawChosen = () => update(
    actions,
    make("span", { className: "quiet" }, tellHowMany(chosen.size)),
    ...drawActions([...chosen.values()], (work) => page.act(async () => {
      try {
        await work();
      } finally {
        chosen.clear();
        drawChosen();
        again();
      }
    })),
  );

  async function load(range) {
    const asked = query({
      ...range,
      name: fields.name.value,
      states: fields.state.value && `STATE_${fields.state.value.toUpperCase()}`,
      archived: fields.archived.checked,
      userIds: fields.mine.checked ? user.id : "",
      showTrialData: true,
    });
    const { experiments, pagination } = await get(`/experiments?${asked}`, signal);
    for (const one of experiments) if (chosen.has(one.id)) chosen.set(one.id, one);
    drawChosen();
    return { items: experiments, total: pagination.total };
  }

  const choose = (experiment) => {
    const isMine = user.admin || user.id === experiment.userId;
    const box = make("input", {
      type: "checkbox",
      id: `choose-${experiment.id}`,
      disabled: !isMine,
      "aria-label": `Choose experiment ${experiment.id}`,
    });
    box.checked = chosen.has(experiment.id);
    box.addEventListener("change", () => {
      if (box.checked) chosen.set(experiment.id, experiment);
      else chosen.delete(experiment.id);
      drawChosen();
    });
    return box;
  };
  again = showListing(page, list, {
    load,
    sort: "SORT_BY_ID",
    columns: [{ title: "", cell: choose }, ...COLUMNS],
    whenEmpty: "There is no such experiment.",
  });

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    chosen.clear();
    history.replaceState(null, "", `#/experiments?${remember(fields)}`);
    again();
  });
}

const tellHowMany = (count) => (count ? `${count} chosen:` : "Choose some to act on them.");

const COLUMNS = [
  { title: "Id", sort: "SORT_BY_ID", cell: (one) => linkToExperiment(one.id) },
  {
    title: "Name",
    sort: "SORT_BY_NAME",
    cell: (one) => make("span", { className: "words", title: one.description }, one.name),
  },
  { title: "State", sort: "SORT_BY_STATE", cell: drawState },
  { title: "Progress", sort: "SORT_BY_PROGRESS", cell: drawProgress },
  { title: "Searcher", cell: (one) => one.searcherType },
  { title: "Trials", sort: "SORT_BY_NUM_TRIALS", cell: (one) => one.numTrials },
  { title: "Best", sort: "SORT_BY_SEARCHER_METRIC_VAL", cell: drawBest },
  { title: "Owner", sort: "SORT_BY_USER", cell: (one) => one.username },
  { title: "Project", cell: (one) => `${one.workspaceName} / ${one.projectName}` },
  { title: "Started", sort: "SORT_BY_START_TIME", cell: (one) => ago(one.startTime) },
];

function drawBest({ bestTrialSearcherMetric: value, searcherMetric }) {
  if (value === undefined) return "";
  return make("span", { className: "value", title: searcherMetric }, formatNumber(value));
}

function makeFields(wanted) {
  const state = make(
    "select",
    { name: "state", "aria-label": "State" },
    make("option", { value: "" }, "any state"),
    ...STATES.map((one) => make("option", { value: one }, one)),
  );
  state.value = STATES.includes(wanted.get("state")) ? wanted.get("state") : "";
  const box = (name) => make("input", { type: "checkbox", name, checked: wanted.has(name) });
  const name = make("input", {
    type: "search",
    name: "name",
    value: wanted.get("name") ?? "",
    placeholder: "Name with …",
    "aria-label": "Name with",
  });
  return { name, state, mine: box("mine"), archived: box("archived") };
}

/** The filters as a part of the address, so that it can be passed on. */
const remember = (fields) => query({
  name: fields.name.value,
  state: fields.state.value,
  mine: fields.mine.checked ? 1 : "",
  archived: fields.archived.checked ? 1 : "",
});

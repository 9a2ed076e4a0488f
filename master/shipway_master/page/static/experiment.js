// One experiment: what it is, what its trials measure, their table, checkpoints, configuration, code.

import { get } from "/page/api.js";
import { showCheckpoints } from "/page/checkpoints.js";
import { showCode } from "/page/code.js";
import { ago, facts, make, update } from "/page/dom.js";
import { drawActions, drawProgress, drawState, hasEnded } from "/page/experimentparts.js";
import { formatSeconds, formatState } from "/page/format.js";
import { linkToExperiment, linkToTrial } from "/page/links.js";
import { showSearchPlot } from "/page/searchplot.js";
import { showTrials } from "/page/trials.js";

export function showExperiment(page, id) {
  const { main, user, act, repeat, signal } = page;
  const head = make("section");
  const plot = make("section");
  const trials = make("section");
  const checkpoints = make("section");
  const config = make("details", { id: "config" });
  const code = make("details", { id: "code" });
  main.replaceChildren(head, plot, trials, checkpoints, config, code);

  let known = null;
  async function look() {
    const answer = await get(`/experiments/${id}`, signal);
    const isMine = user.admin || user.id === answer.experiment.userId;
    const run = (work) => act(async () => {
      await work();
      await look();
    });
    update(head, ...describe(answer, isMine ? drawActions([answer.experiment], run) : []));
    update(config, ...drawConfig(answer));
    if (known === null) {
      const { searcherMetric } = answer.experiment;
      showSearchPlot(page, plot, { id, searcherMetric, isLive: () => !hasEnded(known) });
      showTrials(page, trials, { id, searcherMetric });
      showCheckpoints(page, checkpoints, `/experiments/${id}`);
      showCode(page, code, id);
    }
    known = answer.experiment;
  }
  repeat(look, 3, signal);
}

function describe({ experiment, jobSummary }, actions) {
  const isWaiting = jobSummary?.state === "STATE_QUEUED" && jobSummary.jobsAhead >= 0;
  return [
    make("h2", {}, `Experiment ${experiment.id}: ${experiment.name}`),
    make("div", { className: "bar" }, drawState(experiment), drawProgress(experiment), ...actions),
    facts({
      Description: experiment.description,
      Owner: experiment.username,
      Project: `${experiment.workspaceName} / ${experiment.projectName}`,
      Pool: experiment.resourcePool,
      Queue: isWaiting ? `waits, ${jobSummary.jobsAhead} ahead` : "",
      Searcher: [experiment.searcherType, experiment.searcherMetric].filter(Boolean).join(" by "),
      Labels: experiment.labels.join(", "),
      Started: ago(experiment.startTime),
      Ended: experiment.endTime ? `${ago(experiment.endTime)}, ${formatState(experiment.state)}` : "",
      Took: experiment.endTime ? formatSeconds(experiment.duration ?? 0) : "",
      "Made from": experiment.forkedFrom === null ? "" : linkToExperiment(experiment.forkedFrom),
      "Best trial": experiment.bestTrialId === undefined ? "" : linkToTrial(experiment.bestTrialId),
      Runs: experiment.unmanaged ? "outside of the cluster" : "",
      Archived: experiment.archived ? "yes" : "",
      Notes: experiment.notes,
    }),
  ];
}

const drawConfig = ({ experiment, config }) => [
  make("summary", {}, "Configuration"),
  make("h3", {}, "As it was sent"),
  make("pre", { tabIndex: 0 }, experiment.originalConfig),
  make("h3", {}, "In use, with template and defaults"),
  make("pre", { tabIndex: 0 }, JSON.stringify(config, null, 2)),
];

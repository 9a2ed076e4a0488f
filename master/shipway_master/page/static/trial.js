// One trial: what it is, its metrics, its hardware, its checkpoints, and its log while it is written.

import { get, post } from "/page/api.js";
import { showCheckpoints } from "/page/checkpoints.js";
import { ago, facts, make, sureButton, update } from "/page/dom.js";
import { drawState, hasEnded } from "/page/experimentparts.js";
import { formatBytes, formatHparams, formatSeconds } from "/page/format.js";
import { showHardware } from "/page/hardware.js";
import { linkToExperiment, linkToTask, linkToTrial } from "/page/links.js";
import { showLog } from "/page/log.js";
import { TrialPlots } from "/page/trialplots.js";
import { drawMetric } from "/page/trials.js";

const LATE_MS = 60000;

export function showTrial(page, id) {
  const { main, user, act, repeat, signal } = page;
  const head = make("section");
  const metrics = make("section");
  const hardware = make("details", { id: "hardware" });
  const checkpoints = make("section");
  const log = make("section");
  main.replaceChildren(head, metrics, hardware, checkpoints, log);
  const plots = new TrialPlots(page, metrics);

  let known = null;
  let experiment = null;
  async function look() {
    const { trial } = await get(`/trials/${id}`, signal);
    experiment ??= (await get(`/experiments/${trial.experimentId}`, signal)).experiment;
    const isMine = user.admin || user.id === experiment.userId;
    const kill = () => act(async () => {
      await post(`/trials/${id}/kill`);
      await look();
    });
    const actions = isMine && !hasEnded(trial) ? [sureButton("Kill", kill, { id: "kill" })] : [];
    update(head, ...describe(trial, experiment, actions));
    const isFirst = known === null;
    known = trial;
    if (isFirst) {
      showHardware(page, hardware, id, () => mayBeRead(known));
      showCheckpoints(page, checkpoints, `/trials/${id}`);
      showLog(page, log, `/trials/${id}`);
    }
    await plots.show(trial);
  }
  repeat(look, 3, signal);
}

/** Whether readings of the hardware may still come; the last ones come after the end. */
const mayBeRead = (trial) => !hasEnded(trial) || Date.now() - Date.parse(trial.endTime) < LATE_MS;

function describe(trial, experiment, actions) {
  const { searcherMetric } = experiment;
  const isSearch = experiment.numTrials > 1;
  return [
    make(
      "h2",
      {},
      `Trial ${trial.id} of `,
      linkToExperiment(experiment.id, `experiment ${experiment.id}: ${experiment.name}`),
    ),
    make("div", { className: "bar" }, drawState(trial), ...actions),
    facts({
      Doing: trial.runnerState,
      Hyperparameters: formatHparams(trial.hparams),
      [`Best ${searcherMetric}`]: drawMetric(trial.bestValidation, searcherMetric),
      [`Latest ${searcherMetric}`]: drawMetric(trial.latestValidation, searcherMetric),
      Steps: trial.totalBatchesProcessed,
      Restarts: trial.restarts,
      Checkpoints: trial.checkpointCount
        ? `${trial.checkpointCount}, ${formatBytes(trial.totalCheckpointSize)}`
        : "",
      Started: ago(trial.startTime),
      Ended: trial.endTime ? ago(trial.endTime) : "",
      Ran: trial.wallClockTime ? formatSeconds(trial.wallClockTime) : "",
      Task: trial.taskId ? linkToTask(trial.taskId) : "",
      "Best of all": isSearch && experiment.bestTrialId !== undefined
        ? linkToTrial(experiment.bestTrialId, `trial ${experiment.bestTrialId}`)
        : "",
      "Log policy": trial.logPolicyMatched,
    }),
  ];
}

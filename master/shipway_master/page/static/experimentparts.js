// What views of experiments have in common: states, progress, and what may be done.

import { post } from "/page/api.js";
import { button, make, sureButton } from "/page/dom.js";
import { formatState } from "/page/format.js";

const FINAL = ["STATE_COMPLETED", "STATE_CANCELED", "STATE_ERROR", "STATE_DELETE_FAILED"];

export const hasEnded = (one) => FINAL.includes(one.state);
const isEnding = (one) => hasEnded(one) || one.state.startsWith("STATE_STOPPING");
const isOurs = (one) => !one.unmanaged; // what runs elsewhere cannot be held up from here

/** What may be done with experiments, under which name, and with which of them. */
const ACTIONS = [
  { verb: "activate", text: "Activate", fits: (one) => isOurs(one) && one.state === "STATE_PAUSED" },
  { verb: "pause", text: "Pause", fits: (one) => isOurs(one) && !isEnding(one) && one.state !== "STATE_PAUSED" },
  { verb: "cancel", text: "Cancel", fits: (one) => !isEnding(one), isFinal: true },
  { verb: "kill", text: "Kill", fits: (one) => !hasEnded(one), isFinal: true },
  { verb: "archive", text: "Archive", fits: (one) => hasEnded(one) && !one.archived },
  { verb: "unarchive", text: "Unarchive", fits: (one) => one.archived },
];

/** Make a button for each action that fits one of `experiments`. */
export function drawActions(experiments, run) {
  return ACTIONS.filter(({ fits }) => experiments.some(fits)).map(({ verb, text, fits, isFinal }) => {
    const ids = experiments.filter(fits).map((one) => one.id);
    const draw = isFinal ? sureButton : button;
    return draw(text, () => run(() => doTo(verb, ids)), { "data-verb": verb, "data-ids": ids.join() });
  });
}

async function doTo(verb, experimentIds) {
  const { results } = await post(`/projects/0/experiments/${verb}`, { experimentIds });
  const failed = results.filter((result) => result.error);
  if (failed.length === 0) return;
  throw new Error(failed.map(({ id, error }) => `Experiment ${id}: ${error}`).join("; "));
}

/** The state of an experiment or a trial. */
export const drawState = ({ state }) =>
  make("span", { className: "state", "data-state": formatState(state).split(" ")[0] }, formatState(state));

/** How much of an experiment is done. */
export function drawProgress({ progress }) {
  if (progress === null || progress === undefined) return "";
  const words = `${Math.round(progress * 100)} %`;
  const bar = make("progress", { max: 1, value: progress, "aria-label": "Progress" }, words);
  return make("span", { className: "progress" }, bar, ` ${words}`);
}

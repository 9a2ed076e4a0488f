// One task: what it is, its runs, and its log while it is written.

import { get, post } from "/page/api.js";
import { ago, button, facts, make, table } from "/page/dom.js";
import { showLog } from "/page/log.js";

export function showTask(page, id) {
  const { main, act, repeat, signal } = page;
  const head = make("section");
  const log = make("section");
  main.replaceChildren(head, log);
  const path = `/tasks/${encodeURIComponent(id)}`;

  async function look() {
    const { task } = await get(path, signal);
    head.replaceChildren(...describe(task, () => act(async () => {
      await kill(task);
      await look();
    })));
  }
  repeat(look, 3, signal);
  showLog(page, log, path);
}

const FOLDERS = {
  TASK_TYPE_GENERIC: "tasks",
  TASK_TYPE_NOTEBOOK: "notebooks",
  TASK_TYPE_SHELL: "shells",
  TASK_TYPE_TENSORBOARD: "tensorboards",
};
const WITH_PAGES = ["TASK_TYPE_NOTEBOOK", "TASK_TYPE_TENSORBOARD"];

const kill = (task) =>
  post(`/${FOLDERS[task.taskType] ?? "commands"}/${encodeURIComponent(task.taskId)}/kill`);

/** The link to the page that a task serves, once that answers. */
function listPages(task) {
  const isThere = WITH_PAGES.includes(task.taskType) && !task.endTime;
  if (!isThere || !task.allocations?.[0]?.isReady) return [];
  const href = `/det/interactive/${encodeURIComponent(task.taskId)}/`;
  return [make("a", { href, id: "open", target: "_blank", rel: "noopener" }, "Open")];
}

function describe(task, onKill) {
  const config = JSON.parse(task.config || "{}");
  const about = {
    Type: task.taskType.replace("TASK_TYPE_", "").toLowerCase(),
    Description: config.description,
    Entrypoint: [config.entrypoint ?? []].flat().join(" "),
    Pool: config.resources?.resource_pool,
    Slots: config.resources?.slots,
    Started: ago(task.startTime),
    Ended: task.endTime ? ago(task.endTime) : "",
  };
  return [
    make(
      "h2",
      {},
      `Task ${task.taskId} `,
      ...listPages(task),
      ...(task.endTime ? [] : [button("Kill", onKill, { id: "kill" })]),
    ),
    facts(about),
    table(
      ["Run", "State", "Slots", "Started", "Exit"],
      (task.allocations ?? []).map((run) => [
        run.allocationId.split(".").pop(),
        run.state.replace("STATE_", "").toLowerCase(),
        run.slots,
        run.startTime ? ago(run.startTime) : "",
        [run.statusCode ?? "", run.exitReason ?? ""].filter((part) => part !== "").join(": "),
      ]),
      "It has had no run yet.",
    ),
  ];
}

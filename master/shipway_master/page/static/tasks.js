// The tasks that live, and the commands that ended within a day.

import { get } from "/page/api.js";
import { ago, make, table } from "/page/dom.js";
import { linkToJob, linkToTask } from "/page/links.js";

export function showTasks({ main, repeat, signal }) {
  const live = make("section");
  const ended = make("section");
  main.replaceChildren(live, ended);

  repeat(async () => {
    const [jobs, commands] = await Promise.all([
      get("/job-queues-v2?limit=500", signal),
      get("/commands?orderBy=ORDER_BY_DESC&sortBy=SORT_BY_START_TIME&limit=200", signal),
    ]);
    live.replaceChildren(
      make("h2", {}, "Live"),
      table(
        ["Task", "Type", "Name", "User", "Pool", "Slots", "Submitted"],
        jobs.jobs.map(({ full: job }) => [
          linkToJob(job),
          job.type.replace("TYPE_", "").toLowerCase(),
          job.name,
          job.username,
          job.resourcePool,
          job.requestedSlots,
          ago(job.submissionTime),
        ]),
        "No task lives.",
      ),
    );
    ended.replaceChildren(
      make("h2", {}, "Commands that have ended"),
      table(
        ["Task", "Name", "User", "Pool", "Exit", "Started"],
        commands.commands
          .filter((command) => command.state === "STATE_TERMINATED")
          .map((command) => [
            linkToTask(command.id),
            command.description,
            command.username,
            command.resourcePool,
            command.exitStatus,
            ago(command.startTime),
          ]),
        "None within a day.",
      ),
    );
  }, 3, signal);
}

// Links from view to view.

import { make } from "/page/dom.js";

const link = (path, text, properties = {}) => make("a", { href: `#${path}`, ...properties }, text);

export const linkToTask = (id) => link(`/tasks/${encodeURIComponent(id)}`, id.slice(0, 8));
export const linkToExperiment = (id, text = id) => link(`/experiments/${id}`, text);
export const linkToTrial = (id, text = id) => link(`/trials/${id}`, text);

/** A link from the queue to what waits in it. */
export const linkToJob = (job) =>
  job.type === "TYPE_EXPERIMENT"
    ? linkToExperiment(job.entityId, `Experiment ${job.entityId}`)
    : linkToTask(job.entityId);

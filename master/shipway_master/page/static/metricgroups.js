// The groups that metrics are reported in.

const MACHINE_GROUPS = ["gpu", "cpu", "memory", "disk", "network"];
const KEYS = { avg_metrics: "training", validation_metrics: "validation" };

/** Whether a group tells of the hardware, and not of the training. */
export const isOfMachine = (group) => MACHINE_GROUPS.includes(group);

/** The group that a summary of metrics has under a key, which for two of them is an old name. */
export const groupOfKey = (key) => KEYS[key] ?? key;

// Agents with a square for each slot, and the queue of each pool.

import { get, getOwn, post } from "/page/api.js";
import { ago, button, make, table } from "/page/dom.js";
import { linkToJob } from "/page/links.js";

const STATES = ["free", "busy", "draining", "disabled", "sick"];

export function showAgents({ main, user, act, repeat, signal }) {
  const agents = make("section");
  const queues = make("section");
  main.replaceChildren(agents, queues);

  let shown = "";

  async function look() {
    const [listed, health, pools, jobs] = await Promise.all([
      get("/agents", signal),
      getOwn("/page/slot-problems", signal),
      get("/resource-pools", signal),
      get("/job-queues-v2?limit=500", signal),
    ]);
    // Drawn anew only where something has changed: a button stays under the hand that presses it.
    const now = JSON.stringify([listed.agents, health]);
    if (now !== shown) drawAgents(agents, listed.agents, health, { user, act, look });
    shown = now;
    drawQueues(queues, pools.resourcePools, jobs.jobs.map((job) => job.full));
  }
  repeat(look, 2, signal);
}

function drawAgents(section, agents, problems, context) {
  const legend = STATES.map((state) =>
    make("span", {}, make("i", { className: "slot", "data-state": state }), state),
  );
  section.replaceChildren(
    make("h2", {}, "Agents"),
    make("p", { className: "legend" }, ...legend),
    agents.length
      ? make(
          "div",
          { className: "cards" },
          ...agents.map((agent) => drawAgent(agent, problems[agent.id] ?? {}, context)),
        )
      : make("p", { className: "quiet" }, "No agent has called in yet."),
  );
}

function drawAgent(agent, problems, { user, act, look }) {
  const slots = Object.values(agent.slots ?? {}).sort((a, b) => a.id - b.id);
  const change = (path, body) => () => act(async () => {
    await post(`/agents/${encodeURIComponent(agent.id)}${path}`, body);
    await look();
  });
  const actions = agent.enabled && !agent.draining
    ? [
        button("Drain", change("/disable", { drain: true }), { title: "What runs may end" }),
        button("Disable", change("/disable"), { title: "What runs is killed" }),
      ]
    : [button("Enable", change("/enable"))];
  return make(
    "article",
    { className: "card", "data-agent": agent.id },
    make(
      "div",
      { className: "head" },
      make("b", {}, agent.id),
      make("span", { className: "quiet" }, (agent.resourcePools ?? []).join(", ")),
    ),
    make("div", { className: "quiet" }, describe(agent, slots)),
    make("div", { className: "slots" }, ...slots.map((slot) =>
      drawSlot(slot, problems[slot.id], user.admin ? change : null),
    )),
    ...Object.entries(problems).map(([id, problem]) =>
      make("p", { className: "reason" }, `Slot ${id}: ${problem}`),
    ),
    ...(user.admin ? [make("div", { className: "actions" }, ...actions)] : []),
  );
}

function describe(agent, slots) {
  const brands = new Set(slots.map((slot) => slot.device?.brand || slot.device?.type));
  const state = agent.draining ? "draining" : agent.enabled ? "" : "disabled";
  return [
    `${slots.length} × ${[...brands].join(", ") || "no slots"}`,
    state,
    (agent.addresses ?? []).join(", "),
  ].filter(Boolean).join(" · ");
}

function stateOf(slot, problem) {
  if (problem) return "sick";
  if (slot.draining) return "draining";
  if (!slot.enabled) return "disabled";
  return slot.container ? "busy" : "free";
}

function drawSlot({ id, ...slot }, problem, change) {
  const state = stateOf(slot, problem);
  const title = [`Slot ${id}: ${state}`, slot.device?.brand, slot.device?.uuid, problem]
    .filter(Boolean)
    .join("\n");
  const properties = { className: "slot", "data-state": state, title };
  if (!change) return make("span", properties, id);
  const isOff = !slot.enabled || slot.draining;
  const path = `/slots/${encodeURIComponent(id)}/${isOff ? "enable" : "disable"}`;
  properties.title += isOff ? "\nClick to enable" : "\nClick to drain";
  return button(id, change(path, isOff ? {} : { drain: true }), properties);
}

function drawQueues(section, pools, jobs) {
  section.replaceChildren(
    ...pools.flatMap((pool) => [
      make("h2", {}, `Queue of ${pool.name} `, make("span", { className: "quiet" }, summary(pool))),
      table(
        ["Task", "Name", "User", "State", "Ahead", "Slots", "Priority", "Submitted"],
        jobs.filter((job) => job.resourcePool === pool.name).map(row),
        "Nothing runs or waits.",
      ),
    ]),
  );
}

function summary(pool) {
  const hosts = pool.numAgents === 1 ? "1 agent or node" : `${pool.numAgents} agents or nodes`;
  return `${pool.slotsUsed} of ${pool.slotsAvailable} slots used on ${hosts}`;
}

function row(job) {
  const waits = job.summary.state === "STATE_QUEUED";
  return [
    linkToJob(job),
    job.name,
    job.username,
    waits ? "waits" : "has its slots",
    waits && job.summary.jobsAhead >= 0 ? job.summary.jobsAhead : "",
    job.requestedSlots,
    job.priority,
    ago(job.submissionTime),
  ];
}

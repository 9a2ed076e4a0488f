// Which view is shown, and for whom; log-in before all. The views are the table below.

import { ApiError, get, getOwn, login, logout } from "/page/api.js";
import { showAgents } from "/page/agents.js";
import { button, make } from "/page/dom.js";
import { showExperiment } from "/page/experiment.js";
import { showExperiments } from "/page/experiments.js";
import { showTask } from "/page/task.js";
import { showTasks } from "/page/tasks.js";
import { showTrial } from "/page/trial.js";

const VIEWS = [
  [/^\/experiments$/, "Experiments", (page, _, query) => showExperiments(page, query)],
  [/^\/experiments\/(\d+)$/, "Experiment", (page, id) => showExperiment(page, Number(id))],
  [/^\/trials\/(\d+)$/, "Trial", (page, id) => showTrial(page, Number(id))],
  [/^\/tasks$/, "Tasks", (page) => showTasks(page)],
  [/^\/tasks\/(.+)$/, "Task", (page, id) => showTask(page, decodeURIComponent(id))],
  [/^/, "Agents", (page) => showAgents(page)],
];

const byId = (id) => document.getElementById(id);
const main = byId("main");

const HELD_MS = 10000; // what a person did wrong stays to be read

let leaving = new AbortController();
let failedAt = -HELD_MS;

/** Tell of an error where everyone sees it; null takes it away. */
function tell(error) {
  if (error?.name === "AbortError") return;
  if (error instanceof ApiError && error.status === 401) {
    location.reload();
    return;
  }
  byId("trouble").hidden = !error;
  byId("trouble").textContent = error ? error.message : "";
}

/** Do something again and again until the view is left. */
function repeat(work, seconds, signal) {
  const round = async () => {
    if (signal.aborted) return;
    try {
      if (!document.hidden) await work();
      if (!signal.aborted && performance.now() - failedAt > HELD_MS) tell(null);
    } catch (error) {
      tell(error);
    }
    if (!signal.aborted) setTimeout(round, seconds * 1000);
  };
  round();
}

/** Do what a button is for; tell if it failed. */
async function act(work) {
  try {
    await work();
    failedAt = -HELD_MS;
    tell(null);
  } catch (error) {
    failedAt = performance.now();
    tell(error);
  }
}

function showLogin() {
  const name = make("input", { name: "username", autocomplete: "username", required: true });
  const password = make("input", {
    name: "password",
    type: "password",
    autocomplete: "current-password",
  });
  const form = make(
    "form",
    { className: "login" },
    make("label", {}, "User", name),
    make("label", {}, "Password", password),
    make("button", { type: "submit" }, "Log in"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await login(name.value, password.value);
      location.reload();
    } catch (error) {
      byId("trouble").hidden = false;
      byId("trouble").textContent = error.message;
    }
  });
  main.replaceChildren(form);
  name.focus();
}

function route(user) {
  leaving.abort();
  leaving = new AbortController();
  tell(null);
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  for (const link of byId("nav").children) {
    if (link.getAttribute("href") === `#${path}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const page = { main, user, act, tell, repeat, signal: leaving.signal };
  const [pattern, name, show] = VIEWS.find(([one]) => one.test(path));
  const [, id] = path.match(pattern);
  const cluster = byId("cluster").textContent;
  document.title = [[name, id].filter(Boolean).join(" "), cluster, "Shipway"].filter(Boolean).join(" – ");
  show(page, id, new URLSearchParams(query));
}

async function begin() {
  const info = await getOwn("/info");
  byId("cluster").textContent = info.cluster_name;
  if (info.cluster_name) document.title = `${info.cluster_name} – Shipway`;
  let user;
  try {
    user = (await get("/me")).user;
  } catch (error) {
    if (error.status !== 401) throw error;
    showLogin();
    return;
  }
  byId("user").replaceChildren(
    `${user.username} `,
    button("Log out", () => act(async () => {
      await logout();
      location.reload();
    })),
  );
  byId("nav").hidden = false;
  const { clusterMessage } = await get("/master");
  byId("notice").hidden = !clusterMessage;
  byId("notice").textContent = clusterMessage?.message ?? "";
  addEventListener("hashchange", () => route(user));
  route(user);
}

begin().catch(tell);

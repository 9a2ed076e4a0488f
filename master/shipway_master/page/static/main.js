// Which view is shown, and for whom: #/ agents and queues, #/tasks, #/tasks/<id>; log-in before all.

import { ApiError, get, getOwn, login, logout } from "/page/api.js";
import { showAgents } from "/page/agents.js";
import { button, make } from "/page/dom.js";
import { showTask } from "/page/task.js";
import { showTasks } from "/page/tasks.js";

const byId = (id) => document.getElementById(id);
const main = byId("main");

let leaving = new AbortController();

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
      if (!signal.aborted) tell(null);
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
    tell(null);
  } catch (error) {
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
  const path = location.hash.slice(1) || "/";
  for (const link of byId("nav").children) {
    link.toggleAttribute("aria-current", link.getAttribute("href") === `#${path}`);
  }
  const page = { main, user, act, tell, repeat, signal: leaving.signal };
  const task = path.match(/^\/tasks\/(.+)$/);
  if (task) showTask(page, decodeURIComponent(task[1]));
  else if (path === "/tasks") showTasks(page);
  else showAgents(page);
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

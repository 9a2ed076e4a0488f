// The log of a task: its last lines, then each as it comes. Memory is bounded: old lines go.

import { stream } from "/page/api.js";
import { make } from "/page/dom.js";
import { pause, whileSeen } from "/page/seen.js";

const FIRST_LINES = 1000;
const MOST_LINES = 5000;

export function showLog({ signal, tell }, section, path) {
  const search = make("input", {
    type: "search",
    placeholder: "Only lines with …",
    "aria-label": "Only lines with",
  });
  const follow = make("input", { type: "checkbox", checked: true });
  const output = make("div", { className: "log", id: "log", tabIndex: 0 });
  section.replaceChildren(
    make("h2", {}, "Log"),
    make("div", { className: "logbar" }, search, make("label", {}, follow, " follow")),
    output,
  );

  const isWanted = (text) => text.toLowerCase().includes(search.value.toLowerCase());
  search.addEventListener("input", () => {
    for (const line of output.children) line.hidden = !isWanted(line.textContent);
  });

  let waiting = [];
  const flush = () => {
    output.append(...waiting);
    waiting = [];
    while (output.childElementCount > MOST_LINES) output.firstElementChild.remove();
    if (follow.checked) output.scrollTop = output.scrollHeight;
  };
  const add = (entry) => {
    const line = draw(entry);
    line.hidden = !isWanted(line.textContent);
    if (waiting.push(line) === 1) requestAnimationFrame(flush);
  };

  async function keepReading() {
    while (!signal.aborted) {
      try {
        await whileSeen(signal, (seen) => {
          waiting = [];
          output.replaceChildren();
          return read(path, seen, add);
        });
        return;
      } catch (error) {
        tell(error);
        if (error.status >= 400 && error.status < 500) return;
      }
      await pause(3000, signal); // the master may be about to start again
    }
  }
  keepReading();
}

async function read(path, signal, add) {
  const latest = [];
  const newestFirst = `${path}/logs?orderBy=ORDER_BY_DESC&limit=${FIRST_LINES}`;
  for await (const entry of stream(newestFirst, signal)) latest.push(entry);
  latest.reverse().forEach(add);
  let last = BigInt(latest.at(-1)?.id ?? 0); // those of trials are too long for a number
  // From a little earlier on, as several lines may have one time: ids tell which are new.
  const from = latest.at(-1)?.timestamp;
  const after = from ? `&timestampAfter=${new Date(Date.parse(from) - 60000).toISOString()}` : "";
  for await (const entry of stream(`${path}/logs?follow=true${after}`, signal)) {
    if (BigInt(entry.id) <= last) continue;
    last = BigInt(entry.id);
    add(entry);
  }
}

function draw(entry) {
  const parts = [make("time", {}, (entry.timestamp ?? "").slice(11, 19))];
  if (entry.rankId !== undefined && entry.rankId !== null) {
    parts.push(make("span", { className: "rank" }, `[rank=${entry.rankId}]`));
  }
  parts.push(make("span", { className: entry.level ?? "" }, entry.log.replace(/\n$/, "")));
  return make("div", {}, ...parts);
}

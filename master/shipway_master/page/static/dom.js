// Elements made of data. Text is always set as text: nothing that a task or a user named becomes markup.

/** Make an element: `make("td", { className: "number" }, 3, otherElement)`. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("data-") || name.startsWith("aria-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** A button that is off while what it does is under way. */
export function button(text, act, properties = {}) {
  const element = make("button", { type: "button", ...properties }, text);
  element.addEventListener("click", async () => {
    element.disabled = true;
    try {
      await act();
    } finally {
      element.disabled = false;
    }
  });
  return element;
}

/** A button for what cannot be undone: it asks, and acts when it is pressed again within seconds. */
export function sureButton(text, act, properties = {}) {
  let calm;
  const ask = (question) => {
    clearTimeout(calm);
    element.textContent = question ?? text;
    element.asks = Boolean(question);
    if (question) calm = setTimeout(ask, 4000);
  };
  const element = button(text, async () => {
    if (!element.asks) return ask(`${text}? Press again`);
    ask();
    return act();
  }, properties);
  return element;
}

/**
 * A table; `rows` are lists of cells, each text, a number or an element.
 *
 * A column is its name, or a head cell that was made for it.
 */
export function table(columns, rows, whenEmpty) {
  if (rows.length === 0) return make("p", { className: "quiet" }, whenEmpty);
  const head = (column) =>
    column instanceof Node ? column : make("th", { scope: "col" }, column);
  const cell = (value) =>
    make("td", { className: typeof value === "number" ? "number" : "" }, value ?? "");
  return make(
    "div",
    { className: "scroll" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...columns.map(head))),
      make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map(cell)))),
    ),
  );
}

/** A list of names and values; what has no value is left out. */
export function facts(values) {
  const rows = Object.entries(values).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  return make(
    "dl",
    { className: "facts" },
    ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

/**
 * Make `parent` hold `children`, and change only what differs: what is in use keeps its focus, its
 * place and its ticks.
 *
 * What listens to events and can be mistaken for another needs an id or data that tell them apart.
 */
export function update(parent, ...children) {
  if (parent.childNodes.length !== children.length) parent.replaceChildren(...children);
  else [...parent.childNodes].forEach((old, place) => renew(old, children[place]));
}

function renew(old, fresh) {
  if (old.isEqualNode(fresh) || old.asks) return; // a question waits for its answer
  if (!(old instanceof Element) || identify(old) !== identify(fresh)) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  update(old, ...fresh.childNodes);
}

const identify = ({ nodeName, id, dataset }) => [nodeName, id, ...Object.values(dataset)].join(" ");

/** How long ago a moment was, as people say it. */
export function ago(moment) {
  const seconds = Math.max(0, (Date.now() - Date.parse(moment)) / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

// The master's API, as the user who is logged in: the browser sends the session's cookie.

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Say what a browser's "network error" means here. */
function reword(error) {
  if (error.name === "AbortError") throw error;
  throw new ApiError(0, "the master does not answer");
}

async function request(verb, path, { body, signal, isStream = false } = {}) {
  const answer = await fetch(path, {
    method: verb,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "same-origin",
    signal,
  }).catch(reword);
  if (answer.ok) return isStream ? answer.body : answer.json();
  const told = await answer.json().catch(() => ({}));
  const words = told.error?.error ?? told.error?.message ?? told.message ?? answer.statusText;
  throw new ApiError(answer.status, words);
}

export const get = (path, signal) => request("GET", `/api/v1${path}`, { signal });
export const post = (path, body = {}) => request("POST", `/api/v1${path}`, { body });
export const getOwn = (path, signal) => request("GET", path, { signal });

/** Iterate over the results of a streaming call. */
export async function* stream(path, signal) {
  const body = await request("GET", `/api/v1${path}`, { signal, isStream: true });
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let isWhole = false;
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(reword);
      const lines = (rest + (value ?? "\n")).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line) continue;
        const item = JSON.parse(line);
        if (item.error) throw new ApiError(item.error.httpCode, item.error.message);
        yield item.result;
      }
      if (done) {
        isWhole = true;
        return;
      }
    }
  } finally {
    if (!isWhole) reader.cancel().catch(() => {}); // broken already, or not wanted any more
  }
}

/** Write a query; of a list each value by itself, and nothing of what is empty. */
export function query(values) {
  const pairs = Object.entries(values).flatMap(([name, value]) =>
    [value].flat().map((one) => [name, one]),
  );
  const given = pairs.filter(([, value]) => ![undefined, null, ""].includes(value));
  return new URLSearchParams(given).toString();
}

/** Log in; the master salts and hashes the password by itself. */
export const login = (username, password) =>
  post("/auth/login", { username, password, isHashed: false });

export const logout = () => post("/auth/logout");

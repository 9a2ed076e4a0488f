// Work that holds a connection is done only while the page is seen: a browser has six for all of its windows.

/** Do `work(signal)` to its end; when the page is hidden it is broken off, and begun again later. */
export async function whileSeen(signal, work) {
  for (;;) {
    await untilSeen(signal);
    const hidden = new AbortController();
    const watch = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", watch, { signal });
    try {
      return await work(AbortSignal.any([signal, hidden.signal]));
    } catch (error) {
      if (signal.aborted || !hidden.signal.aborted) throw error;
    } finally {
      document.removeEventListener("visibilitychange", watch);
    }
  }
}

function untilSeen(signal) {
  signal.throwIfAborted();
  if (!document.hidden) return undefined;
  return new Promise((resolve, reject) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Wait some time, or until `signal` is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    setTimeout(resolve, ms);
    signal.addEventListener("abort", resolve, { once: true });
  });
}

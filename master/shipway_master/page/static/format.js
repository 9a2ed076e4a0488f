// Numbers, sizes, times and states as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A number with as many digits as tell something. */
export function formatNumber(value) {
  if (typeof value === "string") return value; // NaN and the infinities come as text
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) {
    return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  return String(Number(value.toPrecision(5)));
}

/** A number of bytes. */
export function formatBytes(value) {
  let size = Number(value);
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${Number(size.toPrecision(3))} ${UNITS[unit]}`;
}

/** How long something took. */
export function formatSeconds(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return withRest(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return withRest(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return withRest(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

const withRest = (large, unit, small, smallUnit) =>
  `${large} ${unit}${small ? ` ${small} ${smallUnit}` : ""}`;

/** A state of the API in words: `STATE_STOPPING_ERROR` is "stopping error". */
export const formatState = (state) => state.replace("STATE_", "").replaceAll("_", " ").toLowerCase();

/** Nested hyperparameters as one line: `lr=0.1, net.depth=3`. */
export function formatHparams(hparams) {
  return listLeaves(hparams ?? {}).map(([name, value]) => `${name}=${formatValue(value)}`).join(", ");
}

/** The values in nested objects, with the names on the way and dots between. */
export function listLeaves(values, prefix = "") {
  return Object.entries(values).flatMap(([name, value]) =>
    isObject(value) ? listLeaves(value, `${prefix}${name}.`) : [[prefix + name, value]],
  );
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function formatValue(value) {
  if (typeof value === "number") return formatNumber(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

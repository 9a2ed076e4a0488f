// Where values lie on an axis, and at which of them it has marks.

const MOST_MARKS = 50;
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200,
  86400];

/** The least and the greatest of some numbers; null when there are none. */
export function findRange(numbers) {
  let low = Infinity;
  let high = -Infinity;
  for (const number of numbers) {
    if (!Number.isFinite(number)) continue;
    if (number < low) low = number;
    if (number > high) high = number;
  }
  return low <= high ? [low, high] : null;
}

/** An axis from `low` to `high` over `length` pixels, with about `count` marks at round values. */
export function linearAxis([low, high], length, count) {
  const step = roundUp((high - low || Math.abs(low) || 1) / Math.max(1, count));
  return evenAxis(low, high, length, step);
}

/** The same of seconds, with marks at times of day that people count in. */
export function timeAxis([low, high], length, count) {
  const wanted = (high - low || 1) / Math.max(1, count);
  const step = TIME_STEPS.find((one) => one >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
  return evenAxis(low, high, length, step);
}

/** The same of bytes, with marks at powers of two and their multiples. */
export function bytesAxis([low, high], length, count) {
  const wanted = (high - low || Math.abs(low) || 1) / Math.max(1, count);
  return evenAxis(low, high, length, 2 ** Math.ceil(Math.log2(wanted)));
}

/** An axis whose powers of ten are equally far apart; its range must be above 0. */
export function logAxis([low, high], length, count) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const [from, to] = [Math.log10(low), Math.log10(high)];
  const span = to - from || 1;
  const every = Math.max(1, Math.ceil((last - first) / Math.max(1, count)));
  const powers = [];
  for (let power = first; power <= last; power += every) powers.push(power);
  const finer = powers.length < 3 ? [1, 2, 5] : [1];
  const marks = powers.flatMap((power) => finer.map((digit) => Number(`${digit}e${power}`)));
  return {
    at: (value) => ((Math.log10(value) - from) / span) * length,
    marks: marks.filter((mark) => mark >= low && mark <= high),
  };
}

function evenAxis(low, high, length, step) {
  const isFlat = low === high;
  const [from, to] = isFlat ? [low - step, high + step] : [low, high];
  const first = Math.ceil(from / step);
  const marks = [];
  // Counted apart from the first one, which may be too great a number to grow by one.
  for (let more = 0; more < MOST_MARKS; more += 1) {
    const mark = (first + more) * step;
    if (mark > to + step * 1e-9) break;
    marks.push(Number(mark.toPrecision(12)));
  }
  return { at: (value) => ((value - from) / (to - from)) * length, marks };
}

/** The next greater of 1, 2, 5, 10, 20 … */
function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number)) || Number.MIN_VALUE;
  return ([1, 2, 5].find((digit) => digit * power >= number * (1 - 1e-9)) ?? 10) * power;
}

// Elements of drawings, and curves as paths.

const NAMESPACE = "http://www.w3.org/2000/svg";

/** Make an element of a drawing. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The path through points in pixels; it breaks off where a point is not finite. */
export function writePath(points) {
  const parts = [];
  let isOpen = false;
  for (const [x, y] of points) {
    const isThere = Number.isFinite(x) && Number.isFinite(y);
    // With a line of no length, which round ends make a dot: a point may stand alone.
    if (isThere) parts.push(`${isOpen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${isOpen ? "" : "h0"}`);
    isOpen = isThere;
  }
  return parts.join("");
}

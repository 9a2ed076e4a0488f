// A list that the master keeps, as a table: page by page, sorted by columns, looked at again and again.

import { button, make, table, update } from "/page/dom.js";

/**
 * Show a list in `section`, and return what looks at it anew.
 *
 * `columns` have a `title`, a `cell` that is made of an item, and `sort`, the API's name of that
 * order, if there is one. `load` takes what a query of the API says of pages and order, and gives
 * `{ items, total }`.
 */
export function showListing(page, section, { columns, load, sort, whenEmpty, rows = 50 }) {
  const order = { by: sort, isDescending: true };
  let offset = 0;
  let turn = 0;
  section.classList.add("listing");

  async function look() {
    const mine = ++turn;
    const { items, total } = await load({
      offset,
      limit: rows,
      sortBy: order.by,
      orderBy: order.isDescending ? "ORDER_BY_DESC" : "ORDER_BY_ASC",
    });
    if (mine !== turn) return; // somebody has asked for another page since
    if (items.length === 0 && offset > 0) {
      offset = Math.max(0, offset - rows);
      await look();
      return;
    }
    const heads = columns.map((column) => drawHead(column, order, () => go(0)));
    const cells = items.map((item) => columns.map((column) => column.cell(item)));
    update(section, table(heads, cells, whenEmpty), drawPager({ offset, rows, total }, go));
  }

  function go(where) {
    offset = where;
    return page.act(look);
  }
  page.repeat(look, 3, page.signal);
  return () => go(0);
}

function drawHead({ title, sort }, order, change) {
  if (!sort) return make("th", { scope: "col" }, title);
  const isChosen = order.by === sort;
  const direction = order.isDescending ? "descending" : "ascending";
  const sign = isChosen ? (order.isDescending ? " ↓" : " ↑") : "";
  const choose = () => {
    order.isDescending = order.by === sort ? !order.isDescending : true;
    order.by = sort;
    return change();
  };
  return make(
    "th",
    { scope: "col", "aria-sort": isChosen ? direction : "none" },
    button(`${title}${sign}`, choose, { className: "sort", "data-sort": sort }),
  );
}

function drawPager({ offset, rows, total }, go) {
  if (total <= rows) return make("p", { className: "quiet pager" }, total > 1 ? `${total} in all` : "");
  const step = (name, where, isThere) => {
    const one = button(name, () => go(where), { "data-where": String(where) });
    one.disabled = !isThere;
    return one;
  };
  return make(
    "nav",
    { className: "pager", "aria-label": "Pages" },
    step("Earlier", Math.max(0, offset - rows), offset > 0),
    make("span", {}, `${offset + 1} to ${Math.min(offset + rows, total)} of ${total}`),
    step("Further", offset + rows, offset + rows < total),
  );
}

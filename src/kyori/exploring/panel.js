// The panel: one item with its nearest neighbours, and a gallery of the items that were selected or found.

import { ask, askJson, briefs, count, distanceText, element, picture, remember, say } from "./words.js";

const PAGE = 60; // items that a gallery shows at first, and more at a time
const NEIGHBORS = [12, 50, 200];
const $ = (id) => document.getElementById(id);

const caption = (item, mark, distance) =>
  element(
    "figcaption",
    {},
    mark,
    element("b", {}, item.label ?? item.id),
    distance,
    item.label === null ? "" : element("small", {}, item.id),
  );

const tile = (item, open, kind, mark = "", distance = "") =>
  element(
    "li",
    { class: kind },
    element(
      "button",
      { type: "button", title: item.id, "data-row": item.row, onclick: () => open(item.row) },
      picture(item.picture),
      caption(item, mark, distance),
    ),
  );

export class Panel {
  constructor({ open, highlight, metric }) {
    this.open = open;
    this.highlight = highlight;
    this.metric = metric;
    this.rows = [];
  }

  // One item. What is asked for last is what is shown, whichever answer comes first.
  async show(row, k = NEIGHBORS[0]) {
    this.current = row;
    const item = await askJson("item", { row, k });
    if (this.current !== row) return;
    [item, ...item.neighbors].forEach(remember);
    $("start").hidden = true;
    $("item").hidden = false;
    $("item").replaceChildren(...this.item(item), ...this.neighbors(item, k));
    if (k === NEIGHBORS[0]) $("panel").scrollTop = 0;
    this.highlight([row, ...item.neighbors.map((one) => one.row)], row);
  }

  item(item) {
    const facts = Object.entries(item.columns).map(([name, value]) => {
      const shown = typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4) : String(value ?? "–");
      return element("div", {}, element("dt", {}, name), element("dd", {}, shown));
    });
    const look = item.text === null ? picture(item.picture) : element("blockquote", {}, item.text);
    return [
      element("div", { class: "look" }, look),
      element("h2", {}, item.label ?? item.id),
      item.label === null ? "" : element("p", { class: "id" }, item.id),
      facts.length ? element("dl", {}, ...facts) : "",
    ].filter(Boolean);
  }

  neighbors(item, k) {
    const found = item.neighbors;
    if (!found.length) return [element("p", { class: "note" }, say("item.alone"))];
    const metric = say(`metric.${this.metric}`);
    const same = found.filter((one) => one.same).length;
    const known = found[0].same !== null;
    const note = known ? say("item.same", { same, count: found.length, metric }) : say("item.metric", { metric });
    const tiles = found.map((one) => {
      const verdict = one.same ? "right" : "wrong";
      const said = say(one.same ? "verdict.same" : "verdict.different");
      const mark = known ? element("i", { role: "img", "aria-label": said, title: said }, one.same ? "✓" : "✗") : "";
      const distance = element("span", { class: "distance" }, distanceText(one.distance));
      return tile(one, this.open, known ? verdict : "plain", mark, distance);
    });
    const next = NEIGHBORS.find((more) => more > k);
    const more = () => this.show(item.row, next);
    return [
      element("h3", {}, say("item.neighbors")),
      element("p", { class: "note", id: "verdict" }, note),
      element("ol", { class: "tiles neighbors" }, ...tiles),
      next && found.length === k ? element("button", { type: "button", onclick: more }, say("item.more")) : "",
    ].filter(Boolean);
  }

  // A selection: rows of the table, however they were chosen.
  async select(rows, title) {
    this.rows = rows;
    const box = $("selection");
    box.hidden = !rows.length;
    if (!rows.length) return;
    $("start").hidden = $("item").hidden = true;
    this.current = null;
    const tiles = element("ol", { class: "tiles" });
    const more = element("button", { type: "button", onclick: () => this.more(tiles, more) }, say("selection.more"));
    const save = element("button", { type: "button", id: "save", onclick: () => this.save() }, say("selection.save"));
    const clear = element("button", { type: "button", id: "clear", onclick: () => this.clear() }, say("selection.clear"));
    box.replaceChildren(
      element("h3", { id: "selected", role: "status" }, title),
      element("div", { class: "buttons" }, save, clear),
      tiles,
      more,
    );
    $("panel").scrollTop = 0;
    this.highlight(rows);
    await this.more(tiles, more);
  }

  async more(tiles, button) {
    const rows = this.rows;
    const start = tiles.children.length;
    button.hidden = true;
    const items = await briefs(rows.slice(start, start + PAGE));
    if (rows !== this.rows) return; // something else was selected meanwhile
    tiles.append(...items.map((item) => tile(item, this.open, "plain")));
    button.hidden = tiles.children.length >= rows.length;
  }

  async save() {
    const body = new Uint8Array(4 * this.rows.length);
    const view = new DataView(body.buffer);
    this.rows.forEach((row, i) => view.setUint32(4 * i, row, true));
    const answer = await ask("csv", {}, { method: "POST", body });
    const link = element("a", { href: URL.createObjectURL(await answer.blob()), download: "selection.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  clear() {
    this.current = null;
    this.rows = [];
    $("item").hidden = $("selection").hidden = true;
    $("start").hidden = false;
    this.highlight([]);
  }
}

// The legend: classes that can be shown, hidden and selected, or the scale of a column of numbers.

import { classColour, rampColour } from "./map.js";
import { count, element, say } from "./words.js";

const SHOWN = 200; // classes in the list at a time
const DISTINCT = 20;
const $ = (id) => document.getElementById(id);

export class Legend {
  constructor({ show, select }) {
    this.changed = show;
    this.selected = select;
    $("class-filter").addEventListener("input", () => this.list());
    $("show-all").addEventListener("click", () => this.hide(new Set()));
    $("hide-all").addEventListener("click", () => this.hide(new Set(this.names.keys())));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  set(column, values) {
    const shown = this.hidden?.size;
    this.column = column;
    this.values = values;
    this.names = column?.kind === "classes" ? column.names : [];
    this.hidden = new Set();
    if (shown) this.changed(null);
    this.draw();
  }

  draw() {
    const kind = this.column?.kind;
    $("legend").hidden = !kind;
    $("class-tools").hidden = $("classes").hidden = kind !== "classes";
    $("scale").hidden = kind !== "numbers";
    $("class-filter").hidden = this.names.length <= DISTINCT;
    $("class-filter").value = "";
    const note =
      kind === "numbers"
        ? say("legend.range") + (this.column.missing ? ` ${say("legend.missing", { count: count(this.column.missing) })}` : "")
        : this.names.length > DISTINCT
          ? say("legend.repeat", { count: count(this.names.length) })
          : "";
    $("legend-note").textContent = note;
    $("legend-note").hidden = !note;
    if (kind === "numbers") this.scale();
    else this.list();
  }

  scale() {
    const steps = [...Array(32).keys()].map((i) => {
      const step = element("i");
      step.style.background = rampColour(i / 31);
      return step;
    });
    const number = (value) => element("span", {}, String(Number(value.toPrecision(4))));
    const ends = element("div", { class: "ends" }, number(this.column.low), number(this.column.high));
    $("scale").replaceChildren(element("div", { class: "ramp" }, ...steps), ends);
  }

  list() {
    const wanted = $("class-filter").value.trim().toLowerCase();
    const codes = [];
    this.names.forEach((name, code) => name.toLowerCase().includes(wanted) && codes.push(code));
    const entries = codes.slice(0, SHOWN).map((code) => this.entry(code));
    const rest = codes.length - entries.length;
    if (rest > 0) entries.push(element("li", { class: "note" }, say("legend.more", { count: count(rest) })));
    $("classes").replaceChildren(...entries);
  }

  entry(code) {
    const name = this.names[code];
    const box = element("input", {
      type: "checkbox",
      "aria-label": say("legend.toggle", { name }),
      onchange: () => {
        const hidden = new Set(this.hidden);
        if (box.checked) hidden.delete(code);
        else hidden.add(code);
        this.hide(hidden, false);
      },
    });
    box.checked = !this.hidden.has(code);
    box.style.accentColor = classColour(code);
    const items = element("small", {}, count(this.column.counts[code]));
    const label = element("span", {}, name);
    const title = say("legend.select", { name });
    const select = element("button", { type: "button", title, onclick: () => this.pick(code) }, label, items);
    const swatch = element("i", { class: "swatch" });
    swatch.style.background = classColour(code);
    return element("li", {}, box, swatch, select);
  }

  pick(code) {
    const rows = this.rows((value) => value === code);
    this.selected(rows, this.names[code]);
  }

  hide(hidden, redraw = true) {
    this.hidden = hidden;
    if (redraw) this.list();
    this.changed(hidden.size ? this.rows((value) => !hidden.has(value)) : null);
  }

  rows(wanted) {
    const rows = [];
    for (let i = 0; i < this.values.length; i++) if (wanted(this.values[i])) rows.push(i);
    return rows;
  }
}

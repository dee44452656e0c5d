// Everything here is an addition: without a script the page shows the same pictures, standing still.

// Legends: point at a name (or reach it with the Tab key) to bring its series out in every figure beside it; choose it
// (click, Enter or the space bar) to mute it.
for (const set of document.querySelectorAll(".figure-set")) {
  const parts = (series) => set.querySelectorAll(`[data-series="${CSS.escape(series)}"]`);
  const mark = (series) => {
    set.classList.toggle("focused", series !== undefined);
    for (const part of set.querySelectorAll("[data-series]")) {
      part.classList.toggle("shown", part.dataset.series === series);
    }
  };
  for (const entry of set.querySelectorAll(".legend [data-series]")) {
    const series = entry.dataset.series;
    const mute = () => {
      const muted = entry.getAttribute("aria-pressed") !== "true";
      entry.setAttribute("aria-pressed", muted);
      for (const part of parts(series)) part.classList.toggle("muted", muted);
      if (muted) mark();
    };
    entry.tabIndex = 0;
    entry.setAttribute("role", "button");
    entry.setAttribute("aria-pressed", "false");
    for (const start of ["mouseenter", "focus"]) {
      entry.addEventListener(start, () => entry.getAttribute("aria-pressed") === "true" || mark(series));
    }
    for (const end of ["mouseleave", "blur"]) entry.addEventListener(end, () => mark());
    entry.addEventListener("click", mute);
    entry.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      mute();
    });
  }
}

// Tables: choose the title of a column to sort by it, once more to turn the order round.
const sortable = (cell) => {
  const value = cell.querySelector("[data-value]")?.dataset.value ?? cell.textContent.trim();
  const number = parseFloat(value.replace(/,/g, "").replace(/^\u2212/, "-"));
  return Number.isNaN(number) ? value : number;
};
for (const table of document.querySelectorAll("table:not(.matrix)")) {
  const [body] = table.tBodies;
  if (!body || body.rows.length < 2) continue;
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => {
    if (![...body.rows].some((row) => row.cells[column]?.textContent.trim())) return;
    title.tabIndex = 0;
    title.classList.add("sortable");
    const sort = () => {
      const rising = title.getAttribute("aria-sort") === "descending";
      for (const other of titles) other.removeAttribute("aria-sort");
      title.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const keys = new Map([...body.rows].map((row) => [row, sortable(row.cells[column])]));
      const compare = (a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // what was not measured stays below
        const way = rising ? 1 : -1;
        return typeof x === "number" ? way * (x - y) : -way * x.localeCompare(y);
      };
      body.append(...[...body.rows].sort(compare));
    };
    title.addEventListener("click", sort);
    title.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));

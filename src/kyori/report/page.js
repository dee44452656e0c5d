// Point at a name of a legend (or reach it with the Tab key) to bring its series out in every figure beside it.
for (const set of document.querySelectorAll(".figure-set")) {
  const mark = (series) => {
    set.classList.toggle("focused", series !== undefined);
    for (const part of set.querySelectorAll("[data-series]")) {
      part.classList.toggle("shown", part.dataset.series === series);
    }
  };
  for (const entry of set.querySelectorAll(".legend [data-series]")) {
    entry.tabIndex = 0;
    for (const start of ["mouseenter", "focus"]) entry.addEventListener(start, () => mark(entry.dataset.series));
    for (const end of ["mouseleave", "blur"]) entry.addEventListener(end, () => mark());
  }
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));

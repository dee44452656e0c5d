
// The numbers of a figure, read from the file that the page offers: what is drawn, what is saved and what is pointed at
// are the same.
const numbers = new WeakMap();
const dataOf = (figure) => {
  if (!numbers.has(figure)) numbers.set(figure, readCsv(figure.querySelector("a.data").href));
  return numbers.get(figure);
};
const readCsv = (address) => {
  const bytes = Uint8Array.from(atob(address.slice(address.indexOf(",") + 1)), (c) => c.charCodeAt(0));
  const text = new TextDecoder().decode(bytes);
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const row = rows[rows.length - 1];
    if (text[i] === '"') {
      if (quoted && text[i + 1] === '"') row[row.length - 1] += text[i++];
      else quoted = !quoted;
    } else if (!quoted && text[i] === ",") row.push("");
    else if (!quoted && text[i] === "\n") rows.push([""]);
    else row[row.length - 1] += text[i];
  }
  rows.pop();
  const names = rows.shift();
  return rows.map((row) => Object.fromEntries(row.map((value, column) => [names[column], value])));
};
// Where a number stands in the picture: a + b·x and c + d·y in the units of its viewBox.
const scaleOf = (figure) => figure.dataset.scale.split(" ").map(Number);

// Maps: the item under the pointer or finger, its class, and its picture where items have one.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
const hideTip = () => {
  tip.hidden = true;
  for (const ring of document.querySelectorAll(".ring")) ring.remove();
};
const showTip = (figure, event) => {
  const plot = figure.querySelector(".plot");
  const [a, b, c, d] = scaleOf(figure);
  const inside = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
  let best = -1;
  let nearest = 7 * 7; // no further than this from the pointer
  const rows = dataOf(figure);
  rows.forEach((row, index) => {
    const group = plot.querySelector(`[data-series="${CSS.escape(row.series)}"]`);
    if (group?.classList.contains("muted")) return;
    const distance = (a + b * row.x - inside.x) ** 2 + (c + d * row.y - inside.y) ** 2;
    if (distance < nearest) [best, nearest] = [index, distance];
  });
  hideTip();
  if (best < 0) return;
  const row = rows[best];
  const ring = document.createElementNS(plot.namespaceURI, "circle");
  for (const [name, value] of Object.entries({ cx: a + b * row.x, cy: c + d * row.y, r: 4, class: "ring" })) {
    ring.setAttribute(name, value);
  }
  plot.append(ring);
  tip.replaceChildren();
  const sheet = figure.closest(".figure-set").querySelector("img.sheet");
  if (sheet) {
    const [columns, size] = [Number(sheet.dataset.columns), Number(sheet.dataset.tile)];
    const crop = document.createElement("div");
    crop.className = "crop";
    const picture = document.createElement("canvas");
    picture.width = picture.height = size;
    const [x, y] = [best % columns, Math.floor(best / columns)];
    picture.getContext("2d").drawImage(sheet, x * size, y * size, size, size, 0, 0, size, size);
    crop.append(picture);
    tip.append(crop);
  }
  const name = document.createElement("b");
  name.textContent = row.label;
  const id = document.createElement("small");
  id.textContent = row.id;
  tip.append(name, id);
  tip.hidden = false;
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const left = Math.min(Math.max(event.clientX + 14, 4), innerWidth - width - 4);
  const above = event.clientY - height - 14;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : event.clientY + 18}px`;
};
for (const figure of document.querySelectorAll("figure[data-kind=map]")) {
  const plot = figure.querySelector(".plot");
  for (const kind of ["pointermove", "pointerdown"]) plot.addEventListener(kind, (event) => showTip(figure, event));
  plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideTip());
}
addEventListener("scroll", hideTip, { passive: true });

// Histograms: move the threshold and read both rates.
const percent = (rate) => (100 * rate).toPrecision(3).replace(/\.?0+$/, "");
for (const figure of document.querySelectorAll("figure[data-kind=threshold]")) {
  const line = figure.querySelector("[data-mark=threshold]");
  const rows = [...document.querySelectorAll("figure[data-kind=roc]")]
    .flatMap((roc) => dataOf(roc))
    .filter((row) => row.method === figure.dataset.method && row.seed === figure.dataset.seed)
    .map((row) => ({ far: +row.far, tar: +row.tar, threshold: +row.threshold }))
    .filter((row) => Number.isFinite(row.threshold));
  if (!line || rows.length < 2) continue;
  rows.sort((x, y) => x.threshold - y.threshold);
  const start = Number(figure.dataset.threshold);
  const [low, high] = figure.dataset.range.split(" ").map(Number);
  const b = scaleOf(figure)[1];
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: low, max: high, step: (high - low) / 400, value: start });
  slider.setAttribute("aria-label", figure.dataset.label);
  const caption = figure.querySelector("figcaption");
  const output = document.createElement("output");
  slider.addEventListener("input", () => {
    const chosen = Number(slider.value);
    line.setAttribute("transform", `translate(${b * (chosen - start)} 0)`);
    const after = rows.findIndex((row) => row.threshold >= chosen);
    const at = (rate) => {
      if (after === 0) return 0; // below the first threshold nothing is accepted
      if (after < 0) return 1;
      const [x, y] = [rows[after - 1], rows[after]];
      return x[rate] + ((y[rate] - x[rate]) * (chosen - x.threshold)) / (y.threshold - x.threshold || 1);
    };
    const said = { threshold: chosen.toPrecision(3), far: percent(at("far")), tar: percent(at("tar")) };
    output.textContent = figure.dataset.text.replace(/\{(\w+)\}/g, (_, name) => said[name]);
    caption.hidden = true;
  });
  figure.querySelector(".under").prepend(slider, output);
}

// Animations: points move to where the forces of a loss leave them.
for (const figure of document.querySelectorAll("figure[data-kind=settling]")) {
  const plot = figure.querySelector(".plot");
  const [a, b, c, d] = scaleOf(figure);
  const frames = [];
  for (const row of dataOf(figure)) (frames[row.frame] ??= []).push(row);
  const dots = [...plot.querySelectorAll("[data-point]")];
  const last = frames.length - 1;
  const button = document.createElement("button");
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: last, step: 1, value: last });
  slider.setAttribute("aria-label", figure.dataset.time);
  const seconds = Number(figure.dataset.seconds);
  let position = last;
  let playing = 0;
  const draw = (at) => {
    position = Math.min(Math.max(at, 0), last);
    const from = Math.floor(position);
    const [x, y] = [frames[from], frames[Math.min(from + 1, last)]];
    const share = position - from;
    dots.forEach((dot, i) => {
      const between = (name) => +x[i][name] + share * (y[i][name] - x[i][name]);
      dot.setAttribute("transform", `translate(${a + b * between("x")} ${c + d * between("y")})`);
    });
    slider.value = Math.round(position);
  };
  const say = () => {
    button.textContent = playing ? figure.dataset.pause : figure.dataset.play;
  };
  const stop = () => {
    cancelAnimationFrame(playing);
    playing = 0;
    say();
  };
  const play = () => {
    const begin = position >= last ? 0 : position;
    let start;
    const step = (now) => {
      start ??= now;
      draw(begin + ((now - start) / 1000 / seconds) * last);
      if (position >= last) return stop();
      playing = requestAnimationFrame(step);
    };
    playing = requestAnimationFrame(step);
    say();
  };
  button.type = "button";
  button.addEventListener("click", () => (playing ? stop() : play()));
  slider.addEventListener("input", () => {
    stop();
    draw(Number(slider.value));
  });
  const bar = document.createElement("div");
  bar.className = "player";
  bar.append(button, slider);
  figure.querySelector(".under").prepend(bar);
  say();
  addEventListener("beforeprint", () => {
    stop();
    draw(last);
  });
  // It begins by itself when it is first seen, unless the reader wants nothing to move.
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || !("IntersectionObserver" in window)) continue;
  const seen = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    seen.disconnect();
    play();
  }, { threshold: 0.6 });
  seen.observe(figure);
}

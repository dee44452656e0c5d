// The explorer: asks the server what there is, and lets map, legend and panel know of each other.

import { Legend } from "./legend.js";
import { ItemMap } from "./map.js";
import { Panel } from "./panel.js";
import { ask, askJson, briefs, count, element, picture, say, speak } from "./words.js";

const $ = (id) => document.getElementById(id);
const message = (text) => ($("message").textContent = text);
const failed = (error) => message(error.message);
const tried = (action) => (...given) => Promise.resolve(action(...given)).catch(failed);

const about = await (await fetch("about")).json();
speak(about.words);
const fields = { items: count(about.items), classes: count(about.classes ?? 0) };
$("count").textContent = say(about.classes === null ? "count" : "count.classes", fields);
message(say("map.loading", fields));

// An item is opened by its number in the address, so that the browser's way back works, and a link to it.
const open = (row) => {
  if (location.hash === `#${row}`) tried(() => panel.show(row))();
  else location.hash = row;
};
const opened = tried(() => {
  const row = Number(location.hash.slice(1));
  if (!/^#\d+$/.test(location.hash) || row >= about.items) return clear();
  map?.bringIntoView(row);
  return panel.show(row);
});
const close = () => location.hash && history.pushState(null, "", location.pathname);
const clear = () => {
  panel.clear();
  close();
};
const select = tried((rows, title) => {
  if (!rows.length) return clear();
  close();
  return panel.select(rows, title);
});

const panel = new Panel({ open, highlight: (rows, ringed) => map?.select(rows, ringed), metric: about.metric });

// What the pointer is on.
const tip = $("tip");
let pointed = -1;
let pointer = [0, 0];
const placeTip = () => {
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const [x, y] = pointer;
  tip.style.left = `${Math.min(Math.max(x + 16, 4), innerWidth - width - 4)}px`;
  tip.style.top = `${y - height - 14 > 4 ? y - height - 14 : y + 20}px`;
};
const hover = tried(async (row) => {
  pointed = row;
  tip.hidden = true;
  if (row < 0) return;
  await new Promise((resume) => setTimeout(resume, 40)); // a pointer on its way asks for nothing
  if (pointed !== row) return;
  const [item] = await briefs([row]);
  if (pointed !== row) return;
  const id = item.label === null ? "" : element("small", {}, item.id);
  tip.replaceChildren(picture(item.picture), element("b", {}, item.label ?? item.id), id);
  tip.hidden = false;
  placeTip();
});
$("plot").addEventListener("mousemove", (event) => {
  pointer = [event.clientX, event.clientY];
  if (!tip.hidden) placeTip();
});

let map = null;
try {
  const lasso = (rows) => {
    setLasso(false);
    select(rows, say("selection.lasso", { count: count(rows.length) }));
  };
  map = new ItemMap($("canvas"), about.items, { hover, open, lasso, clear });
} catch (error) {
  console.warn(error);
}

const setLasso = (on) => {
  map?.lasso(on);
  $("lasso").setAttribute("aria-pressed", on);
  $("move").setAttribute("aria-pressed", !on);
};
$("lasso").addEventListener("click", () => setLasso(true));
$("move").addEventListener("click", () => setLasso(false));
$("reset").addEventListener("click", () => map?.reset());

const legend = new Legend({
  show: (rows) => map?.show(rows),
  select: (rows, name) => select(rows, say("selection.class", { name, count: count(rows.length) })),
});

// Colours.
const colour = tried(async (name) => {
  if (!name) {
    legend.set(null, []);
    return map?.colour(null, []);
  }
  const [column, bytes] = await Promise.all([
    askJson("legend", { column: name }),
    ask("colours", { column: name }).then((answer) => answer.arrayBuffer()),
  ]);
  const values = column.kind === "classes" ? new Uint32Array(bytes) : new Float32Array(bytes);
  legend.set(column, values);
  $("legend-title").textContent = name === "label" ? say("legend") : name;
  return map?.colour(column, values);
});
for (const name of ["", ...about.columns]) {
  const shown = name === "" ? say("colour.none") : name === "label" ? say("colour.label") : name;
  $("colour").append(element("option", { value: name }, shown));
}
$("colour").value = about.colour ?? "";
$("colour").addEventListener("change", (event) => colour(event.target.value));

// Search.
const find = tried(async () => {
  const text = $("search").value.trim();
  if (!text) return;
  const found = await askJson("find", { text });
  message(found.count ? "" : say("selection.nothing", { text }));
  if (!found.count) return;
  const shown = found.rows.length;
  const key = shown < found.count ? "selection.cut" : "selection.found";
  await select(found.rows, say(key, { text, shown: count(shown), count: count(found.count) }));
  if (found.count === 1) open(found.rows[0]);
});
$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  find();
});

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select");
  if (event.key === "Escape") {
    if (typing) typing.blur();
    else clear();
    setLasso(false);
  } else if (!typing && !event.ctrlKey && !event.metaKey && event.key === "/") {
    event.preventDefault();
    $("search").focus();
  } else if (!typing && !event.ctrlKey && !event.metaKey && event.key.toLowerCase() === "l") {
    setLasso(true);
    $("canvas").focus();
  }
});

// The map, and the better one when it is ready.
const describe = ({ layout, wanted, state, items, patient }) => {
  const parts = [say(`map.${layout}`), say("map.all")];
  const method = { tsne: "t-SNE", umap: "UMAP" }[wanted];
  if (state !== "ready") parts.push(say(`map.${state}`, { method }));
  else if (wanted === "pca" && items > patient) parts.push(say("map.large", { limit: count(patient) }));
  $("method").textContent = parts.join(about.lang === "ja" ? "" : " ");
};
const place = async (asked = ask("positions")) => {
  const answer = await asked;
  await map?.place(new Float32Array(await answer.arrayBuffer()));
  return answer.headers.get("x-layout");
};
const watch = async (layout) => {
  for (;;) {
    await new Promise((resume) => setTimeout(resume, 700));
    const now = await askJson("about");
    if (now.layout !== layout) layout = await place();
    describe(now);
    if (now.state !== "working") return;
  }
};

describe(about);
const start = tried(async () => {
  const asked = ask("positions");
  await colour(about.colour ?? ""); // first, so that a million points are drawn once
  const layout = await place(asked);
  message(map ? "" : say("map.no_webgl"));
  document.body.dataset.ready = layout;
  if (location.hash) await opened();
  if (about.state === "working") await watch(layout);
});
addEventListener("hashchange", opened);
start();

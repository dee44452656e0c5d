// The map: points, colours, what the pointer does, and what the keys do.

import createScatterplot from "./regl-scatterplot.min.js";

const SIZES = [[300, 11], [3000, 8], [15000, 6], [60000, 4], [300000, 2.5], [Infinity, 1.5]]; // items, pixels
const ANIMATED = 100_000; // points that move to a better map; more would only stutter
const DENSE = 20_000; // points beyond which overlapping ones become translucent
const CROWD = 300; // selected points beyond which they are enlarged less
const STEP = 0.15; // of the view that an arrow key moves
const MARGIN = 1.08; // of the camera's distance at which all points just fit

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const DISTINCT = 20;
const RAMP = 32;
const NONE = 0xffffffff;

export const classColour = (code) => style(`--c${code % DISTINCT}`);
const mixed = (from, to, share) => {
  const parts = [from, to].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return `#${parts[0].map((v, i) => Math.round(v + share * (parts[1][i] - v)).toString(16).padStart(2, "0")).join("")}`;
};
// From blue over magenta to orange, apart in lightness too.
const RAMP_ENDS = ["--r0", "--r1", "--r2"];
export const rampColour = (share) => {
  const [a, b, c] = RAMP_ENDS.map(style);
  return share < 0.5 ? mixed(a, b, 2 * share) : mixed(b, c, 2 * share - 1);
};

export class ItemMap {
  constructor(canvas, items, { hover, open, lasso, clear }) {
    this.canvas = canvas;
    this.items = items;
    this.lassoing = false;
    this.kind = "none";
    this.picked = [];
    this.ringed = null;
    this.plot = createScatterplot({
      canvas,
      syncEvents: true, // else the end of a lasso is told after the click that follows it
      lassoInitiator: false,
      lassoOnLongPress: false,
      deselectOnEscape: false, // the page has more to close than the selection
      showReticle: false,
    });
    this.plot.subscribe("pointOver", hover);
    this.plot.subscribe("pointOut", () => hover(-1));
    this.plot.subscribe("lassoStart", () => (this.lassoing = true));
    this.plot.subscribe("lassoEnd", () => {
      this.lassoing = false;
      this.swallow = true;
      lasso([...this.plot.get("selectedPoints")].sort((a, b) => a - b));
    });
    this.plot.subscribe("select", ({ points }) => this.lassoing || open(points.at(-1)));
    this.plot.subscribe("deselect", () => this.lassoing || clear());
    // The click that ends a lasso near its start would open the point below it: nobody clicked on that.
    const frame = canvas.parentElement;
    frame.addEventListener("mousedown", () => (this.swallow = false), true);
    frame.addEventListener("click", (event) => this.swallow && event.stopPropagation(), true);
    canvas.addEventListener("keydown", (event) => this.key(event));
    // The legend comes and goes beside the map; the plot itself heeds only the window's size.
    const fit = () => this.plot.set({ width: frame.clientWidth, height: frame.clientHeight });
    new ResizeObserver(fit).observe(frame);
    this.ring = document.getElementById("ring");
    this.plot.subscribe("drawing", () => this.encircle());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  async place(positions) {
    const n = this.items;
    const [x, y] = [new Float32Array(n), new Float32Array(n)];
    for (let i = 0; i < n; i++) {
      x[i] = positions[2 * i];
      y[i] = positions[2 * i + 1];
    }
    const again = this.x !== undefined;
    this.x = x;
    this.y = y;
    const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.paint();
    if (!again) this.reset(); // only now is the canvas as large as it stays
    const transition = again && !reduced && n <= ANIMATED;
    await this.draw({ transition, transitionDuration: 900, preventFilterReset: again });
    this.select(this.picked, this.ringed);
  }

  async colour(column, values) {
    this.kind = column?.kind ?? "none";
    this.z = new Uint8Array(this.items);
    if (this.kind === "classes") {
      for (let i = 0; i < values.length; i++) this.z[i] = values[i] === NONE ? DISTINCT : values[i] % DISTINCT;
    } else if (this.kind === "numbers") {
      const span = column.high - column.low || 1;
      for (let i = 0; i < values.length; i++) {
        const share = Math.min(Math.max((values[i] - column.low) / span, 0), 1);
        this.z[i] = Number.isFinite(values[i]) ? Math.round(share * (RAMP - 1)) : RAMP;
      }
    }
    this.paint();
    if (!this.x) return;
    await this.draw({ spatialIndex: this.plot.get("spatialIndex") });
    this.select(this.picked, this.ringed);
  }

  draw(options) {
    return this.plot.draw({ x: this.x, y: this.y, z: this.z }, { zDataType: "categorical", ...options });
  }

  paint() {
    const palette =
      this.kind === "classes"
        ? [...Array(DISTINCT).keys()].map(classColour)
        : this.kind === "numbers"
          ? [...Array(RAMP).keys()].map((i) => rampColour(i / (RAMP - 1)))
          : [style("--c0")];
    const colours = [...palette, style("--neutral")];
    this.plot.set({
      backgroundColor: style("--card"),
      lassoColor: style("--accent"),
      colorBy: "category",
      pointColor: colours,
      pointColorActive: colours,
      pointColorHover: colours.map(() => style("--ink")),
      pointSize: SIZES.find(([most]) => this.items <= most)[1],
      pointSizeSelected: 3,
      pointOutlineWidth: 2,
      opacityInactiveMax: 0.25,
      opacityByDensityFill: 0.25,
      ...(this.items > DENSE ? { opacityBy: "density" } : { opacityBy: null, opacity: 0.85 }),
    });
  }

  // Bring rows out before the others, and put a ring around one of them.
  select(rows, ringed = null) {
    this.picked = rows;
    this.ringed = ringed;
    this.encircle();
    this.plot.set({ pointSizeSelected: rows.length > CROWD ? 1 : 3 });
    if (rows.length) this.plot.select([...rows], { preventEvent: true });
    else this.plot.deselect({ preventEvent: true });
  }

  encircle() {
    const place = this.ringed === null || !this.x ? undefined : this.plot.getScreenPosition(this.ringed);
    this.ring.hidden = !place;
    if (place) [this.ring.style.left, this.ring.style.top] = place.map((pixels) => `${pixels}px`);
  }

  // Show these rows only; null shows all.
  show(rows) {
    if (rows === null) this.plot.unfilter({ preventEvent: true });
    else this.plot.filter(rows, { preventEvent: true });
    this.select(this.picked, this.ringed);
  }

  // Where a point is on the screen, in pixels of the canvas.
  at(row) {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    return this.plot.getScreenPosition(row) ?? [width / 2, height / 2];
  }

  bringIntoView(row) {
    const [x, y] = this.at(row);
    if (x >= 0 && y >= 0 && x <= this.canvas.clientWidth && y <= this.canvas.clientHeight) return;
    this.view([this.x[row], this.y[row]], this.plot.get("cameraDistance"));
  }

  lasso(on) {
    this.plot.set({ mouseMode: on ? "lasso" : "panZoom" });
  }

  // The distance from which all points are seen; a canvas that is higher than wide needs more of it.
  get home() {
    return MARGIN * Math.max(1, this.canvas.clientHeight / this.canvas.clientWidth);
  }

  reset() {
    this.view([0, 0], this.home);
  }

  view(target, distance) {
    this.plot.set({ cameraTarget: target, cameraDistance: distance });
  }

  key(event) {
    const [[x, y], distance] = [this.plot.get("cameraTarget"), this.plot.get("cameraDistance")];
    const step = STEP * distance;
    const moves = {
      ArrowLeft: () => this.view([x - step, y], distance),
      ArrowRight: () => this.view([x + step, y], distance),
      ArrowUp: () => this.view([x, y + step], distance),
      ArrowDown: () => this.view([x, y - step], distance),
      "+": () => this.view([x, y], distance / 1.3),
      "=": () => this.view([x, y], distance / 1.3),
      "-": () => this.view([x, y], distance * 1.3),
      0: () => this.reset(),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in moves)) return;
    event.preventDefault();
    moves[event.key]();
  }
}

// Charts of runs, drawn by uPlot: in the page of `report` and in those of `run.py web`.
//
// `viewsOf` turns what keisei_ray/report/chart_data.py writes, of one run or of several, into
// views: one for each picture. `chartGrid` shows views as figures and keeps them up to date.
// Color alone never carries information: curves also differ in dash, columns in pattern.

const SVG_DASHES = [[], [7, 3], [2, 2.5], [9, 3, 2, 3]];
const COLORS = 8;
const HEIGHT = 220;
const MOST_DOTTED = 40; // Points of a curve up to which each has a marker.
const FONT = '12px system-ui, "Segoe UI", Roboto, sans-serif';

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const figures = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 });

const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seriesColor = (number) => cssColor(`--s${number % COLORS}`);

export function spell(value, isShare) {
  if (value === null || value === undefined) return "-";
  if (isShare) return `${(100 * value).toFixed(1)}%`;
  if (Math.abs(value) > 0 && Math.abs(value) < 1e-3) return value.toPrecision(4);
  return (Math.abs(value) >= 1000 ? whole : figures).format(value);
}

// A time in its two largest units: "12 min 42 s", "3 h 5 min", "2 d 4 h".
export function duration(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const [d, h, m, s] = [total / 86400, (total / 3600) % 24, (total / 60) % 60, total % 60].map(Math.floor);
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

// --- views ---------------------------------------------------------------------------------

// Returns the views of the charts of runs, in the order of the first run that has each.
// runs: [{label, color, data}]; axis: "x" (timesteps, or what data.unit says) or "wall".
export function viewsOf(runs, axis = "x") {
  const isAlone = runs.length === 1;
  const common = {
    unit: axis === "wall" ? "wall time" : runs[0].data.unit,
    isTime: axis === "wall",
    mark: runs[0].data.mark,
    marks: isAlone && axis === "x" ? runs[0].data.marks : [],
  };
  const views = new Map();
  runs.forEach((run, place) => {
    for (const chart of run.data.charts) {
      const isCurves = chart.kind === "curves";
      // Columns of several runs would hide one another: each run has its own picture.
      const id = isCurves || isAlone ? chart.title : `${chart.title}\n${place}`;
      const frame = { ...common, range: rangeOf(run.data, axis) };
      const head = { id, key: chart.key, title: chart.title, about: chart.about, metrics: chart.metrics, frame };
      if (!isCurves) {
        const label = isAlone ? "" : run.label;
        views.set(id, { ...head, ...chart, label, edges: run.data.axes[chart.axis]?.[axis] ?? [] });
        continue;
      }
      if (!views.has(id)) {
        views.set(id, {
          ...head, kind: "curves", unit: chart.unit, isShare: chart.isShare,
          whenLast: chart.whenLast, series: [], notes: [], alts: [], scale: null,
        });
      }
      addCurves(views.get(id), chart, run, place, isAlone, axis, frame.range);
    }
  });
  // The pictures of several runs stand side by side.
  const titles = [...new Set([...views.values()].map((view) => view.title))];
  return titles.flatMap((title) => [...views.values()].filter((view) => view.title === title));
}

function addCurves(view, chart, run, place, isAlone, axis, range) {
  chart.series.forEach((series, number) => {
    const name = chart.series.length > 1 || isAlone ? series.name : "";
    view.series.push({
      ...series,
      name: isAlone ? name : [run.label, name].filter(Boolean).join(": "),
      x: run.data.axes[series.axis][axis],
      color: isAlone ? number : run.color ?? place,
      dash: number,
    });
  });
  if (!chart.series.length) return;
  // Of several runs those that have the chart decide how far it reaches.
  view.frame.range = view.scale ? union(view.frame.range, range) : range;
  const [low, high] = chart.scale;
  view.scale = view.scale ? union(view.scale, [low, high]) : [low, high];
  if (chart.note && (isAlone || !view.notes.includes(chart.note))) view.notes.push(chart.note);
  view.alts.push(isAlone ? chart.alt : `${run.label}: ${chart.alt}`);
}

const union = (a, b) => [Math.min(a[0], b[0]), Math.max(a[1], b[1])];

function rangeOf(data, axis) {
  if (axis === "x") return data.range;
  const walls = data.axes.flatMap((a) => a.wall).filter(Number.isFinite);
  return [0, Math.max(1, ...walls)];
}

// --- figures -------------------------------------------------------------------------------

const plots = new Set();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach((p) => p.paint()));

// Returns `show(views)`, which shows exactly these views in `root`, and `clear()`.
export function chartGrid(root) {
  const shown = new Map();
  function show(views) {
    const ids = new Set(views.map((view) => view.id));
    for (const [id, plot] of shown) {
      if (!ids.has(id)) {
        plot.destroy();
        shown.delete(id);
      }
    }
    for (const view of views) {
      if (!shown.has(view.id)) shown.set(view.id, plotFigure());
      const plot = shown.get(view.id);
      root.append(plot.figure); // Moves it to its place in the order.
      plot.update(view);
    }
  }
  return { show, clear: () => show([]) };
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Returns a figure with a chart: {figure, update(view), paint(), destroy()}.
function plotFigure() {
  const figure = make("figure", "chart");
  const title = make("h3");
  const legend = make("ul", "legend");
  const box = make("div", "plot");
  const about = make("p", "about");
  const terms = make("dl", "terms");
  const meanings = make("details", "more");
  meanings.append(make("summary", "", "Metrics"), terms);
  const caption = make("figcaption");
  caption.append(title);
  figure.append(caption, legend, box, about, meanings);
  let uplot = null;
  let view = null;
  let shape = "";
  let swatches = [];
  let zoom = null;

  function update(next) {
    view = next;
    const isEmpty = view.kind === "curves" ? !view.series.length : !view.shares.length;
    figure.id = `chart-${view.key}${view.label ? `-${view.label}` : ""}`;
    title.replaceChildren(view.title);
    if (view.label) title.append(`: ${view.label}`);
    if (view.unit) title.append(" ", make("span", "unit", view.unit));
    about.replaceChildren(view.about, " ", make("span", "note", (view.notes ?? []).join(" ")));
    terms.replaceChildren(...view.metrics.flatMap(([n, m]) => [make("dt", "", n), make("dd", "", m)]));
    meanings.hidden = !view.metrics.length;
    fillLegend(isEmpty);
    const nextShape = isEmpty ? "empty" : shapeOf(view);
    if (nextShape === shape && uplot) {
      uplot.setData(tableOf(view));
    } else {
      shape = nextShape;
      drop();
      box.replaceChildren();
      if (isEmpty) box.append(make("p", "none", "No values yet."));
      else begin();
    }
    const alt = view.kind === "curves" ? view.alts.join(" ") : view.alt;
    box.querySelector("canvas")?.setAttribute("aria-label", alt);
  }

  function fillLegend(isEmpty) {
    swatches = [];
    const entries = isEmpty ? [] : view.kind === "curves"
      ? view.series.map((s) => [s, s.name, `${spell(s.last, view.isShare)} ${view.whenLast}`])
      : view.names.map((name, i) => [{ color: i, pattern: i }, name, view.counts[i]]);
    legend.replaceChildren(...entries.map(([style, name, value]) => {
      const item = make("li");
      const canvas = make("canvas", "swatch");
      canvas.setAttribute("aria-hidden", "true");
      swatches.push([canvas, style]);
      item.append(canvas, make("span", "", name), " ", make("b", "", value));
      return item;
    }));
    swatches.forEach(paintSwatch);
  }

  function begin() {
    uplot = new uPlot(optionsFor(() => view, () => zoom, setZoom, box.clientWidth || 360), tableOf(view), box);
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("role", "img");
    box.tabIndex = 0;
    sizes.observe(box);
    cursorFor(uplot, box, () => view, () => swatches);
  }

  function setZoom(range) {
    zoom = range;
    const [min, max] = zoom ?? view.frame.range;
    uplot.setScale("x", { min, max });
  }

  function drop() {
    sizes.unobserve(box);
    uplot?.destroy();
    uplot = null;
    zoom = null;
    box.removeAttribute("tabindex");
  }

  const sizes = new ResizeObserver(() => {
    if (uplot && box.clientWidth) uplot.setSize({ width: box.clientWidth, height: HEIGHT });
  });
  function paint() {
    swatches.forEach(paintSwatch);
    uplot?.redraw(false);
  }
  function destroy() {
    drop();
    figure.remove();
    plots.delete(plot);
  }
  const plot = { figure, update, paint, destroy };
  plots.add(plot);
  return plot;
}

// What must be equal for a plot to be kept when its data changes.
const shapeOf = (view) =>
  view.kind === "curves"
    ? JSON.stringify([view.frame.unit, view.series.map((s) => [s.color, s.hasIntervals, "low" in s, isDotted(s)])])
    : JSON.stringify([view.frame.unit, view.names.length]);

const isDotted = (series) => series.hasIntervals || series.x.length <= MOST_DOTTED;

// Returns the columns of uPlot: x of all curves, and the values of each.
function tableOf(view) {
  if (view.kind === "shares") return [view.edges, view.edges.map(() => 0)];
  return uPlot.join(view.series.map((s) => [s.x, s.y]), view.series.map(() => [1, 1]));
}

// --- uPlot ---------------------------------------------------------------------------------

function optionsFor(viewNow, zoomNow, setZoom, width) {
  const view = viewNow();
  const { isTime, unit } = view.frame;
  const isShare = view.kind === "shares" || view.isShare;
  const axis = { stroke: () => cssColor("--dim"), font: FONT, labelFont: FONT, ticks: { stroke: () => cssColor("--rule"), width: 1, size: 4 } };
  const grid = { stroke: () => cssColor("--rule"), width: 1 };
  const curves = view.kind === "curves" ? view.series : [{ isHidden: true }];
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    scales: {
      x: { time: false, range: () => zoomNow() ?? viewNow().frame.range },
      y: { range: () => (view.kind === "shares" ? [0, 1] : viewNow().scale) },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 26, gap: 4, space: isTime ? 80 : 56, label: isTime ? "wall time" : `${unit}s`, labelSize: 18, labelGap: 0,
        incrs: isTime ? TIME_STEPS : STEPS,
        values: (u, splits) => splits.map((value) => (isTime ? timeTick(value) : tick(value, step(splits)))) },
      { ...axis, grid, gap: 4, space: 30, incrs: STEPS,
        size: (u, values) => 14 + 7 * Math.max(2, ...(values ?? []).map((text) => text.length)),
        values: (u, splits) => splits.map((value) => (isShare ? percentTick(value, step(splits)) : tick(value, step(splits)))) },
    ],
    series: [{}, ...curves.map(seriesOptions)],
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => () => setZoom(null) },
    },
    hooks: {
      setSelect: [(u) => {
        const { left, width: chosen } = u.select;
        if (chosen > 8) setZoom([u.posToVal(left, "x"), u.posToVal(left + chosen, "x")]);
        u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      }],
      drawAxes: [(u) => within(u, () => {
        const now = viewNow();
        if (now.kind === "shares") return drawShares(u, now);
        drawMarks(u, now.frame.marks);
        for (const series of now.series) if (series.low && !series.hasIntervals) drawBand(u, series);
      })],
      draw: [(u) => within(u, () => {
        const now = viewNow();
        if (now.kind === "curves") now.series.forEach((series, i) => series.hasIntervals && drawIntervals(u, series, i));
        if (u.here !== undefined) drawLine(u, u.here, cssColor("--accent"), []);
      })],
    },
  };
}

function seriesOptions(series) {
  if (series.isHidden) return { show: false };
  const color = () => seriesColor(series.color);
  return {
    stroke: color,
    width: 1.8,
    dash: SVG_DASHES[series.dash % SVG_DASHES.length],
    spanGaps: series.hasIntervals,
    points: { show: isDotted(series), size: 5, stroke: color, fill: color },
  };
}

// Draws inside the area of the curves only.
function within(u, draw) {
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
  draw();
  u.ctx.restore();
}

function drawLine(u, x, color, dash) {
  const { ctx, bbox } = u;
  const at = u.valToPos(x, "x", true);
  ctx.beginPath();
  ctx.strokeStyle = color;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash(dash.map((length) => length * devicePixelRatio));
  ctx.moveTo(at, bbox.top);
  ctx.lineTo(at, bbox.top + bbox.height);
  ctx.stroke();
  ctx.setLineDash([]);
}

function drawMarks(u, marks) {
  for (const mark of marks) drawLine(u, mark, cssColor("--dim"), [2, 3]);
}

// Fills the area between the least and the greatest of the records behind each point.
function drawBand(u, { x, low, high, color }) {
  const { ctx } = u;
  const known = x.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null);
  ctx.beginPath();
  for (const i of known) ctx.lineTo(u.valToPos(x[i], "x", true), u.valToPos(high[i], "y", true));
  for (const i of known.reverse()) ctx.lineTo(u.valToPos(x[i], "x", true), u.valToPos(low[i], "y", true));
  ctx.globalAlpha = 0.22;
  ctx.fillStyle = seriesColor(color);
  ctx.fill();
}

// Draws the interval of each measured point; an open end reaches the edge and has no cap.
function drawIntervals(u, { x, y, low, high, color }, number) {
  const { ctx, bbox } = u;
  const px = devicePixelRatio;
  ctx.strokeStyle = seriesColor(color);
  ctx.lineWidth = 1.2 * px;
  ctx.globalAlpha = 0.75;
  ctx.beginPath();
  x.forEach((value, i) => {
    if (y[i] === null) return;
    const at = u.valToPos(value, "x", true) + 4 * number * px; // Those of several curves stand side by side.
    const top = high[i] === null ? bbox.top : u.valToPos(high[i], "y", true);
    const bottom = low[i] === null ? bbox.top + bbox.height : u.valToPos(low[i], "y", true);
    ctx.moveTo(at, top);
    ctx.lineTo(at, bottom);
    for (const [end, isOpen] of [[top, high[i] === null], [bottom, low[i] === null]]) {
      if (isOpen) continue;
      ctx.moveTo(at - 3 * px, end);
      ctx.lineTo(at + 3 * px, end);
    }
  });
  ctx.stroke();
}

// Draws columns that divide the events of each stretch by their kind.
function drawShares(u, { edges, shares }) {
  const { ctx } = u;
  for (let i = 0; i + 1 < edges.length; i++) {
    const left = u.valToPos(edges[i], "x", true);
    const width = Math.max(devicePixelRatio, u.valToPos(edges[i + 1], "x", true) - left - devicePixelRatio);
    let below = 0;
    shares.forEach((kind, number) => {
      const share = kind[i];
      if (!share) return;
      const top = u.valToPos(below + share, "y", true);
      ctx.fillStyle = fillOf(ctx, number);
      ctx.fillRect(left, top, width, u.valToPos(below, "y", true) - top);
      below += share;
    });
  }
}

// Returns the fill of a kind: its color, from the second on with a pattern over it.
function fillOf(ctx, number) {
  const color = seriesColor(number);
  if (!number) return color;
  const size = 6 * devicePixelRatio;
  const tile = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const pen = tile.getContext("2d");
  pen.fillStyle = color;
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = cssColor("--card");
  pen.globalAlpha = 0.65;
  pen.lineWidth = 1.4 * devicePixelRatio;
  pen.beginPath();
  const [[x0, y0], [x1, y1]] = [[[0, 1], [1, 0]], [[0, 0], [1, 1]], [[0, 0.5], [1, 0.5]], [[0.5, 0], [0.5, 1]]][(number - 1) % 4];
  pen.moveTo(x0 * size, y0 * size);
  pen.lineTo(x1 * size, y1 * size);
  pen.stroke();
  return ctx.createPattern(tile, "repeat");
}

function paintSwatch([canvas, style]) {
  const px = devicePixelRatio;
  Object.assign(canvas, { width: 28 * px, height: 14 * px });
  const ctx = canvas.getContext("2d");
  if ("pattern" in style) {
    ctx.fillStyle = fillOf(ctx, style.pattern);
    ctx.fillRect(px, px, 26 * px, 12 * px);
    return;
  }
  ctx.strokeStyle = ctx.fillStyle = seriesColor(style.color);
  ctx.lineWidth = 2 * px;
  ctx.setLineDash(SVG_DASHES[style.dash % SVG_DASHES.length].map((length) => length * px));
  ctx.beginPath();
  ctx.moveTo(px, 7 * px);
  ctx.lineTo(27 * px, 7 * px);
  ctx.stroke();
}

// --- ticks ---------------------------------------------------------------------------------

// Steps between ticks: 1, 2 and 5 times a power of ten.
const STEPS = Array.from({ length: 30 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** (i - 14))).flat();
const TIME_STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200,
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e4, 1e5, 1e6].map((days) => days * 86400)];

function timeTick(seconds) {
  if (!seconds) return "0";
  if (seconds % 86400 === 0) return `${seconds / 86400} d`;
  if (seconds >= 3600) return seconds % 3600 ? `${(seconds / 3600).toFixed(1)} h` : `${seconds / 3600} h`;
  return seconds >= 60 ? `${Math.round(seconds / 6) / 10} min` : `${seconds} s`;
}

const step = (splits) => (splits.length > 1 ? Math.abs(splits[1] - splits[0]) : Math.abs(splits[0]) || 1);
const decimals = (size) => Math.min(20, Math.max(0, -Math.floor(Math.log10(size) + 1e-9)));

// Returns a number for an axis whose ticks are `size` apart, with no needless digits.
function tick(value, size) {
  if (Math.abs(value) < size * 1e-9) return "0";
  for (const [scale, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= scale && (scale > 1e3 || Math.abs(value) >= 1e4)) {
      return (value / scale).toFixed(decimals(size / scale)) + letter;
    }
  }
  return size < 1e-4 ? value.toExponential(1).replace(".0e", "e") : value.toFixed(decimals(size));
}

const percentTick = (value, size) => `${(100 * value).toFixed(decimals(100 * size))}%`;

// --- the cursor ----------------------------------------------------------------------------

// Shows the numbers under the pointer, or under a cursor that the arrow keys move.
function cursorFor(u, box, viewNow, swatchesNow) {
  const tip = make("div", "tip");
  tip.hidden = true;
  tip.setAttribute("role", "status");
  box.append(tip);
  let place = -1;
  const isMoves = viewNow().frame.unit === "move";

  const stops = () => {
    const view = viewNow();
    if (view.kind === "shares") return view.edges.slice(1);
    return [...new Set(view.series.flatMap((series) => series.x))].sort((a, b) => a - b);
  };

  function row(number, text) {
    const line = make("div");
    const [canvas, style] = swatchesNow()[number];
    const copy = canvas.cloneNode();
    paintSwatch([copy, style]);
    line.append(copy, text);
    return line;
  }

  function rows(view, x) {
    if (view.kind === "shares") {
      const stretch = Math.max(0, view.edges.findIndex((edge) => edge >= x) - 1);
      return view.names.map((name, i) => row(i, `${name} ${spell(view.shares[i][stretch], true)}`));
    }
    return view.series.flatMap((series, number) => {
      const at = nearest(series.x, x);
      // A curve that has ended long before has no value here.
      if (viewNow().series.length > 1 && !isNear(series.x, at, x, view)) return [];
      let text = `${series.name} ${spell(series.y[at], view.isShare)}`;
      if (series.low) text += ` (${spell(series.low[at], view.isShare)} to ${spell(series.high[at], view.isShare)})`;
      return [row(number, text)];
    });
  }

  function show(x, left) {
    const view = viewNow();
    const all = stops();
    place = nearest(all, x);
    const head = view.frame.isTime ? duration(all[place]) : `${view.frame.unit} ${whole.format(all[place])}`;
    const { marks, range, mark } = view.frame;
    const near = marks.find((at) => Math.abs(at - all[place]) <= (range[1] - range[0]) / 100);
    const named = near === undefined ? [] : [make("div", "", `${mark} ${whole.format(near)}`)];
    tip.replaceChildren(make("b", "", head), ...named, ...rows(view, all[place]));
    tip.hidden = false;
    const at = left + u.over.offsetLeft;
    const isRight = at > box.clientWidth / 2;
    tip.style.left = isRight ? "" : `${at + 12}px`;
    tip.style.right = isRight ? `${box.clientWidth - at + 12}px` : "";
    tip.style.top = "8px";
  }

  function hide() {
    tip.hidden = true;
    u.setCursor({ left: -10, top: -10 }, false);
  }

  u.hooks.setCursor = [() => {
    const { left } = u.cursor;
    if (left === null || left === undefined || left < 0) tip.hidden = true;
    else show(u.posToVal(left, "x"), left);
  }];
  box.onblur = hide;
  box.onkeydown = (event) => {
    const all = stops();
    const far = Math.max(1, Math.round(all.length / 20));
    const moves = {
      ArrowLeft: place < 0 ? all.length - 1 : place - 1, ArrowRight: place + 1,
      PageUp: place - far, PageDown: place + far, Home: 0, End: all.length - 1,
    };
    if (event.key === "Escape") hide();
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(all.length - 1, moves[event.key]));
    const left = u.valToPos(all[to], "x");
    u.setCursor({ left, top: 10 }, false);
    show(all[to], left);
  };

  // A chart over the moves of a game goes with the board, see replay.js.
  if (isMoves) {
    u.over.addEventListener("click", (event) => {
      const all = stops();
      const x = u.posToVal(event.clientX - u.over.getBoundingClientRect().left, "x");
      document.dispatchEvent(new CustomEvent("move-chosen", { detail: all[nearest(all, x)] }));
    });
    document.addEventListener("move-shown", (event) => {
      u.here = event.detail;
      box.dataset.here = event.detail;
      u.redraw(false);
    });
  }
}

// Returns the index of the number nearest to x; `sorted` is increasing.
function nearest(sorted, x) {
  let [low, high] = [0, sorted.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - sorted[low - 1] < sorted[low] - x ? low - 1 : low;
}

function isNear(xs, at, x, view) {
  const [first, last] = view.frame.range;
  const gap = Math.max((last - first) / 50, at > 0 ? xs[at] - xs[at - 1] : 0);
  return Math.abs(xs[at] - x) <= gap;
}

// In a page of its own, the data of a grid stands in it.
for (const root of document.querySelectorAll(".grid[data-charts]")) {
  const data = JSON.parse(root.querySelector("script").textContent);
  chartGrid(root).show(viewsOf([{ label: "", data }]));
}

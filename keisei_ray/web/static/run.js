// One run, or several side by side: states, curves, events, settings.
import { chartGrid, viewsOf } from "../shared/charts.js";
import { el, getJson, listen, say } from "./page.js";
import { explanation, facts, plural, stateBadge } from "./status.js";

const CHARTS_MS = 5000; // Between two looks for new points while a run goes on.

export async function showRuns(root, names, query, signal) {
  const isAlone = names.length === 1;
  document.title = `${names.join(", ")} - Keisei Ray`;
  const heads = new Map(names.map((name) => [name, el("section", { class: "run-head" })]));
  const groups = el("div", { class: "groups" });
  const tables = el("div");
  const axis = axisChoice(() => draw());
  root.append(
    el("p", { class: "back" }, el("a", { href: "#/runs", text: "All runs" })),
    el("div", { class: isAlone ? "" : "heads" }, [...heads.values()]),
    axis.element, groups, tables,
  );

  const charts = new Map(); // Name -> {revision, groups}.
  const states = new Map();
  const grids = new Map(); // Title of the group -> {grid, none}.

  function draw() {
    const runs = names.filter((name) => charts.has(name));
    if (!runs.length) return;
    for (const { title } of charts.get(runs[0]).groups) {
      if (!grids.has(title)) {
        const box = el("div", { class: "grid" });
        const none = el("p", { class: "none", text: "No match against an opponent is on record yet." });
        groups.append(el("section", { "aria-label": title }, el("h2", { text: title }), box, none));
        grids.set(title, { grid: chartGrid(box), none });
      }
      const shown = runs.map((name) => ({
        label: name, color: names.indexOf(name), data: charts.get(name).groups.find((g) => g.title === title),
      }));
      const views = viewsOf(shown, axis.chosen());
      grids.get(title).grid.show(views);
      grids.get(title).none.hidden = views.length > 0;
    }
  }

  async function fetchCharts(name) {
    try {
      charts.set(name, await getJson(`api/runs/${encodeURIComponent(name)}/charts`, signal));
    } catch (error) {
      if (!signal.aborted) say(`${name}: ${error.message}`, "bad");
    }
  }

  async function refresh() {
    if (document.hidden) return;
    const due = names.filter((name) => states.get(name)?.status && states.get(name).revision !== charts.get(name)?.revision);
    if (!due.length) return;
    await Promise.all(due.map(fetchCharts));
    if (!signal.aborted) draw();
  }

  listen(`api/live?${names.map((name) => `run=${encodeURIComponent(name)}`).join("&")}`, (change) => {
    for (const state of change.runs) {
      states.set(state.run, state);
      fillHead(heads.get(state.run), state, isAlone);
    }
  }, signal);
  const timer = setInterval(refresh, CHARTS_MS);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    grids.forEach(({ grid }) => grid.clear());
  });
  await Promise.all(names.map(fetchCharts));
  if (signal.aborted) return;
  draw();
  await showTables(tables, names, signal);
}

// Two buttons: over what the curves are drawn.
function axisChoice(change) {
  let axis = "x";
  const buttons = [["x", "by timestep"], ["wall", "by wall time"]].map(([value, text]) =>
    el("button", { type: "button", "aria-pressed": String(value === axis), text, onclick: (event) => {
      axis = value;
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === event.target)));
      change();
    } }));
  return { element: el("div", { class: "bar", role: "group", "aria-label": "Curves" }, buttons), chosen: () => axis };
}

function fillHead(section, { run, path, status, error }, isAlone) {
  section.replaceChildren(el(isAlone ? "h1" : "h2", {}, isAlone ? run : el("a", { href: `#/runs/${encodeURIComponent(run)}`, text: run }), " ", status ? stateBadge(status) : null));
  if (error) section.append(el("p", { class: "bad", role: "status", text: error }));
  if (!status) return;
  const why = explanation(status);
  const warnings = status.warnings.map((w) => el("li", { text: w.message }));
  section.append(
    isAlone ? el("p", { class: "note path", text: path }) : "",
    el("p", {}, el("a", { href: `#/games/${encodeURIComponent(run)}`, text: "Games" }), " ",
      el("a", { href: `#/play/${encodeURIComponent(run)}`, text: "Play against it" })),
    why ? el("p", { class: status.state === "running" ? "note" : "bad", text: why }) : "",
    el("dl", { class: "facts" }, facts(status).map(([name, value, note]) =>
      el("div", {}, el("dt", { text: name }), el("dd", {}, value, note ? el("small", { text: note }) : null)))),
  );
  if (warnings.length) {
    section.append(el("details", { class: "bad", open: isAlone }, el("summary", { text: `${plural(status.faults, "warning")} in this session` }), el("ul", {}, warnings)));
  }
}

async function showTables(root, names, signal) {
  const settings = await getJson(`api/settings?${names.map((n) => `run=${encodeURIComponent(n)}`).join("&")}`, signal);
  root.append(el("section", {}, el("h2", { text: "Settings" }), settingsTable(settings)));
  const events = el("section", {}, el("h2", { text: "Events" }));
  root.append(events);
  for (const name of names) {
    const found = await getJson(`api/runs/${encodeURIComponent(name)}/events`, signal);
    const content = eventsTable(found, name);
    events.append(names.length === 1 ? content : el("details", {}, el("summary", { text: name }), content));
  }
}

function settingsTable({ runs, settings }) {
  const isCompared = runs.length > 1;
  const rows = settings.map(({ setting, values, differs }) =>
    el("tr", { class: differs ? "differs" : "" }, el("th", { scope: "row", text: setting }),
      values.map((value, i) => el("td", { "data-label": runs[i], text: value ?? "-" }))));
  const table = scroll("Settings", ["Setting", ...(isCompared ? runs : ["Value"])], rows);
  if (!isCompared) return el("details", {}, el("summary", { text: "All settings of the run" }), table);
  const count = settings.filter((row) => row.differs).length;
  const onlyDiffering = (isOnly) => table.classList.toggle("only-differs", isOnly);
  onlyDiffering(true);
  return el("div", {},
    el("p", {}, `${plural(count, "setting")} ${count === 1 ? "differs" : "differ"}. `,
      el("label", {}, el("input", { type: "checkbox", onchange: (event) => onlyDiffering(!event.target.checked) }), " Show all settings")),
    table);
}

function eventsTable({ events, damaged }, name) {
  const rows = events.map((event) =>
    el("tr", { class: event.isTrouble ? "trouble" : "" }, [event.time, event.kind, event.text].map((text) => el("td", { text }))));
  const lines = Object.entries(damaged).map(([file, count]) => `${file}: ${count}`).join("; ");
  return el("div", { class: "events" },
    rows.length ? scroll(`Events of ${name}`, ["Time (UTC)", "Event", "What"], rows) : el("p", { class: "none", text: "No events on record." }),
    lines ? el("p", { class: "note", text: `Lines that could not be read and were left out: ${lines}.` }) : null);
}

const scroll = (label, head, rows) =>
  el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", {}, el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col", text })))), el("tbody", {}, rows)));

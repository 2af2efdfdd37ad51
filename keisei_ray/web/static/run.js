// One run, or several side by side: states, curves, events, settings.
import { chartGrid, viewsOf } from "../shared/charts.js";
import { el, getJson, listen, say } from "./page.js";
import { explanation, facts, plural, stateBadge } from "./status.js";

const CHARTS_MS = 5000; // Between two looks for new points while a run goes on.

export async function showRuns(root, names, signal) {
  const isAlone = names.length === 1;
  document.title = `${names.join(", ")} - Keisei Ray`;
  const heads = new Map(names.map((name) => [name, el("section", { class: "run-head" })]));
  const groups = el("div", { class: "groups" }, el("p", { class: "note", text: "The curves are being read ..." }));
  const settings = el("section");
  const events = el("section", {}, el("h2", { text: "Events" }));
  const showEvents = new Map(names.map((name) => [name, eventsBox(events, name, isAlone)]));
  const axis = axisChoice(() => draw());
  root.append(
    el("p", { class: "back" }, el("a", { href: "#/runs", text: "All runs" })),
    el("div", { class: isAlone ? "" : "heads" }, [...heads.values()]),
    axis.element, groups, settings, events,
  );

  for (const [name, head] of heads) fillHead(head, { run: name }, isAlone);

  const charts = new Map(); // Name -> {revision, groups}.
  const states = new Map();
  const grids = new Map(); // Title of the group -> {grid, none}.

  function draw() {
    const runs = names.filter((name) => charts.has(name));
    if (!runs.length) return;
    if (!grids.size) groups.replaceChildren();
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

  // Fetches something of a run; a failure is told until the run can be read.
  const failed = new Set();
  async function attempt(name, fetchIt) {
    try {
      await fetchIt();
      if (failed.delete(name) && !failed.size) say("");
    } catch (error) {
      if (signal.aborted) return;
      failed.add(name);
      if (!states.has(name)) fillHead(heads.get(name), { run: name, error: error.message }, isAlone);
      say(`${name}: ${error.message}`, "bad");
    }
  }
  const fetchCharts = (name) => attempt(name, async () => {
    charts.set(name, await getJson(`api/runs/${encodeURIComponent(name)}/charts`, signal));
  });
  const fetchEvents = (name) => attempt(name, () => showEvents.get(name)(signal));

  async function refresh() {
    if (document.hidden) return;
    const due = names.filter((name) => states.get(name)?.status && states.get(name).revision !== charts.get(name)?.revision);
    if (due.length) await fetchAll(due);
  }

  async function fetchAll(wanted) {
    await Promise.all(wanted.map(fetchCharts));
    if (signal.aborted) return;
    if (!charts.size) groups.replaceChildren();
    draw();
    await Promise.all(wanted.map(fetchEvents));
  }

  listen(`api/live?${names.map((name) => `run=${encodeURIComponent(name)}`).join("&")}`, (change) => {
    for (const state of change.runs) {
      states.set(state.run, state);
      fillHead(heads.get(state.run), state, isAlone);
    }
  }, signal, () => fetchAll(names));
  const timer = setInterval(refresh, CHARTS_MS);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    grids.forEach(({ grid }) => grid.clear());
  });
  await fetchAll(names);
  if (signal.aborted) return;
  await showSettings(settings, names, signal);
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

// Fills the head of a run. A part is replaced only when it has changed, so that what is open or has
// the focus stays so.
function fillHead(section, { run, path, status, error }, isAlone) {
  const parts = {
    title: [status?.state, status?.faults],
    error: [error],
    why: [status ? explanation(status) : error ? "" : "being read ..."],
    facts: status ? facts(status, path) : [],
    warnings: status ? [status.faults, ...status.warnings.map((w) => w.message)] : [],
  };
  const build = {
    title: () => [
      el(isAlone ? "h1" : "h2", {},
        isAlone ? run : el("a", { href: `#/runs/${encodeURIComponent(run)}`, text: run }), " ", status ? stateBadge(status) : null),
      isAlone && path ? el("p", { class: "note path", text: path }) : "",
      el("p", { class: "links" }, [["Games", "games"], ["Play", "play"]].map(([text, page]) =>
        el("a", { href: `#/${page}/${encodeURIComponent(run)}`, text, "aria-label": `${text}: ${run}` }))),
    ],
    error: () => (error ? [el("p", { class: "bad", role: "status", text: error })] : []),
    why: ([text]) => (text ? [el("p", { class: ["silent", "failed"].includes(status?.state) ? "bad" : "note", text })] : []),
    facts: (rows) => [el("dl", { class: "facts" }, rows.map(([name, value, note]) =>
      el("div", {}, el("dt", { text: name }), el("dd", {}, value, note ? el("small", { text: note }) : null))))],
    warnings: ([count, ...messages]) => (messages.length
      ? [el("details", { class: "bad", open: section.querySelector("details")?.open ?? isAlone },
          el("summary", { text: `${plural(count, "warning")} in this session` }),
          el("ul", {}, messages.map((text) => el("li", { text }))))]
      : []),
  };
  for (const [name, content] of Object.entries(parts)) {
    const text = JSON.stringify(content);
    let box = section.querySelector(`[data-part="${name}"]`);
    if (!box) {
      box = el("div", { "data-part": name });
      section.append(box);
    }
    if (box.dataset.shown === text || (error && name === "title" && !status && box.dataset.shown)) continue;
    box.dataset.shown = text;
    box.replaceChildren(...(content.length ? build[name](content) : []));
  }
}

async function showSettings(root, names, signal) {
  const settings = await getJson(`api/settings?${names.map((n) => `run=${encodeURIComponent(n)}`).join("&")}`, signal);
  root.append(el("h2", { text: "Settings" }), settingsTable(settings));
}

// Returns a function that shows the events of a run, or those that have come since.
function eventsBox(root, name, isAlone) {
  const box = el("div");
  let shown = "";
  root.append(isAlone ? box : el("details", {}, el("summary", { text: name }), box));
  return async (signal) => {
    const found = await getJson(`api/runs/${encodeURIComponent(name)}/events`, signal);
    const text = JSON.stringify(found);
    if (text === shown) return;
    shown = text;
    const at = box.querySelector(".scroll")?.scrollTop ?? 0;
    box.replaceChildren(eventsTable(found, name));
    if (at) box.querySelector(".scroll").scrollTop = at;
  };
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

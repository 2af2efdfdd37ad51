// The page of the runs: the list at #/runs, and one run or several side by side at #/runs/A/B.
import { el, getJson, listen } from "./page.js";
import { showRuns } from "./run.js";
import { number, progress, stateBadge, strength, timeLeft } from "./status.js";

const MOST_COMPARED = 8;

export async function show(root, parts, _query, signal) {
  const names = parts.filter(Boolean);
  if (names.length) await showRuns(root, [...new Set(names)].slice(0, MOST_COMPARED), signal);
  else await showList(root, signal);
}

async function showList(root, signal) {
  const chosen = new Set();
  const rows = new Map();
  const compare = el("a", { class: "button", role: "link", "aria-disabled": "true", text: "Compare" });
  const body = el("tbody");
  const head = ["", "Run", "State", "Progress", "Time left", "Speed", "Games", "Strength"];
  root.append(
    el("h1", { text: "Runs" }),
    el("p", { class: "bar" }, compare, " ", el("span", { class: "note", text: "Mark two runs or more to see them on one page." })),
    el("div", { class: "scroll runs", tabindex: "0", role: "region", "aria-label": "Runs" },
      el("table", {}, el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col", text })))), body)),
  );

  function mark(name, isChosen) {
    if (isChosen) chosen.add(name);
    else chosen.delete(name);
    const isEnough = chosen.size > 1 && chosen.size <= MOST_COMPARED;
    compare.textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
    compare.setAttribute("aria-disabled", String(!isEnough));
    if (isEnough) compare.href = `#/runs/${[...chosen].map(encodeURIComponent).join("/")}`;
    else compare.removeAttribute("href");
  }

  function take(state) {
    const { run } = state;
    if (state.isGone) {
      rows.get(run)?.remove();
      rows.delete(run);
      mark(run, false);
      return;
    }
    if (!rows.has(run)) {
      rows.set(run, newRow(run, mark));
      body.append(rows.get(run));
    }
    fill(rows.get(run), state);
  }

  const { runs } = await getJson("api/runs", signal);
  runs.forEach(take);
  sort(body, rows);  // Now, not when the first change comes: a row that moves is missed by a click.
  if (!runs.length) body.append(el("tr", {}, el("td", { colspan: head.length, text: "No run here yet. `python run.py` begins one; it appears by itself." })));
  listen("api/live", (change) => {
    if (!rows.size) body.replaceChildren();
    change.runs.forEach(take);
    sort(body, rows);
  }, signal, dropGone);

  // Takes away the runs that have been deleted while the page was not seen.
  async function dropGone() {
    const found = await getJson("api/runs", signal).catch(() => null); // The stream says that it is lost.
    if (!found) return;
    const names = new Set(found.runs.map(({ run }) => run));
    [...rows.keys()].filter((run) => !names.has(run)).forEach((run) => take({ run, isGone: true }));
  }
}

// What is clicked stays in its place: of an element that is replaced between press and release, the
// browser tells no click.
function newRow(run, mark) {
  const box = el("input", {
    type: "checkbox", class: "choose", "aria-label": `Compare ${run}`,
    onchange: (event) => mark(run, event.target.checked),
  });
  const link = el("a", { class: "name", href: `#/runs/${encodeURIComponent(run)}`, text: run });
  return el("tr", {}, cell("", box), el("th", { scope: "row" }, link));
}

function fill(row, state) {
  const { run, path, status, error } = state;
  row.querySelector(".name").title = path;
  row.order = status ? [orderOf(status), -(status.silent_s === null ? 0 : 1), run] : [9, 0, run];
  [...row.children].slice(2).forEach((old) => old.remove());
  if (!status) {
    row.append(el("td", { colspan: 6, class: error ? "bad" : "note", text: error ?? "being read ..." }));
    return;
  }
  row.append(
    cell("State", stateBadge(status)),
    cell("Progress", progress(status)),
    cell("Time left", timeLeft(status)),
    cell("Speed", status.sps_total === null ? "-" : `${number(status.sps ?? status.sps_total)} plies/s`),
    cell("Games", number(status.games_total)),
    cell("Strength", strength(status).filter(Boolean).join(", ")),
  );
}

const cell = (label, content) => el("td", { "data-label": label }, content);

const ORDER = ["running", "starting", "silent", "failed", "interrupted", "finished"];
const orderOf = (status) => ORDER.indexOf(status.state);

// Runs that go on come first, then by name, the newest name first.
function sort(body, rows) {
  const sorted = [...rows.values()].sort(
    (a, b) => a.order[0] - b.order[0] || (a.order[2] < b.order[2] ? 1 : -1),
  );
  if (sorted.some((row, i) => body.children[i] !== row)) {
    const focused = document.activeElement;
    body.append(...sorted);
    if (body.contains(focused)) focused.focus();
  }
}

// One game, position by position, with what a checkpoint of the run thinks of it.
import { el, getJson, postJson, say } from "./page.js";
import { createBoard, svg } from "./board.js";
import {
  arrowsOf, chanceBar, copyText, createMoveList, findingText, movesTable, moverOf, namesSwitch, positionText,
} from "./moves.js";
import { otherSide, sideName } from "./pieces.js";

const TEMPO_MS = 700;
const SEARCHED_AT_ONCE = 16;

export async function showReplay(root, run, kind, number, signal) {
  const at = `api/runs/${encodeURIComponent(run)}`;
  const here = `${at}/games/${encodeURIComponent(kind)}/${encodeURIComponent(number)}`;
  const [game, { opponents }] = await Promise.all([getJson(here, signal), getJson(`${at}/opponents`, signal)]);
  const last = game.moves.length;
  let ply = 0;
  let isFlipped = game.human_color === "white";
  let timer = null;
  let findings = [];
  let asking = null;
  signal.addEventListener("abort", pause);

  const board = createBoard();
  const list = createMoveList(go);
  const status = el("p", { class: "status", role: "status", id: "status" });
  const slider = el("input", { type: "range", min: 0, max: last, step: 1, "aria-label": "Move", oninput: () => go(Number(slider.value)) });
  const button = (text, label, act) => el("button", { type: "button", text, "aria-label": label, title: label, onclick: act });
  const controls = {
    first: button("\u00ab", "First position", () => go(0)),
    back: button("\u2039", "One move back", () => go(ply - 1)),
    play: button("Play", "Play the game", () => (timer ? pause() : play())),
    forth: button("\u203a", "One move on", () => go(ply + 1)),
    last: button("\u00bb", "Last position", () => go(last)),
    flip: button("Turn board", "Turn the board", () => { isFlipped = !isFlipped; draw(); }),
  };
  const bar = el("div");
  const notes = el("div");
  const graph = el("div");
  const usable = opponents.filter((found) => found.problem === null);
  const checkpoint = el("select", { id: "checkpoint", "aria-label": "Checkpoint" },
    usable.map((found) => el("option", { value: found.name, text: `${found.label} (${found.name})` })));
  const search = el("select", { id: "search", "aria-label": "Search" },
    [[0, "the network alone"], [50, "50 simulations a position"], [400, "400 simulations a position"]]
      .map(([value, text]) => el("option", { value, text })));
  const ask = el("button", { type: "button", id: "ask", text: "Ask the network", onclick: () => (asking ? asking.abort() : evaluate()) });
  const shows = el("input", { type: "checkbox", checked: true, onchange: draw });
  const playOn = el("a", { id: "play-on", text: "Play on from here" });
  const versions = el("a", { id: "versions", text: "Two versions from here" });
  const copy = (name, text) => el("button", { type: "button", text: `Copy ${name}`, onclick: () => copyText(text(), say) });
  root.append(
    el("div", { class: "page-head" }, el("h1", { text: `Game ${game.number} of ${run}` }),
      el("a", { href: `#/games/${encodeURIComponent(run)}`, text: "All games" })),
    el("p", { class: "hint", text: facts(game) }),
    el("div", { class: "table-of-board" },
      el("div", { class: "panel" }, board.element, status,
        el("div", { class: "bar-of-buttons" }, Object.values(controls), namesSwitch(draw)), slider,
        el("div", { class: "bar-of-buttons" }, copy("KIF", () => game.kif), copy("USI", () => game.usi),
          copy("SFEN", () => game.sfens[ply]),
          playOn, versions)),
      el("div", {},
        el("section", { class: "panel" }, el("h2", { text: "What the network thinks" }),
          usable.length ? el("div", { class: "bar-of-buttons" }, checkpoint, search, ask) : el("p", { text: "This run has no checkpoint on this machine yet." }),
          bar, graph, notes, el("label", { class: "hint" }, shows, " Its moves as arrows on the board")),
        el("section", { class: "panel" }, el("h2", { text: "Moves" }), list.element))));
  document.addEventListener("keydown", byKey, { signal });
  draw();

  function byKey(event) {
    const targets = { ArrowLeft: ply - 1, ArrowRight: ply + 1, Home: 0, End: last };
    const isElsewhere = event.target.closest?.("select, input, textarea");
    if (!(event.key in targets) || isElsewhere || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(targets[event.key]);
  }

  function go(to) {
    ply = Math.max(0, Math.min(last, to));
    if (ply === last) pause();
    draw();
  }

  function play() {
    if (ply === last) ply = 0;
    timer = setInterval(() => go(ply + 1), TEMPO_MS);
    draw();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    controls.play.textContent = "Play";
  }

  function draw() {
    const finding = findings[ply] ?? null;
    board.show({
      sfen: game.sfens[ply], isFlipped, last: game.moves[ply - 1], isInCheck: game.checks.includes(ply),
      arrows: shows.checked ? arrowsOf(finding) : null, label: `Shogi board. ${positionText(game, ply)}`,
    });
    list.show(game, ply);
    const mate = game.mates[ply];
    const words = [positionText(game, ply)];
    if (mate) words.push(`${sideName(otherSide(moverOf(game, ply)))} mates in one: ${mate}.`);
    if (ply === last) words.push(`${game.title}.`);
    status.textContent = words.join(" ");
    slider.value = ply;
    slider.setAttribute("aria-valuetext", words[0]);
    controls.first.disabled = controls.back.disabled = ply === 0;
    controls.forth.disabled = controls.last.disabled = ply === last;
    controls.play.textContent = timer ? "Pause" : "Play";
    const on = new URLSearchParams({ sfen: game.sfens[ply] });
    playOn.href = `#/play/${encodeURIComponent(run)}?${on}`;
    const opening = new URLSearchParams({ sfen: game.sfens[0], moves: game.moves.slice(0, ply).join(" ") });
    if (ply === 0) opening.delete("moves");
    versions.href = `#/games/${encodeURIComponent(run)}/versions?${opening}`;
    bar.replaceChildren(...(finding ? [chanceBar(finding)] : []));
    notes.replaceChildren(...(finding ? [el("p", { text: findingText(finding) }), movesTable(finding)] : []));
    graph.replaceChildren(...(findings.length ? [chanceGraph()] : []));
  }

  // Asks about all positions: at once without a search, else some after the other.
  async function evaluate() {
    const mine = new AbortController();
    const stop = () => mine.abort();
    signal.addEventListener("abort", stop);
    asking = mine;
    ask.textContent = "Stop";
    findings = [];
    const simulations = Number(search.value);
    try {
      for (let first = 0; first <= last; first += SEARCHED_AT_ONCE) {
        const body = { checkpoint: checkpoint.value, simulations, first_ply: first };
        if (simulations) body.count = SEARCHED_AT_ONCE;
        const answer = await postJson(`${here}/findings`, body, mine.signal);
        findings.push(...answer.findings);
        say(simulations ? `${findings.length} of ${last + 1} positions.` : "");
        draw();
        if (!simulations) break;
      }
      say("");
    } catch (error) {
      if (!mine.signal.aborted) say(error.message, "bad");
      else if (!signal.aborted) say("");
    } finally {
      asking = null;
      ask.textContent = "Ask the network";
      signal.removeEventListener("abort", stop);
    }
  }

  // Black's chance in every position; a click goes to one.
  function chanceGraph() {
    const width = Math.max(1, last);
    const points = findings.map((finding, i) => `${i},${(1 - finding.black_chance).toFixed(4)}`).join(" ");
    return svg("svg", { class: "graph", viewBox: `0 -0.02 ${width} 1.04`, preserveAspectRatio: "none", role: "img",
      "aria-label": `Chance of ${sideName("black")} in every position, above one half: it is ahead` },
    svg("path", { class: "even", d: `M0 .5H${width}M0 0H${width}M0 1H${width}` }),
    svg("polyline", { class: "line", points }), svg("path", { class: "here", d: `M${ply} 0V1` }));
  }
  graph.addEventListener("click", (event) => {
    const box = graph.getBoundingClientRect();
    go(Math.round(((event.clientX - box.left) / box.width) * last));
  });
}

function facts(game) {
  const { opponent, learner_color: color, weights_version: version } = game;
  const parts = [`${game.title}`];
  if (game.human_color) parts.push(`a person played ${sideName(game.human_color)} against ${opponent}`);
  else if (opponent) parts.push(`the network played ${color ? sideName(color) : "one side"} against ${opponent}`);
  else parts.push("the network against itself");
  if (game.timestep !== null) parts.push(`timestep ${Number(game.timestep).toLocaleString("en")}`);
  if (version !== null) parts.push(`weights version ${version}`);
  if (game.opening) parts.push(`${game.opening} random moves at the start`);
  return `${parts.join(", ")}.`;
}

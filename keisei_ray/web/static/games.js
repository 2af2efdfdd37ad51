// The page "Games": boards of games that have just finished, and a list of all.
import { el, getJson, listen, runChoice, say } from "./page.js";
import { createBoard } from "./board.js";
import { namesSwitch, positionText } from "./moves.js";
import { showReplay } from "./replay.js";
import { showVersions } from "./versions.js";

const NUM_BOARDS = 4;
const TEMPO_MS = 500;
const REST_MOVES = 6; // A finished board rests for so many moves before the next game takes its place.
const PAGE = 50;
const READ_AGAIN_MS = 200;

export async function show(root, parts, query, signal) {
  const [run, kind, number] = parts;
  if (run && kind === "versions") return showVersions(root, run, query, signal);
  if (run && number !== undefined) return showReplay(root, run, kind, number, signal);
  const { runs } = await getJson("api/runs", signal);
  if (!runs.length) {
    root.append(el("h1", { text: "Games" }), el("p", { text: "There is no run yet." }));
    return undefined;
  }
  if (!run) {
    location.replace(`#/games/${encodeURIComponent(runs[0].run)}`);
    return undefined;
  }
  const redraws = [];
  root.append(el("div", { class: "page-head" }, el("h1", { text: "Games" }),
    runChoice("games", runs, run), el("a", { href: `#/games/${encodeURIComponent(run)}/versions`, text: "Compare two versions" }), namesSwitch(() => redraws.forEach((redraw) => redraw()))));
  redraws.push(showNewest(root, run, signal));
  return showList(root, run, query, signal);
}

// Boards that replay the newest games; each takes the next one when its game is over.
function showNewest(root, run, signal) {
  const at = `api/runs/${encodeURIComponent(run)}/games`;
  const place = el("div", { class: "boards", id: "newest" });
  const pause = el("button", { type: "button", text: "Pause", "aria-pressed": "false", onclick: () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", isPaused);
  } });
  const note = el("p", { class: "hint", text: "Games that finish while this page is open are replayed here." });
  root.append(el("h2", { text: "Just finished" }), el("div", { class: "bar-of-buttons" }, pause), note, place);
  let isPaused = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (isPaused) [pause.textContent] = ["Go on"];
  const slots = [];
  const waiting = [];
  const seen = new Set();

  listen(`${at}/newest?count=${NUM_BOARDS}`, (numbers) => {
    // A list with smaller numbers only: the run was resumed, and its games are counted anew.
    if (numbers.length && !numbers.some((number) => !seen.has(number)) && Math.max(...seen) > numbers[0]) seen.clear();
    for (const number of [...numbers].reverse()) {
      if (!seen.has(number)) waiting.push(number);
      seen.add(number);
    }
    waiting.splice(0, Math.max(0, waiting.length - 2 * NUM_BOARDS));
    while (slots.length < NUM_BOARDS && waiting.length) addBoard();
  }, signal);
  const timer = setInterval(() => { if (!isPaused && !document.hidden) slots.forEach(step); }, TEMPO_MS);
  signal.addEventListener("abort", () => clearInterval(timer));

  function addBoard() {
    const board = createBoard();
    const caption = el("figcaption");
    const slot = { board, caption, game: null, ply: 0, isLoading: false };
    slots.push(slot);
    place.append(el("figure", {}, board.element, caption));
    load(slot);
  }

  async function load(slot) {
    const number = waiting.shift();
    if (number === undefined || slot.isLoading) return;
    slot.isLoading = true;
    try {
      slot.game = await getJson(`${at}/self-play/${number}`, signal);
      slot.ply = 0;
      draw(slot);
    } catch (error) {
      if (!signal.aborted) slot.caption.textContent = error.message;
    } finally {
      slot.isLoading = false;
    }
  }

  function step(slot) {
    const { game } = slot;
    if (!game) return load(slot);
    const last = game.moves.length;
    slot.ply += 1;
    if (slot.ply <= last) return draw(slot);
    if (slot.ply > last + REST_MOVES) {
      if (waiting.length) return load(slot);
      slot.ply = last;
    }
    return undefined;
  }

  function draw(slot) {
    const { game, board, caption } = slot;
    const ply = Math.min(slot.ply, game.moves.length);
    const isOver = ply === game.moves.length;
    board.show({ sfen: game.sfens[ply], isFlipped: false, last: game.moves[ply - 1], isInCheck: game.checks.includes(ply),
      label: `Game ${game.number}. ${positionText(game, ply)}` });
    const link = el("a", { href: `#/games/${encodeURIComponent(run)}/self-play/${game.number}`, text: `Game ${game.number}` });
    const against = game.opponent ? ` against ${game.opponent}` : "";
    caption.replaceChildren(link, `${against}: move ${ply} of ${game.moves.length}. ${isOver ? game.title : ""}`);
  }
  return () => slots.filter(({ game }) => game).forEach(draw);
}

// The list of all games, page by page, with filters that the address keeps.
async function showList(root, run, query, signal) {
  const at = `api/runs/${encodeURIComponent(run)}/games`;
  const select = (name, label, texts) => {
    const made = el("select", { name, "aria-label": label }, texts.map(([value, text]) => el("option", { value, text })));
    const given = query.get(name);
    if (given && texts.every(([value]) => value !== given)) made.append(el("option", { value: given, text: given.replaceAll("_", " ") }));
    return made;
  };
  const kind = select("kind", "Kind of game", [["self-play", "self-play"], ["human", "against people"]]);
  const result = select("result", "Result", [["", "any result"]]);
  const reason = select("reason", "How it ended", [["", "any end"]]);
  const opponent = select("opponent", "Opponent", [["", "any opponent"]]);
  const least = el("input", { type: "number", name: "least", min: 0, "aria-label": "At least so many moves" });
  const most = el("input", { type: "number", name: "most", min: 0, "aria-label": "At most so many moves" });
  const inputs = [kind, result, reason, opponent, least, most];
  const count = el("p", { class: "status", role: "status", id: "count" });
  const rows = el("tbody");
  const back = el("button", { type: "button", text: "Newer", onclick: () => turn(-PAGE) });
  const forth = el("button", { type: "button", text: "Older", onclick: () => turn(PAGE) });
  let offset = Math.max(0, Number.parseInt(query.get("offset"), 10) || 0);
  let asked = new AbortController();
  signal.addEventListener("abort", () => asked.abort());
  for (const input of inputs) {
    input.value = query.get(input.name) ?? input.value;
    input.addEventListener("change", () => { offset = 0; load(); });
  }
  root.append(el("h2", { text: "All games" }),
    el("div", { class: "filters", id: "filters" }, kind, result, reason, opponent,
      el("label", {}, "moves from", least), el("label", {}, "to", most)),
    count,
    el("div", { class: "scroll" }, el("table", { class: "games-table", id: "games" },
      el("thead", {}, el("tr", {}, ["Game", "Result", "By", "Moves", "Opponent", "Timestep"].map((text) =>
        el("th", { scope: "col", class: ["Moves", "Timestep"].includes(text) ? "number" : null, text })))), rows)),
    el("div", { class: "bar-of-buttons" }, back, forth));
  return load();

  function turn(by) {
    offset = Math.max(0, offset + by);
    load();
  }

  async function load() {
    asked.abort();
    asked = new AbortController();
    const mine = asked;
    const wanted = new URLSearchParams({ offset, limit: PAGE });
    for (const input of inputs) if (input.value) wanted.set(input.name, input.value);
    history.replaceState(null, "", `#/games/${encodeURIComponent(run)}?${wanted}`);
    try {
      for (;;) {
        const page = await getJson(`${at}?${wanted}`, mine.signal);
        draw(page);
        if (page.complete) return;
        await new Promise((resolve) => { setTimeout(resolve, READ_AGAIN_MS); });
        if (mine.signal.aborted) return;
      }
    } catch (error) {
      if (!mine.signal.aborted) say(error.message, "bad");
    }
  }

  function draw(page) {
    offer(result, page.results, (value) => value.replaceAll("_", " "));
    offer(reason, page.reasons, (value) => value.replaceAll("_", " "));
    offer(opponent, page.opponents, (value) => value || "itself");
    const end = Math.min(page.total, offset + PAGE);
    const reading = page.complete ? "" : ` Still reading: ${page.read.toLocaleString("en")} so far.`;
    const damaged = page.damaged ? ` ${page.damaged} lines could not be read.` : "";
    count.textContent = page.total ? `Games ${offset + 1} to ${end} of ${page.total.toLocaleString("en")}.${reading}${damaged}`
      : `No such games.${reading}${damaged}`;
    back.disabled = offset === 0;
    forth.disabled = end >= page.total;
    rows.replaceChildren(...page.games.map((game) => el("tr", {},
      el("td", {}, el("a", { href: `#/games/${encodeURIComponent(run)}/${kind.value}/${game.number}`, text: `Game ${game.number}` })),
      el("td", { text: game.result.replaceAll("_", " ") }), el("td", { text: game.reason.replaceAll("_", " ") }),
      el("td", { class: "number", text: game.plies }), el("td", { text: game.opponent || "itself" }),
      el("td", { class: "number", text: game.timestep.toLocaleString("en") }))));
  }

  // Adds values to a filter that the list has and the filter does not.
  function offer(input, values, text) {
    const known = new Set([...input.options].map(({ value }) => value));
    for (const value of values) {
      const name = input === opponent && value === "" ? "none" : value;
      if (!known.has(name)) input.append(el("option", { value: name, text: text(value) }));
    }
  }
}

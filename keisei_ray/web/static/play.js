// The page "Play": choose an opponent, then play a game against it.
import { el, getJson, postJson, say } from "./page.js";
import { createBoard, drawPiece, movesFrom } from "./board.js";
import { begin, inTurn, setUp } from "./new_game.js";
import { kindName, kindOf, originOf, otherSide, sideTitle, targetOf } from "./pieces.js";
import {
  arrowsOf, chanceBar, copyText, createMoveList, findingText, movesTable, namesSwitch, positionText,
} from "./moves.js";

const HINT_SIMULATIONS = 200;
const TICK_MS = 250;
const BUSY_MS = 300; // Between two looks whether a move that is under way has been made.

export async function show(root, parts, query, signal) {
  const [run, game] = parts;
  if (game) return playGame(root, run, game, query, signal);
  const { runs } = await getJson("api/runs", signal);
  if (run) return setUp(root, runs, run, query, signal);
  if (runs.length) return location.replace(`#/play/${encodeURIComponent(runs[0].run)}`);
  return root.append(el("h1", { text: "Play" }), el("p", { text: "There is no run yet, and so no opponent." }));
}

// A game in play.
async function playGame(root, run, key, query, signal) {
  const [rivals, rival] = inTurn(query);
  const at = `api/play/${encodeURIComponent(key)}`;
  let state = await getJson(at, signal);
  let cameAt = performance.now();
  let shownPly = state.ply;
  let selected = null;
  let isWaiting = false;
  let isFlipped = state.human === "white";
  let hint = null;
  let evaluation = null;
  let problem = "";

  const board = createBoard({ onPick: pick });
  const list = createMoveList((ply) => { shownPly = ply; selected = null; draw(); });
  const status = el("p", { class: "status", role: "status", id: "status" });
  const clock = el("p", { class: "hint", id: "time" });
  const timer = setInterval(tick, TICK_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  const bar = el("div", { hidden: true });
  const hints = el("div", { "aria-live": "polite" });
  const ending = el("div");
  const button = (text, act, attributes = {}) => el("button", { type: "button", text, onclick: act, ...attributes });
  const controls = {
    takeBack: button("Take back", () => change("take-back"), { id: "take-back" }),
    hint: button("Hint", askHint, { id: "hint" }),
    resign: button("Resign", resign, { id: "resign" }),
    flip: button("Turn board", () => { isFlipped = !isFlipped; draw(); }),
    again: button("Try again", () => reply(), { id: "again", hidden: true }),
  };
  const showsBar = el("input", { type: "checkbox", id: "shows-bar", onchange: () => { evaluate(); draw(); } });
  root.append(
    el("div", { class: "page-head" }, el("h1", { text: `Against ${run}` }),
      el("a", { href: `#/play/${encodeURIComponent(run)}?${query}`, text: "Another game" })),
    el("p", { class: "hint", id: "opponent", text: `${rivals.length > 1 ? `Opponent ${rival + 1} of ${rivals.length}: ` : ""}${state.opponent.label}, ${strengthText(state)}` }),
    el("div", { class: "table-of-board" },
      el("div", { class: "panel" }, bar, board.element, status, clock,
        el("div", { class: "bar-of-buttons" }, Object.values(controls), namesSwitch(draw)),
        el("label", { class: "hint" }, showsBar, " Show the network's evaluation")),
      el("div", {}, el("section", { class: "panel" }, el("h2", { text: "Moves" }), list.element),
        hints, ending)));
  draw();
  if (state.end) await showEnding();
  if (isNetworksTurn()) await reply();

  function isNetworksTurn() {
    return !state.end && state.turn !== state.human;
  }

  // Whether the network did not move when it was asked to.
  function hasFailed() {
    return isNetworksTurn() && !isWaiting && Boolean(problem);
  }

  function draw() {
    const isLatest = shownPly === state.ply;
    const targets = isLatest && selected
      ? new Set(movesFrom(state.legal, state.human, selected).map(targetOf)) : null;
    board.show({
      sfen: state.sfens[shownPly], isFlipped, last: state.moves[shownPly - 1], selected, targets,
      movable: isLatest && state.legal.length ? new Set(state.legal.map((usi) => originOf(usi, state.human))) : null,
      arrows: isLatest && hint ? arrowsOf(hint) : null, isInCheck: state.checks.includes(shownPly),
      owners: { [state.human]: `${sideTitle(state.human)} (you)` },
      label: `Shogi board. ${positionText(state, shownPly)}`,
    });
    list.show(state, shownPly);
    status.textContent = statusText(isLatest);
    status.classList.toggle("end", Boolean(state.end) && isLatest);
    status.classList.toggle("bad", Boolean(problem) && isLatest);
    showTime();
    const canAct = !state.end && !isWaiting && state.turn === state.human;
    controls.takeBack.disabled = !(canAct || hasFailed()) || !state.can_take_back;
    controls.resign.disabled = !canAct && !(hasFailed() && state.can_take_back);
    controls.hint.disabled = !canAct;
    controls.again.hidden = !hasFailed();
    if (!state.end && !hasFailed()) ending.replaceChildren();
    bar.hidden = !showsBar.checked;
    bar.replaceChildren(chanceBar(evaluation), el("p", { class: "hint", text: evaluation ? findingText(evaluation) : "No evaluation yet." }));
    hints.replaceChildren(...(hint && isLatest
      ? [el("section", { class: "panel" }, el("h2", { text: "Hint" }), el("p", { text: findingText(hint) }), movesTable(hint))] : []));
  }

  // Seconds since the state came; the person's clock has run since then.
  function sinceState() {
    return state.end || isNetworksTurn() ? 0 : (performance.now() - cameAt) / 1000;
  }

  function showTime() {
    const used = `Time used: you ${timeText(state.used_s[state.human] + sinceState())}, the network `
      + `${timeText(state.used_s[otherSide(state.human)])}.`;
    const left = state.left_s === null || state.end ? "" : ` Left for this move: ${timeText(Math.max(0, state.left_s - sinceState()))}.`;
    clock.textContent = used + left;
  }

  // The server decides whether the time is up; the page asks it when its own clock says so.
  async function tick() {
    if (state.end || isWaiting) return;
    showTime();
    if (state.left_s === null || isNetworksTurn() || state.left_s - sinceState() > -0.1) return;
    await send(null, {});
    await after();
  }

  function statusText(isLatest) {
    const words = [positionText(state, shownPly)];
    if (!isLatest) return `${words[0]} Choose the last move to play on.`;
    if (state.end) {
      const points = { 1: "You win.", 0: "You lose.", 0.5: "Nobody wins." };
      return `${words[0]} ${points[state.end.for_human]} ${state.end.words}.`;
    }
    if (state.occurrences > 1) words.push(`This position has occurred ${state.occurrences} times; at the fourth the game is over.`);
    if (isWaiting && isNetworksTurn()) words.push("The network is thinking.");
    else if (problem) words.push(problem);
    else if (!isWaiting && state.turn === state.human) words.push("Your move.");
    return words.join(" ");
  }

  // A place was clicked: choose a piece, move it, or say why not.
  async function pick(place) {
    if (state.end || isWaiting || state.turn !== state.human) return;
    if (shownPly !== state.ply) {
      shownPly = state.ply;
      return draw();
    }
    problem = "";
    const moves = selected ? movesFrom(state.legal, state.human, selected).filter((usi) => targetOf(usi) === place) : [];
    if (moves.length) {
      const usi = moves.length === 1 ? moves[0] : await askPromotion(moves);
      if (usi) return play(usi);
    } else if (place === null || place === selected) {
      selected = null;
    } else if (movesFrom(state.legal, state.human, place).length) {
      selected = place;
    } else {
      problem = selected ? `${selected.replace(":", " ")} to ${place.replace(":", " ")} is not a legal move.` : "No legal move begins there.";
    }
    return draw();
  }

  // Asks whether a piece promotes; null: it was not decided.
  function askPromotion(moves) {
    const origin = moves[0].slice(0, 2);
    const cell = board.element.querySelector(`[data-place="${origin}"]`);
    const token = cell.dataset.drawn.split(" ")[0];
    return new Promise((resolve) => {
      const choice = (usi) => {
        const promotes = usi.endsWith("+");
        const text = promotes ? "Promote" : "Do not promote";
        return el("button", { type: "button", value: usi, "aria-label": text, onclick: () => dialog.close(usi) },
          drawPiece(promotes ? `+${token}` : token, true), text);
      };
      const dialog = el("dialog", { "aria-label": "Promotion", id: "promotion" },
        el("p", { text: `Does the ${kindName(kindOf(token))} promote?` }),
        el("div", { class: "choices" }, [...moves].sort((a, b) => b.length - a.length).map(choice)));
      document.body.append(dialog);
      const leave = () => dialog.close("");
      signal.addEventListener("abort", leave);
      dialog.addEventListener("close", () => {
        signal.removeEventListener("abort", leave);
        dialog.remove();
        resolve(moves.includes(dialog.returnValue) ? dialog.returnValue : null);
      });
      dialog.showModal();
    });
  }

  // Sends a change, or without a name just looks; what the server answers is the new state. Returns
  // the status of a refusal.
  async function send(name, body) {
    isWaiting = true;
    problem = "";
    draw();
    try {
      take(name ? await postJson(`${at}/${name}`, { ply: state.ply, ...body }, signal) : await getJson(at, signal));
    } catch (error) {
      if (signal.aborted) return undefined;
      problem = `${error.message}.`.replace(/\.+$/, ".");
      if (error.status === 409) take(await getJson(at, signal));
      return error.status;
    } finally {
      isWaiting = false;
      if (!signal.aborted) draw();
    }
    return undefined;
  }

  function take(next) {
    if (next.ply !== state.ply) evaluation = null;
    state = next;
    cameAt = performance.now();
    shownPly = state.ply;
    selected = null;
    hint = null;
  }

  async function play(usi) {
    await send("move", { move: usi });
    if (isNetworksTurn() && !problem) await reply();
    else await after();
  }

  // Has the network move. Where it is at it already, as after a reload of the page, waits for that.
  async function reply() {
    while ((await send("reply", {})) === 409 && !signal.aborted) {
      problem = "";
      isWaiting = isNetworksTurn();
      draw();
      if (!isWaiting) break;
      await new Promise((resolve) => { setTimeout(resolve, BUSY_MS); });
      if (signal.aborted) return;
    }
    await after();
  }

  // Only the side to move resigns: where the network does not move, the last move is taken back.
  async function resign() {
    const isEarly = hasFailed();
    if (!confirm(isEarly ? "Take your last move back and resign?" : "Resign this game?")) return;
    if (isEarly) await send("take-back", {});
    if (state.turn === state.human) await change("resign");
    else await after();
  }

  async function change(name) {
    await send(name, {});
    await after();
  }

  async function after() {
    if (signal.aborted) return;
    if (state.end) await showEnding();
    else if (hasFailed()) await showUnfinished();
    else await evaluate();
  }

  async function askHint() {
    const { ply } = state;
    controls.hint.disabled = true;
    status.textContent = "The network is thinking about a hint.";
    try {
      const found = await postJson(`${at}/findings`, { ply, simulations: HINT_SIMULATIONS, is_hint: true }, signal);
      if (ply === state.ply) hint = found;
    } catch (error) {
      if (signal.aborted) return;
      problem = error.message;
    }
    draw();
  }

  async function evaluate() {
    if (!showsBar.checked || state.end || evaluation) return;
    const { ply } = state;
    try {
      const found = await postJson(`${at}/findings`, { ply }, signal);
      if (ply === state.ply) evaluation = found;
    } catch (error) {
      if (signal.aborted) return;
      if (ply === state.ply) problem = error.message;
    }
    draw();
  }

  // Buttons that copy the game; CSA is for games that are over.
  function copies(records) {
    const copy = (name, text) => button(`Copy ${name}`, () => copyText(text, say));
    return el("div", { class: "bar-of-buttons" }, copy("KIF", records.kif), records.csa ? copy("CSA", records.csa) : null,
      copy("USI", records.usi), copy("SFEN", state.sfens[state.ply]));
  }

  async function showUnfinished() {
    const records = await getJson(`${at}/records`, signal).catch(() => null); // The line under the board says why.
    if (!records || !hasFailed()) return;
    const ways = state.can_take_back ? "Try again, take your last move back, resign, or copy the game." : "Try again, or begin another game.";
    ending.replaceChildren(el("section", { class: "panel", id: "unfinished" }, el("h2", { text: "The game so far" }),
      el("p", { text: `The network has not moved. ${ways}` }), copies(records)));
  }

  async function showEnding() {
    const records = await getJson(`${at}/records`, signal);
    const saved = state.saved_as
      ? `Saved in the run's directory as human_games/${state.saved_as}.kifu and .csa.` : (state.save_error ?? "");
    const hasWon = state.end.for_human === 1;
    const next = rivals[rival + 1];
    const start = (text, checkpoint, isMain) => {
      const settings = new URLSearchParams(query);
      settings.set("checkpoint", checkpoint);
      return button(text, () => begin(run, settings, signal).catch((error) => signal.aborted || say(error.message, "bad")),
        { class: isMain ? "main" : null, id: isMain ? "go-on" : null });
    };
    ending.replaceChildren(el("section", { class: "panel", id: "ending" }, el("h2", { text: "The game" }),
      el("p", { text: saved }),
      query.has("sfen") ? el("div", { class: "bar-of-buttons" },
        next ? start(`Next opponent (${rival + 2} of ${rivals.length})`, next, hasWon) : null,
        start("Play again", state.opponent.name, !next || !hasWon)) : null,
      rivals.length > 1 && !next && hasWon ? el("p", { text: "That was the last opponent." }) : null,
      copies(records)));
  }
}

const timeText = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function strengthText({ simulations, temperature }) {
  const search = simulations ? `searching ${simulations} simulations a move` : "without search";
  return temperature ? `${search}, temperature ${temperature}` : search;
}

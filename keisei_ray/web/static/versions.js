// Two versions of a run side by side: each plays a game on from the same opening.
import { el, getJson, postJson, say } from "./page.js";
import { createBoard } from "./board.js";
import { namesSwitch, positionText } from "./moves.js";

const TEMPO_MS = 700;

export async function showVersions(root, run, query, signal) {
  const at = `api/runs/${encodeURIComponent(run)}`;
  const { opponents } = await getJson(`${at}/opponents`, signal);
  const usable = opponents.filter((found) => found.problem === null);
  const opening = { start_sfen: query.get("sfen") ?? undefined, moves: query.get("moves")?.split(" ") ?? [] };
  let ply = opening.moves.length;
  let timer = null;
  signal.addEventListener("abort", () => clearInterval(timer));

  const sides = [usable.at(-1), usable[0]].map((chosen) => {
    const select = el("select", { "aria-label": "Version" },
      usable.map((found) => el("option", { value: found.name, text: `${found.label} (${found.name})` })));
    if (chosen) select.value = chosen.name;
    return { select, board: createBoard(), caption: el("figcaption"), game: null };
  });
  const begin = el("button", { type: "button", class: "main", id: "play-both", text: "Let both play", onclick: playBoth });
  const slider = el("input", { type: "range", min: 0, max: 0, "aria-label": "Move", oninput: () => go(Number(slider.value)) });
  const replayIt = el("button", { type: "button", text: "Replay", disabled: true, onclick: () => (timer ? pause() : play()) });
  root.append(
    el("div", { class: "page-head" }, el("h1", { text: `Two versions of ${run}` }),
      el("a", { href: `#/games/${encodeURIComponent(run)}`, text: "All games" }), namesSwitch(draw)),
    el("p", { class: "hint", text: opening.moves.length
      ? `Both go on from the same opening of ${opening.moves.length} moves, each against itself, without search.`
      : "Both play from the start position, each against itself, without search." }));
  if (!usable.length) {
    root.append(el("p", { text: "This run has no checkpoint on this machine yet." }));
    return;
  }
  root.append(
    el("div", { class: "versions" }, sides.map(({ select, board, caption }) =>
      el("figure", { class: "panel" }, select, board.element, caption))),
    el("div", { class: "panel" }, el("div", { class: "bar-of-buttons" }, begin, replayIt,
      el("button", { type: "button", text: "\u2039", "aria-label": "One move back", onclick: () => go(ply - 1) }),
      el("button", { type: "button", text: "\u203a", "aria-label": "One move on", onclick: () => go(ply + 1) })), slider));
  draw();

  const longest = () => Math.max(0, ...sides.map(({ game }) => game?.moves.length ?? 0));

  async function playBoth() {
    begin.disabled = true;
    pause();
    try {
      for (const side of sides) {
        side.caption.textContent = "Playing.";
        side.game = await postJson(`${at}/self-play`, { checkpoint: side.select.value, ...opening }, signal);
        slider.max = longest();
        draw();
      }
      replayIt.disabled = false;
      ply = opening.moves.length;
      play();
    } catch (error) {
      if (!signal.aborted) say(error.message, "bad");
    } finally {
      begin.disabled = false;
    }
  }

  function go(to) {
    ply = Math.max(0, Math.min(longest(), to));
    if (ply === longest()) pause();
    draw();
  }

  function play() {
    if (ply >= longest()) ply = opening.moves.length;
    timer = setInterval(() => go(ply + 1), TEMPO_MS);
    draw();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    replayIt.textContent = "Replay";
  }

  function draw() {
    slider.value = ply;
    replayIt.textContent = timer ? "Pause" : "Replay";
    for (const { game, board, caption } of sides) {
      board.element.hidden = !game;
      if (!game) continue;
      const here = Math.min(ply, game.moves.length);
      board.show({ sfen: game.sfens[here], isFlipped: false, last: game.moves[here - 1],
        isInCheck: game.checks.includes(here), label: `Shogi board. ${positionText(game, here)}` });
      const end = here === game.moves.length ? ` ${game.title}.` : "";
      caption.textContent = `${positionText(game, here)}${end}`;
    }
  }
}

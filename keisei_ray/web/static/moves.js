// The moves of a game as a list, words about a position, and the bar of winning chances.
import { el } from "./page.js";
import { svg } from "./board.js";
import { MARKS, names, otherSide, parseSfen, sideName } from "./pieces.js";

const percent = (share) => `${(100 * share).toFixed(0)}%`;

// The side that played the move which led to a position.
export const moverOf = (game, ply) => otherSide(parseSfen(game.sfens[ply]).turn);

const notationOf = (game) => (names.isJapanese ? game.japanese : game.western);

// A move of a game in the notation that is chosen; ply counts from 1.
export function moveText(game, ply) {
  const mark = MARKS[moverOf(game, ply)];
  return `${mark} ${notationOf(game)[ply - 1]}`;
}

// A position in a sentence, for the line under the board and for screen readers.
export function positionText(game, ply) {
  const turn = parseSfen(game.sfens[ply]).turn;
  const parts = [];
  if (ply === 0) parts.push(`Start. ${sideName(turn)} to move.`);
  else parts.push(`Move ${ply}: ${sideName(moverOf(game, ply))} ${notationOf(game)[ply - 1]}.`);
  if (ply > 0 && ply <= (game.opening ?? 0)) parts.push("A random opening move.");
  if (game.checks.includes(ply)) parts.push(`${sideName(turn)} is in check.`);
  return parts.join(" ");
}

// A list of moves; `choose(ply)` is called when one is clicked.
export function createMoveList(choose) {
  const element = el("ol", { class: "moves-list", "aria-label": "Moves" });
  let shown = "";
  function show(game, ply) {
    const key = `${names.isJapanese} ${game.moves.join(" ")}`;
    if (key !== shown) {
      shown = key;
      element.replaceChildren(...game.sfens.map((_, i) => {
        const isRandom = i > 0 && i <= (game.opening ?? 0);
        return el("li", {}, el("button", { type: "button", class: isRandom ? "random" : null, onclick: () => choose(i) },
          el("i", { text: i || "" }), i ? moveText(game, i) : "Start"));
      }));
    }
    element.querySelector("[aria-current]")?.removeAttribute("aria-current");
    const current = element.children[ply]?.firstChild;
    if (!current) return;
    current.setAttribute("aria-current", "true");
    const row = current.parentElement;
    if (row.offsetTop < element.scrollTop || row.offsetTop + row.offsetHeight > element.scrollTop + element.clientHeight) {
      element.scrollTop = row.offsetTop - element.clientHeight / 2;
    }
  }
  return { element, show };
}

// What a finding says: the chance of Black, and a proof if there is one.
export function findingText(finding) {
  const side = sideName(finding.side_to_move);
  if (finding.over) return `The game is over: ${finding.over.replaceAll("_", " ")}.`;
  const proofs = { won: `${side} wins by force`, lost: `${side} loses by force`, drawn: "a draw by force" };
  const plies = finding.proof === "won" ? finding.moves[0]?.line.length : 0;
  const mate = plies % 2 === 1 && plies < 12 ? ` in ${plies} ${plies === 1 ? "move" : "plies"}` : "";
  if (finding.proof) return `${proofs[finding.proof]}${mate}.`;
  return `${sideName("black")}'s chance ${percent(finding.black_chance)}, a draw (${percent(finding.draw)}) counted half.`;
}

// A bar with Black's share of the points that are expected, or an empty one.
export function chanceBar(finding) {
  if (!finding) return svg("svg", { class: "chance", viewBox: "0 0 100 10", role: "img", "aria-label": "No evaluation yet" });
  const share = 100 * finding.black_chance;
  return svg("svg", {
    class: "chance", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img",
    "aria-label": `Evaluation: ${findingText(finding)}`,
  },
  svg("rect", { class: "black-part", x: 0, y: 0, width: share, height: 10 }),
  svg("rect", { class: "white-part", x: share, y: 0, width: 100 - share, height: 10 }),
  svg("path", { class: "middle", d: "M50 0v10" }));
}

// The best moves of a finding as a table, and as arrows for the board.
export function movesTable(finding) {
  if (!finding?.moves.length) return el("p", { class: "hint", text: "No moves." });
  const hasSearch = finding.visits > 0;
  const head = ["Move", "Policy", ...(hasSearch ? ["Visits", `${sideName(finding.side_to_move)}'s chance`] : []), "Line"];
  const line = (move) => (names.isJapanese ? move.japanese : move.western);
  const rows = finding.moves.map((move) => {
    const chance = move.proof ?? (move.value === null ? "" : percent((1 + move.value) / 2));
    return el("tr", {}, el("td", { class: "move", text: line(move)[0] }), el("td", { class: "number", text: percent(move.prob) }),
      hasSearch ? el("td", { class: "number", text: move.visits }) : null,
      hasSearch ? el("td", { class: "number", text: chance }) : null,
      el("td", {}, line(move).flatMap((text) => [el("span", { class: "move", text }), " "])));
  });
  return el("div", { class: "scroll" }, el("table", { class: "lines-table" },
    el("thead", {}, el("tr", {}, head.map((text, i) =>
      el("th", { scope: "col", class: i > 0 && i < head.length - 1 ? "number" : null, text })))), el("tbody", {}, rows)));
}

export function arrowsOf(finding) {
  if (!finding) return [];
  const shares = finding.moves.map((move) => (finding.visits ? move.visits / finding.visits : move.prob));
  const most = Math.max(...shares) || 1;
  return finding.moves.map(({ move, proof }, i) => ({ move, weight: proof === "won" ? 1 : shares[i] / most }))
    .filter(({ weight }) => weight >= 0.05);
}

// The switch between Japanese and English names; `changed` draws anew.
export function namesSwitch(changed) {
  const button = el("button", { type: "button", onclick: () => {
    names.set(!names.isJapanese);
    label();
    changed();
  } });
  function label() {
    button.textContent = names.isJapanese ? "English pieces" : "\u65e5\u672c\u8a9e\u306e\u99d2";
    button.setAttribute("aria-label", names.isJapanese ? "English names of pieces" : "Japanese names of pieces");
  }
  label();
  return button;
}

// Copies a text, and says so; where a browser does not allow it, the text is shown to be copied.
export async function copyText(text, say) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    const box = el("textarea", { readonly: true, "aria-label": "Text to copy" });
    box.value = text;
    const dialog = el("dialog", {}, el("p", { text: "Copy this text:" }), box,
      el("button", { type: "button", text: "Close", onclick: () => dialog.close() }));
    document.body.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
    box.select();
  }
}

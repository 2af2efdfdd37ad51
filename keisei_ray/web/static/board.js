// A board with both hands, drawn from an SFEN. Where `onPick` is given, squares and pieces in hand
// are buttons: it is called with the place ("7g", or "black:P" for a hand), or null for Escape.
// Arrow keys go over the squares, Enter and Space pick, a mouse or a finger may also drag.
import { el } from "./page.js";
import {
  HAND_ORDER, RANKS, RANKS_IN_KANJI, glyph, names, otherSide, parseSfen, pieceName,
  sideOf, sideTitle, originOf, targetOf,
} from "./pieces.js";

const SVG = "http://www.w3.org/2000/svg";
const SIZE = 9;
const DRAG_PX = 6; // A pointer that has moved less is still a click.

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function drawPiece(token, isUpright) {
  const kind = token.toUpperCase();
  const classes = ["glyph", kind[0] === "+" ? "promoted" : "", names.isJapanese ? "" : "latin"];
  const text = svg("text", { class: classes.join(" "), y: names.isJapanese ? 12 : 10 }, glyph(token));
  if (names.isJapanese) text.setAttribute("lang", "ja");
  return svg("svg", { class: "piece", viewBox: "-25 -27 50 54", "aria-hidden": "true" },
    svg("g", isUpright ? {} : { transform: "rotate(180)" },
      svg("path", { class: "shape", d: "M0 -24L13 -18L20 23H-20L-13 -18Z" }), text));
}

export function createBoard({ onPick = null } = {}) {
  let view = { sfen: "", isFlipped: false };
  const cells = [];
  const rows = [];
  for (let r = 0; r < SIZE; r += 1) {
    const row = [];
    for (let c = 0; c < SIZE; c += 1) {
      const cell = onPick
        ? el("button", { type: "button", class: "cell", role: "gridcell", tabindex: -1,
            onclick: () => onPick(squareAt(r, c)), onfocus: () => rove(r, c) })
        : el("div", { class: "cell" });
      cells.push(cell);
      row.push(cell);
    }
    rows.push(el("div", { class: "row", role: onPick ? "row" : null }, row));
  }
  const overlay = svg("svg", { class: "overlay", viewBox: "0 0 90 90", "aria-hidden": "true" });
  const grid = el("div", { class: "squares", role: onPick ? "grid" : null }, rows, overlay);
  const files = el("div", { class: "files", "aria-hidden": "true" });
  const ranks = el("div", { class: "ranks", "aria-hidden": "true" });
  const top = el("div", { class: "hand top", role: "group" });
  const bottom = el("div", { class: "hand bottom", role: "group" });
  const element = el("div", { class: "shogi", role: onPick ? null : "img" },
    top, files, grid, ranks, bottom);
  if (onPick) {
    cells[40].tabIndex = 0;
    element.addEventListener("keydown", byKey);
    dragging();
  }

  // The square at a row and a column of the screen.
  function squareAt(r, c) {
    return view.isFlipped ? `${c + 1}${RANKS[SIZE - 1 - r]}` : `${SIZE - c}${RANKS[r]}`;
  }

  function placeOf(square) {
    const [r, c] = [RANKS.indexOf(square[1]), SIZE - Number(square[0])];
    return view.isFlipped ? [SIZE - 1 - r, SIZE - 1 - c] : [r, c];
  }

  const cellOf = (square) => {
    const [r, c] = placeOf(square);
    return cells[r * SIZE + c];
  };

  function rove(r, c) {
    for (const cell of cells) cell.tabIndex = -1;
    cells[r * SIZE + c].tabIndex = 0;
  }

  function byKey(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Escape") onPick(null);
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const at = cells.indexOf(event.target);
    if (at < 0) { // From a hand to the board.
      cells.find((cell) => cell.tabIndex === 0).focus();
      return;
    }
    const [down, right] = steps[event.key];
    const r = Math.max(0, Math.min(SIZE - 1, Math.floor(at / SIZE) + down));
    const c = Math.max(0, Math.min(SIZE - 1, (at % SIZE) + right));
    cells[r * SIZE + c].focus();
  }

  // A piece that a mouse or a finger carries from one place to another; a click stays a click.
  function dragging() {
    let drag = null; // Where it began, and a picture of the piece once it has moved.
    const placeUnder = (event) =>
      document.elementFromPoint(event.clientX, event.clientY)?.closest(".shogi button")?.dataset.place ?? null;
    function move({ clientX, clientY }) {
      if (!drag.piece) {
        if (Math.hypot(clientX - drag.x, clientY - drag.y) < DRAG_PX) return;
        if (view.selected !== drag.from) onPick(drag.from);
        const drawn = element.querySelector(`[data-place="${drag.from}"] .piece`);
        drag.piece = drawn.cloneNode(true);
        const { width, height } = drawn.getBoundingClientRect();
        Object.assign(drag.piece.style, { width: `${width}px`, height: `${height}px` });
        drag.piece.classList.add("carried");
        document.body.append(drag.piece);
        element.classList.add("dragging");
        element.setPointerCapture(drag.id);
      }
      Object.assign(drag.piece.style, { left: `${clientX}px`, top: `${clientY}px` });
    }
    function end() {
      drag?.piece?.remove();
      element.classList.remove("dragging");
      drag = null;
    }
    element.addEventListener("pointerdown", (event) => {
      const from = event.isPrimary && event.button === 0 ? placeUnder(event) : null;
      end();
      if (view.movable?.has(from)) drag = { from, id: event.pointerId, x: event.clientX, y: event.clientY, piece: null };
    });
    element.addEventListener("pointermove", (event) => {
      if (drag && event.pointerId === drag.id) move(event);
    });
    element.addEventListener("pointerup", (event) => {
      if (!drag || event.pointerId !== drag.id) return;
      const [{ from, piece }, to] = [drag, placeUnder(event)];
      end();
      if (piece && to !== from) onPick(to);
    });
    element.addEventListener("pointercancel", () => {
      const wasCarried = drag?.piece;
      end();
      if (wasCarried) onPick(null);
    });
  }

  function drawCell(cell, square, token) {
    const isUpright = token && (sideOf(token) === "black") !== view.isFlipped;
    const key = token ? `${token} ${isUpright} ${names.isJapanese}` : "";
    if (cell.dataset.drawn !== key) {
      cell.dataset.drawn = key;
      cell.replaceChildren(...(token ? [drawPiece(token, isUpright)] : []));
    }
    const isTarget = view.targets?.has(square) ?? false;
    const isSelected = view.selected === square;
    const last = view.last ?? "";
    cell.classList.toggle("to", targetOf(last) === square);
    cell.classList.toggle("from", last.slice(0, 2) === square);
    cell.classList.toggle("target", isTarget);
    cell.classList.toggle("selected", isSelected);
    cell.classList.toggle("checked", view.checked === square);
    cell.classList.toggle("movable", view.movable?.has(square) ?? false);
    if (!onPick) return;
    const words = [square, token ? pieceName(token) : "empty"];
    if (isSelected) words.push("chosen");
    if (isTarget) words.push("a legal move");
    if (view.checked === square) words.push("in check");
    cell.setAttribute("aria-label", words.join(", "));
    cell.dataset.place = square;
  }

  function drawHand(hand, side, isUpright, position) {
    hand.setAttribute("aria-label", `${sideTitle(side)}, hand`);
    const held = [...HAND_ORDER]
      .map((kind) => [kind, position.inHand.get(side === "black" ? kind : kind.toLowerCase()) ?? 0])
      .filter(([, count]) => count > 0);
    const pieces = held.map(([kind, count]) => {
      const token = side === "black" ? kind : kind.toLowerCase();
      const place = `${side}:${kind}`;
      const inside = [drawPiece(token, isUpright), count > 1 ? el("span", { class: "count", text: count }) : null];
      if (!onPick) return el("span", { class: "held" }, inside);
      const label = `${pieceName(token)} in hand, ${count}${view.selected === place ? ", chosen" : ""}`;
      return el("button", { type: "button", class: `held${view.selected === place ? " selected" : ""}${view.movable?.has(place) ? " movable" : ""}`,
        "aria-label": label, "data-place": place, onclick: () => onPick(place) }, inside);
    });
    const owner = el("span", { class: `owner${position.turn === side ? " moves-next" : ""}` },
      `${side === "black" ? "\u2617" : "\u2616"} ${view.owners?.[side] ?? sideTitle(side)}`);
    const focused = hand.contains(document.activeElement) ? document.activeElement.dataset.place : null;
    hand.replaceChildren(owner, ...pieces);
    pieces.find((piece) => focused && piece.dataset.place === focused)?.focus();
  }

  function drawArrows(position) {
    overlay.replaceChildren(...(view.arrows ?? []).map(({ move, weight }) => {
      const center = (square) => placeOf(square).map((n) => n * 10 + 5).reverse();
      const [x, y] = center(targetOf(move));
      const group = svg("g", { class: "arrow", opacity: 0.3 + 0.6 * weight });
      if (move[1] === "*") {
        group.append(svg("circle", { cx: x, cy: y, r: 4.2 }), svg("text", { x, y: y + 1.8 },
          glyph(position.turn === "black" ? move[0] : move[0].toLowerCase())));
        return group;
      }
      const [fx, fy] = center(move.slice(0, 2));
      const length = Math.hypot(x - fx, y - fy);
      const [dx, dy] = [(x - fx) / length, (y - fy) / length];
      const width = 0.7 + 1.6 * weight;
      const head = 2 + 1.2 * width;
      const [bx, by] = [x - dx * head, y - dy * head];
      group.append(svg("line", { x1: fx, y1: fy, x2: bx, y2: by, "stroke-width": width }),
        svg("path", { d: `M${x} ${y}L${bx - dy * head * 0.5} ${by + dx * head * 0.5}L${bx + dy * head * 0.5} ${by - dx * head * 0.5}Z` }));
      return group;
    }));
  }

  // Draws a position. view: sfen, isFlipped, last (USI), selected, targets (Set), movable (Set of places
  // from which a piece can be dragged), arrows, owners, isInCheck, label.
  function show(next) {
    view = { last: null, targets: null, movable: null, arrows: null, selected: null, ...next };
    const position = parseSfen(view.sfen);
    const king = position.turn === "black" ? "K" : "k";
    view.checked = view.isInCheck ? [...position.squares].find(([, token]) => token === king)?.[0] : null;
    for (let r = 0; r < SIZE; r += 1) {
      for (let c = 0; c < SIZE; c += 1) {
        const square = squareAt(r, c);
        drawCell(cells[r * SIZE + c], square, position.squares.get(square));
      }
    }
    const lower = view.isFlipped ? "white" : "black";
    drawHand(bottom, lower, true, position);
    drawHand(top, otherSide(lower), false, position);
    const order = [...Array(SIZE).keys()];
    files.replaceChildren(...order.map((c) => el("span", { text: squareAt(0, c)[0] })));
    ranks.replaceChildren(...order.map((r) => {
      const rank = squareAt(r, 0)[1];
      return el("span", { text: names.isJapanese ? RANKS_IN_KANJI[RANKS.indexOf(rank)] : rank });
    }));
    drawArrows(position);
    if (onPick) grid.setAttribute("aria-label", view.label ?? "Board");
    else element.setAttribute("aria-label", view.label ?? "Board");
  }

  return { element, show, focus: (square) => cellOf(square).focus() };
}

// Places from which `side` can move by these legal moves, and where a chosen place leads.
export const movesFrom = (legal, side, place) => legal.filter((usi) => originOf(usi, side) === place);

// Pieces and squares: an SFEN in parts, and what pieces and squares are called.

const KANJI = {
  P: "\u6b69", L: "\u9999", N: "\u6842", S: "\u9280", G: "\u91d1", B: "\u89d2", R: "\u98db", K: "\u7389",
  "+P": "\u3068", "+L": "\u674f", "+N": "\u572d", "+S": "\u5168", "+B": "\u99ac", "+R": "\u9f8d",
};
const WHITE_KING = "\u738b";
const JAPANESE = {
  ...KANJI,
  "+P": "\u3068\u91d1", "+L": "\u6210\u9999", "+N": "\u6210\u6842", "+S": "\u6210\u9280",
  "+B": "\u7adc\u99ac", "+R": "\u7adc\u738b",
};
const ENGLISH = {
  P: "pawn", L: "lance", N: "knight", S: "silver", G: "gold", B: "bishop", R: "rook", K: "king",
  "+P": "promoted pawn", "+L": "promoted lance", "+N": "promoted knight", "+S": "promoted silver",
  "+B": "horse", "+R": "dragon",
};
const SIDES = { black: ["Black", "\u5148\u624b"], white: ["White", "\u5f8c\u624b"] };
export const MARKS = { black: "\u2617", white: "\u2616" };
export const RANKS = "abcdefghi";
export const RANKS_IN_KANJI = "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d";
export const HAND_ORDER = "RBGSNLP";
const KEY = "keisei-ray-pieces";

// Whether pieces and moves are shown in Japanese; the browser remembers it.
export const names = {
  isJapanese: remembered() !== "english",
  set(isJapanese) {
    names.isJapanese = isJapanese;
    try {
      localStorage.setItem(KEY, isJapanese ? "japanese" : "english");
    } catch {
      // A browser that keeps nothing: the choice lasts as long as the page.
    }
  },
};

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

// The piece of an SFEN's token, such as "+p": its kind "+P" and its side.
export const kindOf = (token) => token.toUpperCase();
export const sideOf = (token) => (token === token.toUpperCase() ? "black" : "white");
export const otherSide = (side) => (side === "black" ? "white" : "black");

export function glyph(token) {
  if (!names.isJapanese) return kindOf(token);
  return token === "k" ? WHITE_KING : KANJI[kindOf(token)];
}

// A side in an English sentence, and as it stands beside the pieces.
export const sideName = (side) => SIDES[side][0];
export const sideTitle = (side) => SIDES[side][names.isJapanese ? 1 : 0];
export const kindName = (kind) => (names.isJapanese ? JAPANESE : ENGLISH)[kind];
export const pieceName = (token) => `${sideTitle(sideOf(token))} ${kindName(kindOf(token))}`;

// An SFEN as squares ("7g" -> token), counts in hand (token -> count) and the side to move.
export function parseSfen(sfen) {
  const [board, turn, hands] = sfen.split(" ");
  const squares = new Map();
  board.split("/").forEach((row, r) => {
    let file = 9;
    for (const token of row.match(/\+?[A-Za-z]|[1-9]/g) ?? []) {
      if (/[1-9]/.test(token)) {
        file -= Number(token);
      } else {
        squares.set(`${file}${RANKS[r]}`, token);
        file -= 1;
      }
    }
  });
  const inHand = new Map();
  for (const [, count, piece] of (hands ?? "-").matchAll(/(\d*)([A-Za-z])/g)) {
    inHand.set(piece, Number(count || 1));
  }
  return { squares, inHand, turn: turn === "w" ? "white" : "black" };
}

// The place that a move in USI notation leaves: a square, or "black:P" for a drop.
export const originOf = (usi, side) => (usi[1] === "*" ? `${side}:${usi[0]}` : usi.slice(0, 2));
export const targetOf = (usi) => usi.slice(2, 4);

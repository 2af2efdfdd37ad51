// Reads the game records named as arguments with tsshogi and prints what it understood as JSON.
const fs = require("node:fs");
const { Color, Move, SpecialMoveType: End, getBlackPlayerName, getWhitePlayerName, importCSA, importKIF } =
  require("tsshogi");

const LOST = [End.RESIGN, End.MATE, End.TIMEOUT, End.FOUL_LOSE, End.LOSE_BY_DEFAULT];
const WON = [End.FOUL_WIN, End.ENTERING_OF_KING, End.WIN_BY_DEFAULT];
const DRAWN = [End.IMPASS, End.DRAW, End.MAX_MOVES, End.REPETITION_DRAW];

// The result as tsshogi's documentation of the endings says it: for the side to move.
function resultOf(end, color) {
  const opponent = color === Color.BLACK ? Color.WHITE : Color.BLACK;
  if (LOST.includes(end)) return `${opponent}_win`;
  if (WON.includes(end)) return `${color}_win`;
  return DRAWN.includes(end) ? "draw" : null;
}

function read(file) {
  const encoding = file.endsWith(".kif") ? "shift_jis" : "utf-8";
  const text = new TextDecoder(encoding, { fatal: true }).decode(fs.readFileSync(file));
  const record = (file.endsWith(".csa") ? importCSA : importKIF)(text);
  if (record instanceof Error) return { error: String(record) };
  const moves = record.moves.filter((node) => node.move instanceof Move).map((node) => node.move.usi);
  const start = record.initialPosition.sfen;
  const last = record.moves[record.moves.length - 1];
  record.goto(last.ply);
  return {
    names: [getBlackPlayerName(record.metadata), getWhitePlayerName(record.metadata)],
    sfen: start,
    moves,
    comments: record.moves.map((node) => node.comment),
    result: last.move instanceof Move ? null : resultOf(last.move.type, record.position.color),
  };
}

console.log(JSON.stringify(process.argv.slice(2).map(read)));

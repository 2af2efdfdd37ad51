"""Findings as lines of text, and a graph of a game for a terminal. Chances are Black's."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from keisei_ray.analysis.findings import Findings, MoveFindings
from keisei_ray.analysis.turning_points import LEAST_LOSS, TurningPoint, cost_of_move
from keisei_ray.shogi.replay import replay
from keisei_ray.tracking.terminal.text import Glyphs, resample

GRAPH_ROWS: Final = 10
"""Height of the graph; each row is a tenth of the winning chance."""
MOST_COLUMNS_PER_POSITION: Final = 4
"""Width of a position in the graph of a short game."""
_COLORS: Final = {"black": "Black", "white": "White"}
_PROOFS: Final = {"won": "wins by force", "lost": "loses by force", "drawn": "a draw by force"}


def position_lines(findings: Findings, name: str) -> list[Text]:
    """Returns a position on its own as lines: its value, then its best moves with their lines.

    Args:
        findings: about it.
        name: what the user has called it.
    """
    mover = _COLORS[findings.color]
    lines = [
        Text(name, style="bold"),
        Text(f"{mover} to move. {chances(findings)}."),
        Text(f"  move       policy  visits  {mover}'s chance  line", style="dim"),
    ]
    return lines + [_move_line(findings, move) for move in findings.moves]


def chances(findings: Findings) -> str:
    """Returns the value of a position in words, from the side to move."""
    mover = _COLORS[findings.color]
    proof = f", {_PROOFS[findings.proof]}" if findings.proof and not findings.over else ""
    return (
        f"{mover}'s value {round(findings.value, 3) + 0.0:+.3f}: win {findings.win_prob:.1%}, "
        f"draw {findings.draw_prob:.1%}, loss {findings.loss_prob:.1%}{proof}"
    )


def chance_of(move: MoveFindings) -> float | None:
    """Returns the mover's winning chance after a move, a draw counting half; None if not tried."""
    return None if move.value is None else (1 + move.value) / 2


def _move_line(findings: Findings, move: MoveFindings) -> Text:
    western = replay(move.line, findings.sfen).western
    chance = chance_of(move)
    shown = "-" if chance is None else f"{chance:.1%}"
    proof = f"  ({_PROOFS[move.proof]})" if move.proof else ""
    return Text(
        f"  {western[0]:9} {move.prob:7.1%} {move.visits:7} {shown:>15}  {' '.join(western)}{proof}"
    )


GAME_HEAD: Final = "  ply  side   move       Black's chance  draw   cost  better"
"""Head of the lines of a game."""


def game_line(
    findings: Sequence[Findings], played: Sequence[str], western: Sequence[str], ply: int
) -> Text:
    """Returns a line about the position after some moves of a game.

    Args:
        findings: about the positions up to this one, at least.
        played: moves of the game in USI notation.
        western: the same in western notation.
        ply: moves played before the position; 0: the start.
    """
    here = findings[ply]
    over = f"  {here.over.replace('_', ' ')}" if here.over else ""
    chance = f"{here.black_chance:14.1%}  {here.draw_prob:4.0%}"
    if ply == 0:
        return Text(f"{0:5}  {'':5}  {'start':9}  {chance}{over}")
    before = findings[ply - 1]
    line = f"{ply:5}  {_COLORS[before.color]:5}  {western[ply - 1]:9}  {chance}"
    cost = cost_of_move(findings, played, ply - 1)
    if before.moves and before.moves[0].move != played[ply - 1] and cost >= 0.005:
        better = replay(before.moves[0].line[:1], before.sfen).western[0]
        line += f"  {cost:5.0%}  {better}"
    return Text(line + over, style="bold red" if cost >= LEAST_LOSS else "")


def turning_point_lines(points: Sequence[TurningPoint], findings: Sequence[Findings]) -> list[Text]:
    """Returns the turning points of a game as lines, each with the better move and its line."""
    if not points:
        return [Text(f"No move cost {LEAST_LOSS:.0%} of winning chance or more.")]
    lines = [Text("Turning points, chances of the side that moved:", style="bold")]
    for point in points:
        sfen = findings[point.ply - 1].sfen
        played = replay([point.played], sfen).western[0]
        better = " ".join(replay(point.better, sfen).western)
        lines.append(
            Text(
                f"  move {point.ply}: {_COLORS[point.color]} {played}, "
                f"{point.before:.0%} -> {point.after:.0%}. Better: {better}"
            )
        )
    return lines


def graph(black_chances: Sequence[float], width: int, glyphs: Glyphs) -> list[Text]:
    """Returns the course of a game as a filled graph: Black's winning chance over its moves.

    Args:
        black_chances: in [0, 1], of every position.
        width: characters that it may take.
        glyphs: what the terminal can show.
    """
    room = max(1, width - 7)
    repeats = max(1, min(MOST_COLUMNS_PER_POSITION, room // len(black_chances)))
    columns = [c for c in resample(black_chances, room) for _ in range(repeats)]
    levels = len(glyphs.ramp)
    rows = []
    for row in reversed(range(GRAPH_ROWS)):
        filled = [round((c * GRAPH_ROWS - row) * levels) for c in columns]
        cells = "".join(" " if n <= 0 else glyphs.ramp[min(n, levels) - 1] for n in filled)
        label = {GRAPH_ROWS - 1: "100%", GRAPH_ROWS // 2 - 1: "50%", 0: "0%"}.get(row, "")
        rows.append(Text(f"{label:>5} {cells.rstrip()}"))
    last = f"move {len(black_chances) - 1}"
    rows.append(Text(f"{'':5} 0{last:>{max(len(columns) - 1, len(last) + 1)}}"))
    return [Text("Black's winning chance, a draw counting half:", style="bold"), *rows]

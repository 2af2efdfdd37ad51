"""Findings as comments in KIF, which other programs show beside the board.

Each move is followed by findings about the position after it. Lines that begin with `#` have the
form in which ShogiHome writes its own analyses: it draws its graph from them. All are from Black's
point of view.
"""

from collections.abc import Sequence
from typing import Final

from keisei_ray.analysis.findings import Findings
from keisei_ray.analysis.source import Source
from keisei_ray.analysis.turning_points import TurningPoint
from keisei_ray.search.score import centipawns
from keisei_ray.shogi.notation import with_comments
from keisei_ray.shogi.replay import replay
from keisei_ray.telemetry.visible_text import visible

_MARKS: Final = {"black": "▲", "white": "△"}
_WINNERS: Final = {"black": "先手勝ち", "white": "後手勝ち"}


def annotated(
    source: Source, findings: Sequence[Findings], points: Sequence[TurningPoint], name: str
) -> str:
    """Returns the game as KIF with findings as comments.

    Args:
        source: the game.
        findings: about its positions, in order.
        points: its turning points.
        name: of the network.
    """
    comments = {f.ply: _comment(f, name) for f in findings}
    for point in points:
        comments[point.ply] = [
            _turning_point(point, findings[point.ply - 1]),
            *comments[point.ply],
        ]
    if source.fault:
        comments[len(source.moves)].append(visible(f"The analysis ends here: {source.fault}."))
    return with_comments(source.kif, comments)


def _comment(findings: Findings, name: str) -> list[str]:
    win, loss = findings.win_prob, findings.loss_prob
    if findings.color == "white":
        win, loss = loss, win
    lines = [
        f"Black's chance {findings.black_chance:.1%} (win {win:.1%}, "
        f"draw {findings.draw_prob:.1%}, loss {loss:.1%})"
    ]
    if findings.over:
        lines.append(f"The game is over: {findings.over.replace('_', ' ')}")
    if findings.proof in ("won", "lost"):
        is_black = (findings.color == "black") == (findings.proof == "won")
        lines.append(f"#詰み={_WINNERS['black' if is_black else 'white']}")
    else:
        lines.append(f"#評価値={centipawns(2 * findings.black_chance - 1)}")
    for number, move in enumerate(findings.moves):
        line = _japanese(findings, move.line)
        if number == 0:
            lines.append(f"#読み筋={''.join(line)}")
        visits = f", {move.visits} visits" if findings.visits else ""
        lines.append(f"{number + 1}. {line[0]} {move.prob:.0%}{visits}: {''.join(line)}")
    if findings.visits:
        lines.append(f"#ノード数={findings.visits}")
    return [*lines, f"#エンジン=Keisei Ray {visible(name)}"]


def _turning_point(point: TurningPoint, before: Findings) -> str:
    played = _japanese(before, [point.played])[0]
    return (
        f"Turning point: {played} cost {point.color.capitalize()} {point.loss:.0%} "
        f"({point.before:.0%} -> {point.after:.0%}). Better: "
        f"{''.join(_japanese(before, point.better))}"
    )


def _japanese(findings: Findings, line: Sequence[str]) -> list[str]:
    """Moves from a position in KI2 notation, each with the mark of its side."""
    sides = ("black", "white") if findings.color == "black" else ("white", "black")
    moves = replay(line, findings.sfen).japanese
    return [_MARKS[sides[i % 2]] + move for i, move in enumerate(moves)]

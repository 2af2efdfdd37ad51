"""A game, or positions, with findings as one HTML page: the page of `report`, with other content.

Everything that comes from a record is escaped.
"""

from collections.abc import Sequence
from html import escape
from typing import Any, Final

import numpy as np

from keisei_ray.analysis.findings import Findings, MoveFindings
from keisei_ray.analysis.source import Source
from keisei_ray.analysis.text import chance_of, chances
from keisei_ray.analysis.turning_points import LEAST_LOSS, TurningPoint
from keisei_ray.report import formatting
from keisei_ray.report.chart_data import Chart, Frame, Line
from keisei_ray.report.curves import thin_out
from keisei_ray.report.games import ShownGame, replay_data
from keisei_ray.report.page import document, grid, replays
from keisei_ray.shogi.replay import replay

_HEAD: Final = ("Move", "", "Policy", "Visits", "Chance", "Line")
_NUMBERS: Final = (2, 3, 4)
"""Columns of numbers."""
_CHANCE: Final = (
    "A winning chance is the probability to win, a draw counting half. In the chart it is Black's "
    "(Sente's); 50% is even. In the table of moves it is that of the side to move, which the "
    "sentence above it names. Policy: probability that the network gives the move before any "
    "search. Visits: simulations that tried it."
)


def game_page(
    source: Source, findings: Sequence[Findings], points: Sequence[TurningPoint], network: str
) -> str:
    """Returns the page of a game.

    Args:
        source: the game.
        findings: about its positions, in order.
        points: its turning points.
        network: the network and its search, in words.
    """
    players = f"{source.black or 'Black'} - {source.white or 'White'}"
    end = source.end or "Result not known"
    title = f"{end}, {formatting.plural(len(source.moves), 'move')}"
    data = replay_data(replay(source.moves, source.start_sfen), title, source.opening_plies)
    data["notes"] = [_note(f, _turn_after(points, f.ply)) for f in findings]
    frame = Frame(
        (0, max(len(source.moves), 5)),
        tuple(sorted(point.ply for point in points)),
        unit="move",
        mark="turning point: move",
    )
    sections = {
        "Course": f'<div class="pair">{grid([_chart(findings)], frame)}'
        f"<div><h3>Turning points</h3>{_turning_points(points, findings)}</div></div>",
        "Board": replays([ShownGame(why="game", title=title, data=data)], has_choice=False),
    }
    fault = [f"The analysis ends before the record does: {source.fault}."] if source.fault else []
    lead = [f"{source.name}, analyzed by {network}.", *fault]
    return document(players, _header(players, end, lead), sections, _footer())


def positions_page(sources: Sequence[Source], findings: Sequence[Findings], network: str) -> str:
    """Returns the page of single positions; the arguments are those of `game_page`."""
    games = []
    for number, (source, found) in enumerate(zip(sources, findings, strict=True), 1):
        name = f"Position {number}"
        data = replay_data(replay((), found.sfen), name) | {"notes": [_note(found, None)]}
        games.append(ShownGame(why=name, title=source.name, data=data))
    title = formatting.plural(len(games), "position")
    header = _header(title, "", [f"Analyzed by {network}."])
    board = replays(games, has_choice=len(games) > 1)
    return document(title, header, {"Board": board}, _footer())


def _header(title: str, state: str, sentences: Sequence[str]) -> str:
    lead = "".join(f"<p>{escape(sentence)}</p>" for sentence in [*sentences, _CHANCE])
    badge = f' <span class="state">{escape(state)}</span>' if state else ""
    return (
        f'<header><p class="brand">Keisei Ray</p><h1>{escape(title)}{badge}</h1>'
        f'<div class="lead">{lead}</div></header>'
    )


def _footer() -> str:
    return "<footer><p>Made by <code>python run.py analyze</code>.</p></footer>"


def _chart(findings: Sequence[Findings]) -> Chart:
    plies = np.array([f.ply for f in findings], np.float64)
    curves = {
        "Black's winning chance": [f.black_chance for f in findings],
        "draw": [f.draw_prob for f in findings],
    }
    return Chart(
        "chance",
        "Black's winning chance",
        "A draw counts half; 50% is even. Dotted vertical lines: turning points. A click goes to "
        "the position.",
        [
            Line(name, thin_out(plies, np.array(values, np.float64), len(plies)))
            for name, values in curves.items()
        ],
        is_share=True,
        floor=0.0,
        ceiling=1.0,
        when_last="at the end",
    )


def _turn_after(points: Sequence[TurningPoint], ply: int) -> TurningPoint | None:
    return next((point for point in points if point.ply == ply + 1), None)


def _note(findings: Findings, turn: TurningPoint | None) -> dict[str, Any]:
    """Returns what the page's script shows beside a position; `turn` is the next move, if any."""
    sentences = [f"Black's winning chance {findings.black_chance:.1%}."]
    if findings.over:
        sentences.append(f"The game is over: {findings.over.replace('_', ' ')}.")
    else:
        sentences.append(f"{findings.color.capitalize()} to move. {chances(findings)}.")
    if turn:
        played = replay([turn.played], findings.sfen).western[0]
        sentences.append(
            f"Here the game turned: {turn.color.capitalize()} played {played}, and its chance "
            f"went from {turn.before:.0%} to {turn.after:.0%}."
        )
    rows = [_row(findings, move) for move in findings.moves]
    return {"sentences": sentences, "head": _HEAD, "numbers": _NUMBERS, "rows": rows}


def _row(findings: Findings, move: MoveFindings) -> list[str]:
    line = replay(move.line, findings.sfen)
    chance = chance_of(move)
    shown = formatting.UNKNOWN if chance is None else f"{chance:.1%}"
    return [
        line.western[0],
        line.japanese[0],
        f"{move.prob:.1%}",
        str(move.visits) if findings.visits else formatting.UNKNOWN,
        f"{shown} ({move.proof})" if move.proof else shown,
        " ".join(line.western),
    ]


def _turning_points(points: Sequence[TurningPoint], findings: Sequence[Findings]) -> str:
    if not points:
        return f'<p class="none">No move cost {LEAST_LOSS:.0%} of winning chance or more.</p>'
    head = "".join(f"<th>{name}</th>" for name in ("Move", "Side", "Played", "Chance", "Better"))
    rows = "".join(_turning_point(point, findings[point.ply - 1]) for point in points)
    return (
        '<div class="scroll"><table class="lines-of-play">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="about">Chances of the side that moved, before and after the move, the '
        "costliest move first. A number goes to the position before the move.</p>"
    )


def _turning_point(point: TurningPoint, before: Findings) -> str:
    played = replay([point.played], before.sfen)
    better = replay(point.better, before.sfen)
    cells = (
        f'<button type="button" data-ply="{point.ply - 1}">{point.ply}</button>',
        escape(point.color.capitalize()),
        f'{escape(played.western[0])} <span class="japanese" lang="ja">{played.japanese[0]}</span>',
        f"{point.before:.0%} to {point.after:.0%}",
        escape(" ".join(better.western)),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

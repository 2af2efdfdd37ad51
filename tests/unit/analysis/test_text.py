"""Findings as lines of text, and the graph of a game."""

from dataclasses import replace

import pytest

from keisei_ray.analysis.findings import find
from keisei_ray.analysis.text import game_line, graph, position_lines, turning_point_lines
from keisei_ray.analysis.turning_points import turning_points
from keisei_ray.shogi.replay import replay
from keisei_ray.tracking.terminal.text import ASCII, UNICODE
from tests.helpers.analyses import evaluate, findings_of, game_source

SOURCE = game_source("7g7f 3c3d 8h2b+ 3a2b")
FOUND = findings_of(
    SOURCE, [0.5, 0.3, 0.7, 0.9, 0.9], ["2g2f 8c8d", "8c8d", "8h2b+", "8b2b", "2g2f"]
)


def test_a_position_has_its_value_and_its_moves() -> None:
    (found,) = find(SOURCE.positions[:1], evaluate, 20)
    name, value, _, *moves = (line.plain for line in position_lines(found, "startpos"))
    assert name == "startpos"
    assert value.startswith(f"Black to move. Black's value {found.value:+.3f}: win ")
    assert len(moves) == len(found.moves)
    best = found.moves[0]
    western = replay(best.line, found.sfen).western
    assert moves[0].split()[:3] == [western[0], f"{best.prob:.1%}", str(best.visits)]
    assert moves[0].endswith(" ".join(western))


def test_the_network_alone_gives_no_visits_and_no_chances_of_moves() -> None:
    (found,) = find(SOURCE.positions[:1], evaluate, 0)
    assert position_lines(found, "x")[3].plain.split()[2:4] == ["0", "-"]


def test_a_move_of_a_game_has_what_it_cost_and_the_better_move() -> None:
    western = replay(SOURCE.moves).western
    lines = [game_line(FOUND, SOURCE.moves, western, ply).plain for ply in range(5)]
    assert lines[0].split() == ["0", "start", "50.0%", "0%"]
    assert lines[1].split() == ["1", "Black", "P-7f", "30.0%", "0%", "20%", "P-2f"]
    assert lines[2].split() == ["2", "White", "P-3d", "70.0%", "0%", "40%", "P-8d"]
    # Black's third move was the best, and White's answer cost nothing.
    assert lines[3].split() == ["3", "Black", "Bx2b+", "90.0%", "0%"]
    assert lines[4].split() == ["4", "White", "Sx2b", "90.0%", "0%"]
    over = [*FOUND[:4], replace(FOUND[4], over="perpetual_check")]
    assert game_line(over, SOURCE.moves, western, 4).plain.endswith("  perpetual check")


def test_turning_points_are_told_from_the_side_that_moved() -> None:
    points = turning_points(FOUND, SOURCE.moves)
    head, *lines = (line.plain.strip() for line in turning_point_lines(points, FOUND))
    assert head == "Turning points, chances of the side that moved:"
    assert lines == [
        "move 2: White P-3d, 70% -> 30%. Better: P-8d",
        "move 1: Black P-7f, 50% -> 30%. Better: P-2f P-8d",
    ]
    assert turning_point_lines([], FOUND)[0].plain == "No move cost 10% of winning chance or more."


@pytest.mark.parametrize(("glyphs", "full"), [(UNICODE, "\u2588"), (ASCII, "#")])
def test_a_graph_is_filled_up_to_black_s_chance(glyphs: object, full: str) -> None:
    _, *rows, axis = (line.plain for line in graph([1.0, 0.5, 0.0], 80, glyphs))  # type: ignore[arg-type]
    assert rows == [
        f" 100% {full * 4}",
        *[f"      {full * 4}"] * 4,
        f"  50% {full * 8}",
        *[f"      {full * 8}"] * 3,
        f"   0% {full * 8}",
    ]
    assert axis.split() == ["0", "move", "2"]


def test_a_graph_of_many_moves_fits_its_width() -> None:
    lines = [line.plain for line in graph([0.3] * 500, 60, UNICODE)]
    assert max(map(len, lines)) <= 60
    assert all(len(line) > 50 for line in lines[9:11])

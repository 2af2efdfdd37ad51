"""Turning points of a game: the moves that cost their side most."""

import pytest

from keisei_ray.analysis.findings import Findings
from keisei_ray.analysis.turning_points import cost_of_move, turning_points
from tests.helpers.analyses import findings_of, game_source

SOURCE = game_source("7g7f 3c3d 8h2b+ 3a2b")


def findings(*black_chances: float) -> list[Findings]:
    """Findings in which the move played is never the best one."""
    return findings_of(SOURCE, black_chances, ["2g2f", "8c8d", "2g2f", "8b2b", "2g2f"])


def test_each_move_costs_the_side_that_played_it() -> None:
    found = findings(0.5, 0.3, 0.7, 0.9, 0.9)
    costs = [cost_of_move(found, SOURCE.moves, ply) for ply in range(4)]
    # White's second move loses 0.4 of its chance, Black's third gains.
    assert costs == pytest.approx([0.2, 0.4, 0.0, 0.0])


def test_the_costliest_moves_come_first_with_the_better_line() -> None:
    first, second = turning_points(findings(0.5, 0.3, 0.7, 0.9, 0.9), SOURCE.moves)
    assert (first.ply, first.color, first.played, first.better) == (2, "white", "3c3d", ("8c8d",))
    assert (first.before, first.after) == pytest.approx((0.7, 0.3))
    assert (second.ply, second.color, second.played) == (1, "black", "7g7f")
    assert second.loss == pytest.approx(0.2)


def test_the_best_move_is_no_turning_point_however_the_game_went_on() -> None:
    found = findings_of(SOURCE, [0.9, 0.1, 0.1, 0.1, 0.1], ["7g7f", "8c8d", "2g2f", "8b2b", ""])
    assert turning_points(found, SOURCE.moves) == []


def test_a_game_that_is_over_goes_on_without_a_turning_point_there() -> None:
    found = findings_of(SOURCE, [0.9, 0.1, 0.1, 0.1, 0.1], ["", "8c8d", "2g2f", "8b2b", ""])
    assert turning_points(found, SOURCE.moves) == []


def test_number_least_cost_and_opening_limit_them() -> None:
    found = findings(0.5, 0.3, 0.7, 0.9, 0.9)
    assert [point.ply for point in turning_points(found, SOURCE.moves, most=1)] == [2]
    assert [point.ply for point in turning_points(found, SOURCE.moves, least_loss=0.3)] == [2]
    assert [point.ply for point in turning_points(found, SOURCE.moves, first_ply=2)] == []


def test_equal_costs_stand_in_the_order_of_the_game() -> None:
    found = findings(0.5, 0.25, 0.5, 0.25, 0.5)
    assert [point.ply for point in turning_points(found, SOURCE.moves)] == [1, 2, 3, 4]

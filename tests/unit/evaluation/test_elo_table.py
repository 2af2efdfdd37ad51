"""The Elo table against closed forms, known truths and simulation."""

import itertools
import math
import random

import numpy as np
import pytest

from keisei_ray.evaluation.elo_table import Result, expected_score, fit_ratings
from keisei_ray.evaluation.score_intervals import NORMAL_QUANTILE
from keisei_ray.telemetry.reports import Rating


def table(*results: Result, anchor: str = "random") -> dict[str, Rating]:
    return {rating.name: rating for rating in fit_ratings(results, anchor)}


def elo_of(points: float, games: float) -> float:
    return 400 * math.log10(points / (games - points))


def simulated(
    elos: dict[str, float], games: int, rng: np.random.Generator, *, draw_share: float = 0.0
) -> list[Result]:
    """Simulates a round robin. Some games are drawn, which does not change expected scores."""
    results = []
    for a, b in itertools.combinations(elos, 2):
        p = expected_score(elos[a], elos[b])
        draws = draw_share * min(p, 1 - p)
        wins, drawn, _ = rng.multinomial(games, [p - draws, 2 * draws, 1 - p - draws])
        results.append(Result(a, b, games, wins + drawn / 2))
    return results


@pytest.mark.parametrize(("points", "games"), [(50, 100), (75, 100), (31.5, 32), (3, 4), (0.5, 9)])
def test_two_players_are_the_closed_form(points: float, games: int) -> None:
    rating = table(Result("v1", "random", games, points))["v1"]
    expected = elo_of(points + 0.5, games + 1)
    assert rating.elo == pytest.approx(expected, abs=1e-6)
    p = (points + 0.5) / (games + 1)
    error = 400 / math.log(10) / math.sqrt(games * p * (1 - p))
    assert rating.low == pytest.approx(expected - NORMAL_QUANTILE * error)
    assert rating.high == pytest.approx(expected + NORMAL_QUANTILE * error)
    assert rating.games == games


def test_many_games_give_the_likeliest_ratings() -> None:
    """If the results fit exactly, every pair is predicted as it was measured."""
    truth = {"random": 0.0, "greedy": 250.0, "v1": 120.0, "v2": 333.0}
    found = table(
        *(
            Result(a, b, 10**7, 10**7 * expected_score(truth[a], truth[b]))
            for a, b in itertools.combinations(truth, 2)
        )
    )
    for name, elo in truth.items():
        assert found[name].elo == pytest.approx(elo, abs=0.01)


def number(value: float | None) -> float:
    assert value is not None
    return value


def width(rating: Rating) -> float:
    return number(rating.high) - number(rating.low)


def test_the_anchor_is_zero_without_error() -> None:
    found = table(Result("random", "v1", 10, 3), Result("v1", "v2", 10, 3))
    assert found["random"] == Rating("random", 0.0, 0.0, 0.0, 10)
    other = table(Result("random", "v1", 10, 3), Result("v1", "v2", 10, 3), anchor="v1")
    assert other["v1"] == Rating("v1", 0.0, 0.0, 0.0, 20)
    assert other["random"].elo == pytest.approx(-number(found["v1"].elo))
    assert other["v2"].elo == pytest.approx(number(found["v2"].elo) - number(found["v1"].elo))


def test_the_order_of_results_and_of_names_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    results = simulated({"random": 0, "a": 100, "b": 200, "c": -50}, 20, rng)
    results += simulated({"random": 0, "a": 100, "b": 200}, 10, rng)
    once = fit_ratings(results)
    random.Random(1).shuffle(results)
    swapped = [Result(r.opponent, r.player, r.games, r.games - r.points) for r in results]
    assert fit_ratings(results) == once
    assert fit_ratings(swapped) == once


def test_matches_of_the_same_players_count_as_one_long_match() -> None:
    parts = table(*[Result("v1", "random", 4, 3)] * 8)
    assert parts == table(Result("v1", "random", 32, 24))


def test_ratings_add_up_along_a_chain() -> None:
    """v2 never met random: its rating is that of v1 over random plus that of v2 over v1."""
    found = table(Result("v1", "random", 400, 300), Result("v2", "v1", 400, 320))
    assert found["v1"].elo == pytest.approx(elo_of(300.5, 401))
    assert found["v2"].elo == pytest.approx(elo_of(300.5, 401) + elo_of(320.5, 401))
    widths = [width(found[name]) for name in ("v1", "v2")]
    alone = table(Result("v2", "v1", 400, 320), anchor="v1")["v2"]
    assert widths[1] ** 2 == pytest.approx(widths[0] ** 2 + width(alone) ** 2)


@pytest.mark.parametrize(("games", "draw_share"), [(16, 0.0), (64, 0.3)])
def test_intervals_cover_the_truth_and_ratings_are_not_biased(
    games: int, draw_share: float
) -> None:
    truth = {"random": 0.0, "greedy": 300.0, "v1": 80.0, "v2": 200.0, "v3": 350.0, "v4": 420.0}
    rng = np.random.default_rng(11)
    covered, errors = [], []
    for _ in range(150):
        for rating in table(*simulated(truth, games, rng, draw_share=draw_share)).values():
            if rating.name != "random" and rating.low is not None and rating.high is not None:
                covered.append(rating.low <= truth[rating.name] <= rating.high)
                errors.append(number(rating.elo) - truth[rating.name])
    assert len(covered) > 700
    # Five correlated ratings per table give a standard error of at most 1.8% and 6 Elo.
    assert 0.92 <= np.mean(covered) <= 0.995
    assert abs(np.mean(errors)) < 20


def test_a_player_that_won_all_has_no_upper_bound_and_one_that_lost_all_no_lower() -> None:
    found = table(Result("v1", "random", 32, 32), Result("v0", "random", 32, 0))
    best, worst = found["v1"], found["v0"]
    assert best.elo == pytest.approx(elo_of(32.5, 33))
    assert best.high is None
    assert 0 < number(best.low) < number(best.elo)
    assert worst.elo == pytest.approx(-number(best.elo))
    assert worst.low is None
    assert worst.high == pytest.approx(-number(best.low))


def test_the_better_half_is_unbounded_together() -> None:
    """v1 and v2 took points from each other, but random took none from either."""
    found = table(
        Result("v1", "random", 20, 20), Result("v2", "random", 20, 20), Result("v2", "v1", 20, 12)
    )
    assert found["v1"].high is None
    assert found["v2"].high is None
    assert found["v1"].low is not None
    # One half point is enough.
    found = table(
        Result("v1", "random", 20, 20), Result("v2", "random", 20, 19.5), Result("v2", "v1", 20, 12)
    )
    assert found["v1"].high is not None


def test_a_player_that_cannot_be_compared_has_no_rating() -> None:
    found = table(
        Result("v1", "random", 10, 5),
        Result("a", "b", 10, 5),  # Never met any of the others.
        Result("v1", "c", 10, 10),
        Result("d", "c", 10, 10),  # d won all against c, which lost all: above or below random?
    )
    for name in ("a", "b", "d"):
        assert (found[name].elo, found[name].low, found[name].high) == (None, None, None)
    assert found["c"].elo is not None
    assert [r.name for r in fit_ratings([Result("a", "b", 10, 5)])] == ["a", "b"]
    assert found["a"].games == 10


def test_no_results_are_an_empty_table() -> None:
    assert fit_ratings([]) == []
    assert fit_ratings([Result("v1", "random", 0, 0.0)]) == []


def test_the_table_is_sorted_by_strength() -> None:
    results = [Result("v1", "random", 10, 8), Result("v2", "random", 10, 2), Result("a", "b", 2, 1)]
    assert [r.name for r in fit_ratings(results)] == ["v1", "random", "v2", "a", "b"]


@pytest.mark.parametrize(
    "result", [Result("a", "b", 10, 11), Result("a", "b", 10, -1), Result("a", "a", 10, 5)]
)
def test_impossible_results_are_refused(result: Result) -> None:
    with pytest.raises(ValueError, match="expected 0 to games points between two players"):
        fit_ratings([result])


def test_a_long_run_with_crushing_results_is_fitted() -> None:
    """A hundred and twenty versions, each of which crushes its predecessor and random."""
    results = [Result(f"v{i}", "random", 32, 32) for i in range(1, 120)]
    results += [Result(f"v{i}", f"v{i - 1}", 32, 31) for i in range(1, 120)]
    results.append(Result("v0", "random", 32, 30))
    found = table(*results)
    elos = [number(found[f"v{i}"].elo) for i in range(120)]
    assert elos == sorted(elos)
    assert elos[-1] > 50_000

"""The Elo table against closed forms, known truths and simulation."""

import itertools
import math
import random
from collections.abc import Mapping

import numpy as np
import pytest

from keisei_ray.evaluation.elo_table import (
    ELO_PER_LOG_ODDS,
    KNOWN_ELOS,
    KNOWN_SD,
    Result,
    fit_ratings,
    fit_table,
)
from keisei_ray.evaluation.pair_outcomes import games_in, outcomes, pair_counts
from keisei_ray.evaluation.score_intervals import NORMAL_QUANTILE
from keisei_ray.telemetry.reports import Rating


def table(
    *results: Result, anchor: str = "random", known: Mapping[str, float] | None = None
) -> dict[str, Rating]:
    return {rating.name: rating for rating in fit_ratings(results, anchor, known or {})}


def scored(player: str, opponent: str, games: float, points: float) -> Result:
    """Games of which none was drawn."""
    return Result(player, opponent, points, 0, games - points)


def elo_of(points: float, games: float) -> float:
    return 400 * math.log10(points / (games - points))


def played(rng: np.random.Generator, elo: float, draws: float) -> float:
    """Points of a game of a player that is so much stronger, the opening included."""
    x = elo / ELO_PER_LOG_ODDS
    win, loss = math.exp(x / 2), math.exp(-x / 2)
    drawn = rng.random() * (win + draws + loss)
    return 1.0 if drawn < win else 0.0 if drawn > win + draws else 0.5


def simulated(
    elos: dict[str, float],
    num_pairs: int,
    rng: np.random.Generator,
    *,
    draws: float = 0.2,
    opening_sd: float = 0.0,
) -> list[Result]:
    """Plays a round robin, each opening from both colours."""
    results = []
    for a, b in itertools.combinations(elos, 2):
        favours = rng.normal(0, opening_sd, num_pairs) if opening_sd else np.zeros(num_pairs)
        pairs = pair_counts(
            [
                (
                    played(rng, elos[a] - elos[b] + favour, draws),
                    played(rng, elos[a] - elos[b] - favour, draws),
                )
                for favour in favours.tolist()
            ]
        )
        results.append(Result(a, b, *games_in(pairs), pairs))
    return results


@pytest.mark.parametrize(("points", "games"), [(50, 100), (75, 100), (31, 32), (3, 4), (1, 9)])
def test_two_players_that_never_draw_are_nearly_the_closed_form(points: float, games: int) -> None:
    rating = table(scored("v1", "random", games, points))["v1"]
    expected = elo_of(points + 0.5, games + 1)
    assert rating.elo == pytest.approx(expected, rel=0.12, abs=1)
    p = (points + 0.5) / (games + 1)
    error = 400 / math.log(10) / math.sqrt(games * p * (1 - p))
    assert width(rating) == pytest.approx(2 * NORMAL_QUANTILE * error, rel=0.2)
    assert rating.games == games


def test_many_games_give_the_true_ratings_draws_and_openings() -> None:
    """If the results fit exactly, every pair is predicted as it was measured."""
    truth = {"random": 0.0, "greedy": 250.0, "v1": 120.0, "v2": 333.0}
    results, draws, opening_sd = [], [0.1, 0.5, 2.0, 0.3, 0.05, 1.0], 200 / ELO_PER_LOG_ODDS
    for (a, b), nu in zip(itertools.combinations(truth, 2), draws, strict=True):
        d = np.array([(truth[a] - truth[b]) / ELO_PER_LOG_ODDS])
        p = outcomes(d, np.log([nu]), math.log(opening_sd)).probabilities[0]
        pairs = tuple(10**7 * p[3:])
        results.append(Result(a, b, *games_in(pairs), pairs))
    fitted = fit_table(results, known={})
    for rating in fitted.ratings:
        assert rating.elo == pytest.approx(truth[rating.name], abs=0.1)
    for result in results:
        score = (result.wins + result.draws / 2) / result.games
        assert fitted.expected[result.player, result.opponent] == pytest.approx(score, abs=1e-4)


def number(value: float | None) -> float:
    assert value is not None
    return value


def width(rating: Rating) -> float:
    return number(rating.high) - number(rating.low)


def test_the_anchor_is_zero_without_error() -> None:
    found = table(scored("random", "v1", 10, 3), scored("v1", "v2", 10, 3))
    assert found["random"] == Rating("random", 0.0, 0.0, 0.0, 10)
    other = table(scored("random", "v1", 10, 3), scored("v1", "v2", 10, 3), anchor="v1")
    assert other["v1"] == Rating("v1", 0.0, 0.0, 0.0, 20)
    assert other["random"].elo == pytest.approx(-number(found["v1"].elo), abs=0.05)
    between = number(found["v2"].elo) - number(found["v1"].elo)
    assert other["v2"].elo == pytest.approx(between, abs=0.05)


def test_the_order_of_results_and_of_names_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    results = simulated({"random": 0, "a": 100, "b": 200, "c": -50}, 10, rng)
    results += simulated({"random": 0, "a": 100, "b": 200}, 5, rng)
    once = fit_ratings(results)
    random.Random(1).shuffle(results)
    swapped = [
        Result(r.opponent, r.player, r.losses, r.draws, r.wins, r.pairs and r.pairs[::-1])
        for r in results
    ]
    # A pair of two draws and one that each player won once are their own mirror images.
    swapped = [
        s._replace(pairs=(*s.pairs[:2], s.pairs[3], s.pairs[2], *s.pairs[4:])) if s.pairs else s
        for s in swapped
    ]
    for other in (results, swapped):
        for rating, before in zip(fit_ratings(other), once, strict=True):
            assert rating.name == before.name
            assert rating.elo == pytest.approx(before.elo, abs=0.05)
            assert rating.low == pytest.approx(before.low, abs=0.05)


def test_matches_of_the_same_players_count_as_one_long_match() -> None:
    parts = table(*[scored("v1", "random", 4, 3)] * 8)
    assert parts == table(scored("v1", "random", 32, 24))
    pairs = (3, 1, 2, 1, 0, 1)
    once = Result("v1", "random", *games_in(pairs), pairs)
    twice = tuple(2 * n for n in pairs)
    assert table(once, once) == table(Result("v1", "random", *games_in(twice), twice))


def test_ratings_add_up_along_a_chain() -> None:
    """v2 never met random: its rating is that of v1 over random plus that of v2 over v1."""
    found = table(scored("v1", "random", 400, 300), scored("v2", "v1", 400, 320))
    first = table(scored("v1", "random", 400, 300))["v1"]
    second = table(scored("v2", "v1", 400, 320), anchor="v1")["v2"]
    assert found["v1"].elo == pytest.approx(number(first.elo), rel=0.02)
    assert found["v2"].elo == pytest.approx(number(first.elo) + number(second.elo), rel=0.02)
    assert width(found["v2"]) ** 2 == pytest.approx(
        width(first) ** 2 + width(second) ** 2, rel=0.25
    )


@pytest.mark.parametrize(
    ("num_pairs", "draws", "opening_sd"), [(8, 0.05, 0.0), (16, 0.5, 150.0), (24, 0.2, 300.0)]
)
def test_intervals_cover_the_truth_whatever_draws_and_openings_do(
    num_pairs: int, draws: float, opening_sd: float
) -> None:
    truth = {"random": 0.0, "greedy": 300.0, "v1": 80.0, "v2": 200.0, "v3": 420.0}
    rng = np.random.default_rng(11)
    covered, errors = [], []
    for _ in range(30):
        results = simulated(truth, num_pairs, rng, draws=draws, opening_sd=opening_sd)
        for rating in table(*results).values():
            if rating.name != "random" and rating.low is not None and rating.high is not None:
                covered.append(rating.low <= truth[rating.name] <= rating.high)
                errors.append(number(rating.elo) - truth[rating.name])
    assert len(covered) > 100
    # Four correlated ratings per table: a standard error of at most 4%, and 13 Elo.
    assert np.mean(covered) >= 0.86
    assert abs(np.mean(errors)) < 55


def test_draws_by_repetition_do_not_make_a_strong_player_weak() -> None:
    """v1 beats greedy like v2 does, but half of its games against random are drawn."""
    games = [
        Result("v1", "greedy", 60, 0, 20),
        Result("v2", "greedy", 60, 0, 20),
        Result("v1", "random", 40, 40, 0),
        Result("v2", "random", 80, 0, 0),
        scored("greedy", "random", 80, 79),
    ]
    found = table(*games)
    assert width(found["v1"]) < 500
    assert number(found["v1"].elo) == pytest.approx(number(found["v2"].elo), abs=60)


def test_the_same_player_on_two_scales_differs_by_less_than_the_interval() -> None:
    """In one table it meets a weaker scripted player only, in the other a stronger one only."""
    rng = np.random.default_rng(5)
    player = (KNOWN_ELOS["greedy"] + KNOWN_ELOS["greedy2"]) / 2
    differences = []
    for _ in range(20):
        ratings = []
        for opponent in ("greedy", "greedy2"):
            elos = {"v1": player, opponent: KNOWN_ELOS[opponent]}
            results = simulated(elos, 30, rng, opening_sd=100)
            (rating,) = (r for r in fit_ratings(results) if r.name == "v1")
            ratings.append(rating)
        one, other = ratings
        half = (width(one) + width(other)) / 4
        differences.append(abs(number(one.elo) - number(other.elo)) < half)
    assert np.mean(differences) >= 0.75


def test_known_players_join_a_table_without_random_to_its_scale() -> None:
    (found,) = (r for r in fit_ratings([scored("v1", "greedy", 40, 20)]) if r.name == "v1")
    assert found.elo == pytest.approx(KNOWN_ELOS["greedy"], abs=1)
    assert width(found) > 2 * NORMAL_QUANTILE * KNOWN_SD
    # Not where another player is the anchor.
    other = {r.name: r for r in fit_ratings([scored("v1", "greedy", 40, 20)], anchor="v1")}
    assert other["greedy"].elo == pytest.approx(0, abs=1e-6)


def test_many_matches_move_a_known_player_from_where_it_was_known_to_be() -> None:
    known = {"random": 0.0, "greedy": 300.0}
    results = [scored("greedy", "random", 10**6, 10**6 / 2)]
    assert abs(number(table(*results, known=known)["greedy"].elo)) < 1
    few = table(scored("greedy", "random", 4, 2), known=known)["greedy"]
    assert 270 < number(few.elo) < 300


def test_a_player_that_won_all_has_no_upper_bound_and_one_that_lost_all_no_lower() -> None:
    found = table(scored("v1", "random", 32, 32), scored("v0", "random", 32, 0))
    best, worst = found["v1"], found["v0"]
    assert best.elo == pytest.approx(elo_of(32.5, 33), rel=0.12)
    assert best.high is None
    assert 0 < number(best.low) < number(best.elo)
    assert worst.elo == pytest.approx(-number(best.elo), abs=0.05)
    assert worst.low is None
    assert worst.high == pytest.approx(-number(best.low), abs=0.05)


def test_the_better_half_is_unbounded_together() -> None:
    """v1 and v2 took points from each other, but random took none from either."""
    found = table(
        scored("v1", "random", 20, 20), scored("v2", "random", 20, 20), scored("v2", "v1", 20, 12)
    )
    assert found["v1"].high is None
    assert found["v2"].high is None
    assert found["v1"].low is not None
    # One half point is enough.
    found = table(
        scored("v1", "random", 20, 20), scored("v2", "random", 20, 19.5), scored("v2", "v1", 20, 12)
    )
    assert found["v1"].high is not None


def test_a_player_that_cannot_be_compared_has_no_rating() -> None:
    found = table(
        scored("v1", "random", 10, 5),
        scored("a", "b", 10, 5),  # Never met any of the others.
        scored("v1", "c", 10, 10),
        scored("d", "c", 10, 10),  # d won all against c, which lost all: above or below random?
    )
    for name in ("a", "b", "d"):
        assert (found[name].elo, found[name].low, found[name].high) == (None, None, None)
    assert found["c"].elo is not None
    assert [r.name for r in fit_ratings([scored("a", "b", 10, 5)])] == ["a", "b"]
    assert found["a"].games == 10


def test_no_results_are_an_empty_table() -> None:
    assert fit_ratings([]) == []
    assert fit_ratings([scored("v1", "random", 0, 0.0)]) == []


def test_the_table_is_sorted_by_strength() -> None:
    results = [scored("v1", "random", 10, 8), scored("v2", "random", 10, 2), scored("a", "b", 2, 1)]
    assert [r.name for r in fit_ratings(results)] == ["v1", "random", "v2", "a", "b"]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (scored("a", "b", 10, 11), "expected counts of games between two players"),
        (scored("a", "b", 10, -1), "expected counts of games between two players"),
        (scored("a", "a", 10, 5), "expected counts of games between two players"),
        (Result("a", "b", 2, 0, 0, (0, 0, 0, 1, 0, 0)), "expected pairs that make up the games"),
    ],
)
def test_impossible_results_are_refused(result: Result, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fit_ratings([result])


def test_a_long_run_with_crushing_results_is_fitted() -> None:
    """Forty versions, each of which crushes its predecessor and random."""
    results = [scored(f"v{i}", "random", 32, 32) for i in range(1, 40)]
    results += [scored(f"v{i}", f"v{i - 1}", 32, 31) for i in range(1, 40)]
    results.append(scored("v0", "random", 32, 30))
    found = table(*results)
    elos = [number(found[f"v{i}"].elo) for i in range(40)]
    assert elos == sorted(elos)
    assert elos[-1] > 15_000

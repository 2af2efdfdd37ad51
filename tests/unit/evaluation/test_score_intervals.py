"""Scores, intervals and Elo differences against closed forms and simulation."""

import math

import numpy as np
import pytest

from keisei_ray.evaluation.score_intervals import (
    Interval,
    elo_difference,
    elo_interval,
    score_interval,
)


def test_interval_by_hand() -> None:
    # Two pairs, 1 and 0.5; with the added 0 and 1: mean 2.5 / 4, variance 2.25 / 4 - 0.625^2.
    low, center, high = score_interval([1.0, 0.5])
    half = 1.959963984540054 * math.sqrt((0.5625 - 0.390625) / 4)
    assert center == 0.75
    assert low == pytest.approx(0.625 - half)
    assert high == 1.0  # 0.625 + half = 1.03


def test_interval_is_the_normal_one_for_many_units() -> None:
    units = [0.25, 0.5, 0.75, 1.0] * 25_000
    half = 1.959963984540054 * np.std(units) / math.sqrt(len(units))
    low, center, high = score_interval(units)
    assert center == 0.625
    assert high - low == pytest.approx(2 * half, rel=1e-3)
    assert (high + low) / 2 == pytest.approx(0.625, abs=1e-4)


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_interval_does_not_collapse_when_all_pairs_score_the_same(score: float) -> None:
    low, center, high = score_interval([score] * 5)
    assert center == score
    assert low <= score <= high
    assert high - low > 0.2


def test_interval_of_swapped_players_is_the_mirror_image() -> None:
    units = [1.0, 0.75, 0.5, 1.0, 0.0, 0.25]
    low, center, high = score_interval(units)
    assert score_interval([1 - x for x in units]) == pytest.approx((1 - high, 1 - center, 1 - low))


def pairs(kind: str, p: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Simulates pair means whose games are independent, agree, or are split by the opening.

    "split": the opening favours one colour, so the players tend to win one game each.
    """
    if kind == "agree":
        return (rng.random(shape) < p).astype(float)
    tilt = rng.normal(0, 0.45, shape) if kind == "split" else np.zeros(shape)
    wins = [rng.random(shape) < np.clip(p + sign * tilt, 0, 1) for sign in (1, -1)]
    means: np.ndarray = (wins[0] + wins[1].astype(float)) / 2
    return means


@pytest.mark.parametrize("kind", ["independent", "agree", "split"])
@pytest.mark.parametrize("num_pairs", [4, 20, 100])
@pytest.mark.parametrize("p", [0.5, 0.9])
def test_interval_covers_the_truth_for_any_dependence_within_pairs(
    kind: str, num_pairs: int, p: float
) -> None:
    rng = np.random.default_rng(5)
    truth = pairs(kind, p, (1, 400_000), rng).mean()
    matches = pairs(kind, p, (1500, num_pairs), rng)
    covered = [low <= truth <= high for low, _, high in map(score_interval, matches.tolist())]
    # Four pairs whose games always agree are four coin tosses; 1 in 8 matches has equal tosses.
    assert np.mean(covered) > (0.86 if num_pairs == 4 else 0.92)


def test_splitting_openings_narrow_the_interval() -> None:
    """The opening decides each game: single games carry no information, pairs carry all of it."""
    games = [1.0, 0.0] * 50
    low, _, high = score_interval([0.5] * 50)
    wide_low, _, wide_high = score_interval(games)
    assert high - low < (wide_high - wide_low) / 2


@pytest.mark.parametrize("units", [[], [1.5], [-0.1, 0.5]])
def test_no_units_or_impossible_scores_are_refused(units: list[float]) -> None:
    with pytest.raises(ValueError, match="expected at least one, each in"):
        score_interval(units)


@pytest.mark.parametrize(
    ("score", "elo"),
    [(0.5, 0.0), (10 / 11, 400.0), (1 / 11, -400.0), (100 / 101, 800.0), (0.75, 190.848502)],
)
def test_elo_closed_forms(score: float, elo: float) -> None:
    assert elo_difference(score) == pytest.approx(elo, abs=1e-5)


def test_elo_is_infinite_at_the_ends_and_ordered_as_the_scores() -> None:
    assert elo_interval(Interval(0.0, 0.5, 1.0)) == (-math.inf, 0.0, math.inf)


def test_elo_of_an_impossible_score_is_refused() -> None:
    with pytest.raises(ValueError, match=r"score = 1\.01"):
        elo_difference(1.01)

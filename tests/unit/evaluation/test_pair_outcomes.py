"""Outcomes of a pair of games: closed forms, sums, and slopes by finite differences."""

import math

import numpy as np
import pytest

from keisei_ray.evaluation.pair_outcomes import (
    NUM_SINGLE,
    PAIR_RESULTS,
    are_pairs_of,
    games_in,
    outcomes,
    pair_counts,
)

D, LOG_NU, LOG_TAU = np.array([-1.5, 0.0, 0.7, 6.0]), np.array([-2.0, 0.5, -1.0, 0.0]), 0.3


def test_the_probabilities_of_a_game_and_of_a_pair_add_up_to_one() -> None:
    p = outcomes(D, LOG_NU, LOG_TAU).probabilities
    assert p.shape == (4, NUM_SINGLE + len(PAIR_RESULTS))
    np.testing.assert_allclose(p[:, :NUM_SINGLE].sum(1), 1.0)
    np.testing.assert_allclose(p[:, NUM_SINGLE:].sum(1), 1.0)
    assert np.all(p > 0)


def test_without_openings_that_favour_anybody_it_is_davidsons_model_of_two_games() -> None:
    p = dict(
        zip(
            ("W", "D", "L", *PAIR_RESULTS), outcomes(D, LOG_NU, -30.0).probabilities[2], strict=True
        )
    )
    weights = [math.exp(0.35), math.exp(-1.0), math.exp(-0.35)]
    win, draw, loss = (w / sum(weights) for w in weights)
    assert (p["W"], p["D"], p["L"]) == pytest.approx((win, draw, loss))
    assert p["WL"] == pytest.approx(2 * win * loss)
    assert p["DD"] == pytest.approx(draw**2)


def test_openings_that_favour_a_side_make_split_pairs_and_hide_the_difference() -> None:
    d, log_nu = np.array([1.0]), np.array([-2.0])
    calm, sharp = (outcomes(d, log_nu, t).probabilities[0] for t in (-30.0, math.log(2.0)))
    split = NUM_SINGLE + PAIR_RESULTS.index("WL")
    assert sharp[split] > 1.3 * calm[split]
    assert 0.5 < sharp[0] < calm[0]


def test_the_slopes_are_those_of_the_probabilities() -> None:
    slopes, e = outcomes(D, LOG_NU, LOG_TAU).slopes, 1e-6
    for i, (d, nu, tau) in enumerate(((e, 0, 0), (0, e, 0), (0, 0, e))):
        after, before = (
            outcomes(D + s * d, LOG_NU + s * nu, LOG_TAU + s * tau).probabilities for s in (1, -1)
        )
        np.testing.assert_allclose(slopes[:, i], (after - before) / (2 * e), atol=1e-8)


def test_pairs_are_counted_whatever_the_order_of_their_games() -> None:
    counts = pair_counts([(1.0, 0.5), (0.5, 1.0), (0.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
    assert dict(zip(PAIR_RESULTS, counts, strict=True)) == {
        "WW": 0, "WD": 2, "DD": 1, "WL": 1, "DL": 0, "LL": 1
    }  # fmt: skip
    assert games_in(counts) == (3, 4, 3)
    assert are_pairs_of(counts, 3, 4, 3)
    assert not are_pairs_of(counts, 4, 3, 3)
    assert not are_pairs_of((2, -1, 0, 0, 0, 0), 3, -1, 0)

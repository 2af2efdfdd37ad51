"""Values as centipawns and mates."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.search.forest import DRAWN, LOST, UNPROVEN, WON
from keisei_ray.search.score import MAX_CENTIPAWNS, SCALE, centipawns, less_draws, score_text


@pytest.mark.parametrize(
    ("value", "score"),
    [(0.0, 0), (0.2, 243), (-0.2, -243), (0.5, 659), (0.9, 1767), (1.0, 9999), (-1.0, -9999),
     (0.9999999, 9999), (1.5, 9999)],
)  # fmt: skip
def test_centipawns(value: float, score: int) -> None:
    assert centipawns(value) == score


@given(st.floats(-0.999, 0.999))
def test_clients_find_the_chance_of_winning_in_the_score(value: float) -> None:
    chance = 1 / (1 + math.exp(-centipawns(value) / SCALE))
    assert chance == pytest.approx((1 + value) / 2, abs=1e-3)


@pytest.mark.parametrize(
    ("value", "proof", "plies", "text"),
    [
        (0.2, UNPROVEN, 4, "cp 243"),
        (0.0, DRAWN, 4, "cp 0"),
        (1.0, WON, 3, "mate 3"),
        (-1.0, LOST, 4, "mate -4"),
        (1.0, UNPROVEN, 1, f"cp {MAX_CENTIPAWNS}"),
    ],
)
def test_what_is_proven_is_a_mate(value: float, proof: int, plies: int, text: str) -> None:
    assert score_text(value, proof, plies) == text


@pytest.mark.parametrize(
    ("value", "draw_prob", "proof", "draw_value", "expected"),
    [
        (-0.97, 0.97, UNPROVEN, -1.0, 0.0),
        (0.5, 0.4, UNPROVEN, 0.5, 0.3),
        (0.5, 0.4, UNPROVEN, 0.0, 0.5),
        (-1.0, 0.1, UNPROVEN, 0.5, -1.0),
        (0.0, 1.0, DRAWN, -1.0, 0.0),
        (1.0, 0.0, WON, -1.0, 1.0),
        (-1.0, 0.0, LOST, -1.0, -1.0),
    ],
)
def test_the_worth_of_draws_is_taken_out_of_what_is_not_proven(
    value: float, draw_prob: float, proof: int, draw_value: float, expected: float
) -> None:
    assert less_draws(value, draw_prob, proof, draw_value) == pytest.approx(expected)

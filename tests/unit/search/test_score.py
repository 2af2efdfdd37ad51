"""Values as centipawns and mates."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.search.forest import DRAWN, LOST, UNPROVEN, WON
from keisei_ray.search.score import MAX_CENTIPAWNS, SCALE, centipawns, score_text


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

"""The plain loop of the games."""

import numpy as np

from keisei_ray.bench.random_play import step_randomly
from keisei_ray.shogi.vector_games import VectorGames


def test_games_stay_near_the_legal_moves_of_real_ones() -> None:
    """Always the first legal move would lead to some 150 a position."""
    games = VectorGames(64, max_plies=320, rng_for_game=np.random.default_rng)
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(150):
        assert step_randomly(games, rng) == 64
        seen.append(games.legal_offsets[-1] / 64)
    assert 30 < np.mean(seen) < 90

"""Random legal play, the plain loop of the games."""

import numpy as np

from keisei_ray.shogi.vector_games import VectorGames


def step_randomly(games: VectorGames, rng: np.random.Generator) -> int:
    """Plays a random legal move in each game; returns how many.

    A fixed choice, as the first legal move, would soon lead to positions with three times the legal
    moves of real ones.
    """
    counts = np.diff(games.legal_offsets)
    games.step((rng.random(len(counts)) * counts).astype(np.int64))
    return len(counts)

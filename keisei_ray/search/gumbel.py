"""Choice among the moves of a root by sequential halving, as Gumbel AlphaZero does.

Danihelka, Guez, Schrittwieser, Silver: Policy improvement by planning with Gumbel (ICLR 2022). The
simulations are spread evenly over the moves with the highest scores, and after each round half of
these are dropped. The score of a move is

    log prior + (C_VISIT + most visits of a move) * (value + 1) / 2

This is the rule for matches: without the Gumbel noise that self-play adds to the log prior, so the
moves of the first round are the policy's likeliest. Below the root nothing differs.

A move without visits counts with the mixed value of appendix D: the mean of the network's own value
of the position, counted once, and of the values found, weighted by the policy, counted as often as
there were visits.

K: roots. M: most legal moves of a root; those of each come first, in the order of the game's.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.search.forest import LOST, UNPROVEN, WON, Bytes, Floats, Ints

C_VISIT: Final = 50.0
"""Visits that the values found outweigh the policy by at least."""
MAX_CONSIDERED: Final = 16
"""Moves of the first round."""
_TINY: Final = np.float32(1e-30)

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class RootFindings(NamedTuple):
    """Findings about the moves of K roots, for the side to move there."""

    priors: Floats
    """[K, M] the policy's probabilities, 0 beyond the legal moves."""
    visits: Ints
    """[K, M] simulations that tried each, those in flight included."""
    values: Floats
    """[K, M] value in [-1, 1] of each, a draw counted as `SearchSettings.draw_value`; without
    meaning where there is no visit."""
    proofs: Bytes
    """[K, M] what is proven about each."""
    is_legal: Bools
    """[K, M] whether there is such a move."""
    own_values: Floats
    """[K] the network's value of the position itself, a draw counted likewise."""


class Halving:
    """The simulations of K searches, each shared out among the moves of its root."""

    def __init__(self, visits: Ints, num_moves: Sequence[int], simulations: Sequence[int]) -> None:
        """Args:
        visits: [K, M] visits from earlier searches; they count for the values only.
        num_moves: [K] legal moves of each root, at least 1.
        simulations: [K] simulations that are to come in each, at least 1.
        """
        self._before = visits
        plans = [
            considered_visits(min(MAX_CONSIDERED, moves), number)
            for moves, number in zip(num_moves, simulations, strict=True)
        ]
        self._last = np.array([len(plan) - 1 for plan in plans])
        self._wanted = np.zeros((len(plans), int(self._last.max()) + 1), np.int64)
        for row, plan in enumerate(plans):
            self._wanted[row, : len(plan)] = plan

    def next_moves(self, rows: Ints, found: RootFindings) -> Ints:
        """[K] index of the move that the next simulation tries.

        Args:
            rows: [K] the searches asked for.
            found: findings about their roots; its M may be smaller.
        """
        width = found.visits.shape[1]
        new = found.visits - self._before[rows, :width]
        wanted = self._wanted[rows, np.minimum(new.sum(1), self._last[rows])]
        is_open = found.is_legal & (found.proofs != LOST)
        # Where a proof has thrown the rounds out of step, the best of all goes on.
        eligible = (new == wanted[:, None]) & is_open
        for others in (is_open & (new > 0), is_open):
            eligible = np.where(eligible.any(1, keepdims=True), eligible, others)
        chosen = np.where(eligible, scores(found), -np.inf)
        best: Ints = chosen.argmax(1)
        return best

    def best_moves(self, rows: Ints, found: RootFindings) -> Ints:
        """[K] index of the move to play: of those that lasted to the end, the best by score.

        Args:
            rows: [K] the searches asked for.
            found: findings about their roots; its M may be smaller.
        """
        width = found.visits.shape[1]
        is_lost = ~found.is_legal | (found.proofs == LOST)
        new = np.where(is_lost, -1, found.visits - self._before[rows, :width])
        lasted = found.is_legal & (new == new.max(1, keepdims=True))
        chosen = np.where(lasted, scores(found), -np.inf)
        is_won = found.proofs == WON
        best: Ints = np.where(is_won.any(1), is_won.argmax(1), chosen.argmax(1))
        return best


@cache
def considered_visits(num_moves: int, simulations: int) -> Ints:
    """Visits that the move tried by each simulation has had before: the plan of the halving.

    Args:
        num_moves: moves of the first round, at least 1.
        simulations: length of the plan, at least 1.

    Source: `get_sequence_of_considered_visits` of mctx (Apache 2.0).
    """
    if num_moves == 1:
        return np.arange(simulations)
    rounds = int(np.ceil(np.log2(num_moves)))
    plan: list[int] = []
    visits = [0] * num_moves
    while len(plan) < simulations:
        for _ in range(max(1, simulations // (rounds * num_moves))):
            plan += visits[:num_moves]
            visits[:num_moves] = [count + 1 for count in visits[:num_moves]]
        num_moves = max(2, num_moves // 2)
    return np.array(plan[:simulations])


def scores(found: RootFindings) -> Doubles:
    """[K, M] score of each move, see the top of this module; without meaning beyond the legal."""
    is_known = found.is_legal & ((found.visits > 0) | (found.proofs != UNPROVEN))
    weights = np.where(is_known, found.priors, 0)
    sums = (weights * np.where(is_known, found.values, 0)).sum(1)
    mean = sums / np.maximum(weights.sum(1), _TINY)
    visits = found.visits.sum(1)
    mixed = (found.own_values + visits * mean) / (1 + visits)
    values = np.where(is_known, found.values, mixed[:, None])
    weight = C_VISIT + found.visits.max(1, keepdims=True)
    log_priors = np.log(np.maximum(found.priors, _TINY), dtype=np.float64)
    of_moves: Doubles = log_priors + weight * (values + 1) / 2
    return of_moves


def improved_policies(found: RootFindings) -> Doubles:
    """[K, M] the policies after the search: their probabilities, moved by the values found.

    A move that is proven to lose has 0, unless all do.
    """
    is_lost = found.is_legal & (found.proofs == LOST)
    is_left = found.is_legal & ~is_lost
    is_left |= found.is_legal & ~is_left.any(1, keepdims=True)
    logits = np.where(is_left, scores(found), -np.inf)
    weights: Doubles = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return weights

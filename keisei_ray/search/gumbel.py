"""Choice among the moves of a root by sequential halving, as Gumbel AlphaZero does.

Danihelka, Guez, Schrittwieser, Silver: Policy improvement by planning with Gumbel (ICLR 2022). The
simulations are spread evenly over the moves with the highest scores, and after each round half of
these are dropped. The score of a move is

    log prior + (C_VISIT + most visits of a move) * (value + 1) / 2

This is the rule for matches: without the Gumbel noise that self-play adds to the log prior, so the
moves of the first round are the policy's likeliest. Below the root nothing differs.

A move without visits counts with the mean of the values found, weighted by the policy.

M: legal moves of the root, in the order of the game's legal moves.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.search.forest import LOST, UNPROVEN, WON, Bytes, Floats, Ints

C_VISIT: Final = 50.0
"""Visits that the values found outweigh the policy by at least."""
MAX_CONSIDERED: Final = 16
"""Moves of the first round."""
_TINY: Final = np.float32(1e-30)


class RootFindings(NamedTuple):
    """Findings about the moves of a root, for the side to move there."""

    priors: Floats
    """[M] the policy's probabilities."""
    visits: Ints
    """[M] simulations that tried each, those in flight included."""
    values: Floats
    """[M] value in [-1, 1] of each; without meaning where there is no visit."""
    proofs: Bytes
    """[M] what is proven about each."""


class Halving:
    """The simulations of one search, shared out among the moves of its root."""

    def __init__(self, visits: Ints, simulations: int) -> None:
        """Args:
        visits: [M] visits from earlier searches; they count for the values only.
        simulations: simulations that are to come.
        """
        self._before = visits
        self._wanted = considered_visits(min(MAX_CONSIDERED, len(visits)), simulations)

    def next_move(self, found: RootFindings) -> int:
        """Index of the move that the next simulation tries."""
        new = found.visits - self._before
        wanted = self._wanted[min(int(new.sum()), len(self._wanted) - 1)]
        is_open = found.proofs != LOST
        # Where a proof has thrown the rounds out of step, the best of all goes on.
        for eligible in ((new == wanted) & is_open, is_open & (new > 0), is_open):
            if eligible.any():
                break
        return int(np.where(eligible, scores(found), -np.inf).argmax())

    def best_move(self, found: RootFindings) -> int:
        """Index of the move to play: of those that lasted to the end, the one that scores best."""
        if (found.proofs == WON).any():
            return int((found.proofs == WON).argmax())
        new = np.where(found.proofs == LOST, -1, found.visits - self._before)
        return int(np.where(new == new.max(), scores(found), -np.inf).argmax())


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


def scores(found: RootFindings) -> npt.NDArray[np.float64]:
    """[M] score of each move, see the top of this module."""
    is_known = (found.visits > 0) | (found.proofs != UNPROVEN)
    weights = np.where(is_known, found.priors, 0)
    mean = (weights * np.where(is_known, found.values, 0)).sum() / max(weights.sum(), _TINY)
    values = np.where(is_known, found.values, mean)
    weight = C_VISIT + float(found.visits.max())
    log_priors: npt.NDArray[np.float64] = np.log(np.maximum(found.priors, _TINY), dtype=np.float64)
    return log_priors + weight * (values + 1) / 2


def improved_policy(found: RootFindings) -> npt.NDArray[np.float64]:
    """[M] the policy after the search: its probabilities, moved by the values found.

    A move that is proven to lose has 0, unless all do.
    """
    logits = scores(found)
    is_lost = found.proofs == LOST
    if not is_lost.all():
        logits[is_lost] = -np.inf
    weights: npt.NDArray[np.float64] = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights

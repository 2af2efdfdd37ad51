"""How likely the outcomes of a pair of games are, by strength, draws and opening. Pure functions.

A player is stronger than its opponent by `d` log-odds, and the opening favours the player by `b`.
With x = d + b, the player wins, draws or loses the game with probabilities in proportion to

    exp(x / 2),   nu,   exp(-x / 2)

(Davidson's model of draws). The two games of a pair begin with the same opening and exchanged
colours: if the one has x = d + b, the other has x = d - b. The openings' advantages are normal with
mean 0 and standard deviation tau, and are summed over by Gauss-Hermite quadrature.

So two things that hide differences of strength when points alone are counted are part of the model:
draws, and openings that decide games.

K: matches. Outcomes, in this order: win, draw, loss of a single game; then the results of a pair of
games in any order, `PAIR_RESULTS`. Parameters, in this order: d, log nu, log tau.

Sources: Davidson 1970, Journal of the American Statistical Association 65(329); pairs as units: the
    pentanomial model of Fishtest (official-stockfish).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PAIR_RESULTS: Final = ("WW", "WD", "DD", "WL", "DL", "LL")
"""Results of a pair of games, in either order: W won, D drawn or truncated, L lost."""
NUM_SINGLE: Final = 3
"""Outcomes of a single game, which come before those of a pair."""

_LETTERS: Final = "WDL"
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_SLOPES: Final = np.array([0.5, 0.0, -0.5])
"""Derivative of the logits of win, draw and loss by x."""
_IS_DRAW: Final = np.array([0.0, 1.0, 0.0])
_TINY: Final = 1e-300


def _folding() -> Floats:
    """[9, 9] 1 where an ordered result of two games (3 x first + second) is part of an outcome."""
    folding = np.zeros((9, NUM_SINGLE + len(PAIR_RESULTS)))
    for first in range(3):
        for second in range(3):
            result = "".join(_LETTERS[i] for i in sorted((first, second)))
            folding[3 * first + second, first] = 1.0
            folding[3 * first + second, NUM_SINGLE + PAIR_RESULTS.index(result)] = 1.0
    return folding


_FOLDING: Final = _folding()


class Outcomes(NamedTuple):
    """Probabilities of all outcomes in K matches, and how they change with the parameters."""

    probabilities: Floats
    """[K, 9]."""
    slopes: Floats
    """[K, 3, 9] derivatives of the probabilities by each parameter."""

    @property
    def log_slopes(self) -> Floats:
        """[K, 3, 9] derivatives of the probabilities' logarithms."""
        return self.slopes / np.maximum(self.probabilities, _TINY)[:, None, :]


def outcomes(d: Floats, log_nu: Floats, log_tau: float) -> Outcomes:
    """Computes how likely each outcome is.

    Args:
        d: [K] log-odds of the player over the opponent.
        log_nu: [K] how often they draw.
        log_tau: spread of the openings' advantages, in log-odds.
    """
    shift = np.exp(log_tau) * _NODES
    first = _game(d[:, None] + shift, log_nu)
    second = first[:, ::-1]  # The nodes are symmetric.
    by_x = [_SLOPES - (p * _SLOPES).sum(-1, keepdims=True) for p in (first, second)]
    by_nu = [_IS_DRAW - p[..., 1:2] for p in (first, second)]
    # [K, nodes, 3, 3]: the first game, the second.
    joint = _WEIGHTS[:, None, None] * first[..., :, None] * second[..., None, :]
    slopes = [
        by_x[0][..., :, None] + by_x[1][..., None, :],
        by_nu[0][..., :, None] + by_nu[1][..., None, :],
        shift[:, None, None] * (by_x[0][..., :, None] - by_x[1][..., None, :]),
    ]
    cells = joint.sum(1).reshape(-1, 9)
    by_cell = np.stack([(joint * s).sum(1).reshape(-1, 9) for s in slopes], axis=1)
    return Outcomes(cells @ _FOLDING, by_cell @ _FOLDING)


def expected_scores(d: Floats, log_nu: Floats, log_tau: float) -> Floats:
    """[K] points of the player in a game: 1 for a win, 1/2 for a draw."""
    p = outcomes(d, log_nu, log_tau).probabilities
    scores: Floats = p[:, 0] + p[:, 1] / 2
    return scores


def pair_counts(
    results: Sequence[tuple[float, float]],
) -> tuple[int, int, int, int, int, int]:
    """Counts pairs by their result, in the order of `PAIR_RESULTS`.

    Args:
        results: points of the player in the two games of each pair.
    """
    letters = {1.0: "W", 0.5: "D", 0.0: "L"}
    texts = ["".join(letters[p] for p in sorted(points, reverse=True)) for points in results]
    won, won_drawn, drawn, split, drawn_lost, lost = map(texts.count, PAIR_RESULTS)
    return won, won_drawn, drawn, split, drawn_lost, lost


def are_pairs_of(pairs: Sequence[int], wins: int, draws: int, losses: int) -> bool:
    """Returns whether these counts of pairs make up so many won, drawn and lost games."""
    return min(pairs) >= 0 and games_in(pairs) == (wins, draws, losses)


def games_in(pairs: Sequence[float]) -> tuple[float, float, float]:
    """Returns the numbers of won, drawn and lost games in pairs, counted as `PAIR_RESULTS`."""
    won, drawn, lost = (
        sum(count * result.count(letter) for count, result in zip(pairs, PAIR_RESULTS, strict=True))
        for letter in _LETTERS
    )
    return won, drawn, lost


def _game(x: Floats, log_nu: Floats) -> Floats:
    """[K, nodes, 3] probabilities of win, draw and loss of one game."""
    logits = np.stack([x / 2, np.broadcast_to(log_nu[:, None], x.shape), -x / 2], axis=-1)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities: Floats = weights / weights.sum(-1, keepdims=True)
    return probabilities

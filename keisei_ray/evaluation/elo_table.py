"""One Elo table, fitted to the results of all players together. Pure functions; no torch.

A game between players i and j is a win of i with probability

    p_ij = 1 / (1 + exp(-(theta_i - theta_j))),   Elo = theta * 400 / ln(10)

and a draw counts as half a win and half a loss (Bradley-Terry). The anchor is fixed at 0 and
nothing is carried forward: the table is a function of the set of results, whatever their order.

Plain maximum likelihood has no finite answer if a player won all games, and overstates
differences if games are few. The function that is maximized is therefore the likelihood times the
root of the determinant of its Fisher information (Jeffreys' prior). This removes the first-order
bias. It acts like one additional drawn game for each player except the anchor, spread over the
player's opponents in proportion to the information of each match. For two players, s points in n
games:

    theta = ln((s + 1/2) / (n - s + 1/2))

Intervals are +-1.96 standard errors from the Fisher information. They assume independent games;
draws make them too wide rather than too narrow.

Sources: Bradley and Terry 1952, Biometrika 39; Firth 1993, Biometrika 80(1); existence of finite
    estimates: Ford 1957, American Mathematical Monthly 64(8).
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.evaluation.score_intervals import NORMAL_QUANTILE
from keisei_ray.telemetry.reports import Rating

ANCHOR = "random"
"""Player whose Elo is 0 by definition."""
ELO_PER_LOG_ODDS = 400.0 / math.log(10.0)

_MAX_STEPS = 500
_MAX_STEP = 2.0
"""Largest change of a player's log-odds in one step."""
_TOLERANCE = 1e-9
"""Change of log-odds below which the fit ends."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Result(NamedTuple):
    """Result of some games between two players."""

    player: str
    opponent: str
    games: int
    points: float
    """Points of `player`: 1 for a win, 1/2 for a draw or a truncated game."""


class _Pairs(NamedTuple):
    """All pairs of players that met: first[k] scored points[k] in games[k] against second[k]."""

    first: Ints
    second: Ints
    games: Floats
    points: Floats


def fit_ratings(results: Iterable[Result], anchor: str = ANCHOR) -> list[Rating]:
    """Returns the rating of every player, strongest first, players without a rating last.

    A bound of a player's interval is None if no result limits it. The upper bound is None if no
    chain of lost or drawn games leads from the player to the anchor, the lower bound if no chain
    of won or drawn games does. The Elo of such a player is a cautious guess. A player that is
    connected with the anchor by no chain of games, or has neither bound, has no rating.

    Args:
        results: in any order; results of the same two players add up.
        anchor: player whose Elo is 0.

    Raises:
        ValueError: points outside 0 to games, or a player against itself.
    """
    totals = _totals(results)
    games = dict.fromkeys(sorted({name for pair in totals for name in pair}), 0)
    for pair, (count, _) in totals.items():
        for name in pair:
            games[name] += count
    took: dict[str, set[str]] = {name: set() for name in games}
    for (first, second), (count, points) in totals.items():
        if points > 0:
            took[first].add(second)
        if points < count:
            took[second].add(first)
    gave = {name: {other for other in took if name in took[other]} for name in took}
    met = {name: took[name] | gave[name] for name in took}
    connected = sorted(_reach(anchor, met) - {anchor})
    # The edges of `gave` lead from a player to those that took points from it: from the anchor
    # they reach every player with a chain of won or drawn games against it.
    bounded_below, bounded_above = _reach(anchor, gave), _reach(anchor, took)
    theta, variance = _fit(connected, anchor, totals)
    table = []
    for name, count in games.items():
        has_low, has_high = name in bounded_below, name in bounded_above
        if name == anchor:
            table.append(Rating(name, 0.0, 0.0, 0.0, count))
        elif name in connected and (has_low or has_high):
            elo = theta[name] * ELO_PER_LOG_ODDS
            half = NORMAL_QUANTILE * math.sqrt(variance[name]) * ELO_PER_LOG_ODDS
            low, high = elo - half if has_low else None, elo + half if has_high else None
            table.append(Rating(name, elo, low, high, count))
        else:
            table.append(Rating(name, None, None, None, count))
    return sorted(table, key=lambda r: (r.elo is None, -(r.elo or 0.0), r.name))


def expected_score(elo: float, opponent_elo: float) -> float:
    """Returns the expected score of a player against an opponent, in [0, 1]."""
    return 1.0 / (1.0 + math.pow(10.0, (opponent_elo - elo) / 400.0))


def _totals(results: Iterable[Result]) -> dict[tuple[str, str], tuple[int, float]]:
    """Returns (games, points of the first) for each pair that met, the names of a pair in order."""
    totals: dict[tuple[str, str], tuple[int, float]] = {}
    for result in results:
        player, opponent, games, points = result
        if not 0 <= points <= games or player == opponent:
            raise ValueError(f"{result}: expected 0 to games points between two players.")
        if games == 0:
            continue
        if player > opponent:
            player, opponent, points = opponent, player, games - points
        before = totals.get((player, opponent), (0, 0.0))
        totals[player, opponent] = (before[0] + games, before[1] + points)
    return dict(sorted(totals.items()))


def _reach(start: str, edges: Mapping[str, Collection[str]]) -> set[str]:
    """Returns all players that edges lead to from `start`, including it if it played."""
    seen: set[str] = set()
    waiting = [start] if start in edges else []
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges[name]
    return seen


def _fit(
    names: list[str], anchor: str, totals: Mapping[tuple[str, str], tuple[int, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Fits the players that are connected with the anchor.

    Returns:
        Log-odds over the anchor by name, and their variances.
    """
    index = {name: i for i, name in enumerate([anchor, *names])}
    among = [(index[a], index[b], *total) for (a, b), total in totals.items() if a in index]
    if not names:
        return {}, {}
    columns = list(zip(*among, strict=True))
    pairs = _Pairs(
        np.array(columns[0]),
        np.array(columns[1]),
        np.array(columns[2], float),
        np.array(columns[3]),
    )
    theta = np.zeros(len(index))
    value, covariance, gradient = _penalized(theta, pairs)
    for _ in range(_MAX_STEPS):
        step = covariance @ gradient
        step *= min(1.0, _MAX_STEP / max(np.abs(step).max(), _TOLERANCE))
        while True:
            after = _penalized(theta + step, pairs)
            if after[0] >= value or np.abs(step).max() < _TOLERANCE:
                break
            step /= 2
        theta = theta + step
        value, covariance, gradient = after
        if np.abs(step).max() < _TOLERANCE:
            break
    variances = np.diag(covariance)
    return (
        {name: float(theta[index[name]]) for name in names},
        {name: float(variances[index[name]]) for name in names},
    )


def _penalized(theta: Floats, pairs: _Pairs) -> tuple[float, Floats, Floats]:
    """Returns the log-likelihood with Jeffreys' prior, a [P, P] covariance and the [P] gradient.

    P: number of players. The anchor is the first; its row, column and gradient are 0.
    """
    i, j, games, points = pairs
    odds = theta[i] - theta[j]
    p = (1.0 + np.tanh(odds / 2.0)) / 2.0
    weights = games * p * (1.0 - p)
    information = np.zeros((len(theta), len(theta)))
    np.add.at(information, (i, i), weights)
    np.add.at(information, (j, j), weights)
    np.add.at(information, (i, j), -weights)
    np.add.at(information, (j, i), -weights)
    covariance = np.zeros_like(information)
    covariance[1:, 1:] = np.linalg.inv(information[1:, 1:])
    spread = covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j]
    # The prior acts like this many drawn games of each pair; they sum to P - 1.
    drawn = weights * spread
    residual = points - games * p + drawn * (0.5 - p)
    gradient = np.zeros(len(theta))
    np.add.at(gradient, i, residual)
    np.add.at(gradient, j, -residual)
    gradient[0] = 0.0
    likelihood = float(np.sum(points * odds - games * np.logaddexp(0.0, odds)))
    return likelihood + 0.5 * float(np.linalg.slogdet(information[1:, 1:])[1]), covariance, gradient

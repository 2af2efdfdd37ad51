"""One Elo table, fitted to the results of all players together. Pure functions; no torch.

The model of a pair of games is that of `pair_outcomes.py`: the strength theta of a player, draws,
and the advantage of the opening. With d the difference of two players' theta, as log-odds,

    Elo = theta * 400 / ln(10)

so that, of the games that are not drawn and whose opening favours no side, a player that is 400 Elo
stronger wins ten for each that it loses. The anchor is fixed at 0 and nothing is carried forward:
the table is a function of the set of results, whatever their order.

How often two players draw is fitted for each two players, since some draw by repetition whatever
their strength. The spread of the openings' advantages is fitted for the whole table. Both have a
wide prior. The scripted players have a narrow one, `KNOWN_ELOS`, which joins tables with different
opponents to one scale.

Maximum likelihood has no finite answer if a player won all games, and overstates differences if
games are few. So something like one additional game for each player except the anchor is added,
half of it won and half lost, spread over the player's opponents in proportion to what each match
says about the player. That is Jeffreys' prior for players that never draw. For two of them, s
points in n games:

    theta = ln((s + 1/2) / (n - s + 1/2))

Intervals are +-1.96 standard errors from the Fisher information of all parameters together.

Sources: Davidson 1970, see `pair_outcomes.py`; Firth 1993, Biometrika 80(1); existence of finite
    estimates: Ford 1957, American Mathematical Monthly 64(8).
"""

import math
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.config.player_names import version_of
from keisei_ray.evaluation.pair_outcomes import (
    NUM_SINGLE,
    PAIR_RESULTS,
    Outcomes,
    games_in,
    outcomes,
)
from keisei_ray.evaluation.score_intervals import NORMAL_QUANTILE
from keisei_ray.telemetry.reports import MatchScore, Rating

ANCHOR = "random"
"""Player whose Elo is 0 by definition."""
KNOWN_ELOS: Final[Mapping[str, float]] = MappingProxyType(
    {
        ANCHOR: 0.0,
        "random+mate1": 360.0,
        "greedy?random=0.75": 730.0,
        "greedy?random=0.5": 1180.0,
        "greedy?random=0.25": 1490.0,
        "greedy": 1720.0,
        "greedy2?random=0.3": 1990.0,
        "greedy2?random=0.15": 2230.0,
        "greedy2": 2460.0,
    }
)
"""Elo of scripted players over random: steps of a scale, from the matches of
benchmarks/scripts/anchors.py (400 games each, the last step 100, rounded to 10)."""
KNOWN_SD: Final = 30.0
"""Standard deviation of these Elos from one table to another: other openings, other ply caps."""
ELO_PER_LOG_ODDS = 400.0 / math.log(10.0)

_LOG_NU, _LOG_NU_SD = math.log(0.2), 1.5
"""Prior of how often two players draw; nu = 0.2 is 9% of the games of equal players."""
_LOG_TAU, _LOG_TAU_SD = math.log(60 / ELO_PER_LOG_ODDS), 0.8
"""Prior of the openings' spread: 60 Elo, or 27 to 134 (one standard deviation)."""
_MAX_STEPS = 200
_MAX_STEP = 8.0
"""Largest change of a parameter in one step."""
_TOLERANCE = 1e-7
"""Change of all parameters, relative to the largest, below which the fit ends."""

_ROUNDING = 1e-10
"""Relative error of the likelihood, below which it is no worse."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Result(NamedTuple):
    """Result of some games between two players."""

    player: str
    opponent: str
    wins: float
    draws: float
    """Games that were drawn or truncated."""
    losses: float
    pairs: tuple[int, ...] | None = None
    """Pairs of games by their result, in the order of `PAIR_RESULTS`, of all games together. None
    where games did not come in pairs, or it is not known."""

    @classmethod
    def of(cls, player: str, opponent: str, score: MatchScore) -> "Result":
        """Returns the result of a match."""
        return cls(
            player, opponent, score.wins, score.draws + score.truncated, score.losses, score.pairs
        )

    @property
    def games(self) -> float:
        """Number of games."""
        return self.wins + self.draws + self.losses

    def counts(self) -> Floats:
        """[9] how often each outcome of `pair_outcomes.py` came: games not in pairs, pairs."""
        if self.pairs is None:
            return np.array([self.wins, self.draws, self.losses, *[0] * len(PAIR_RESULTS)], float)
        return np.array([*[0] * NUM_SINGLE, *self.pairs], float)


class Table(NamedTuple):
    """The fitted table, and what it expects of the matches that it is fitted to."""

    ratings: list[Rating]
    """Every player, strongest first, players without a rating last."""
    expected: dict[tuple[str, str], float]
    """(player, opponent) -> mean points of the player in a game, for all that met, in both orders;
    only players with a rating."""


_SWAPPED = [
    2,
    1,
    0,
    *(NUM_SINGLE + PAIR_RESULTS.index(r) for r in ("LL", "DL", "DD", "WL", "WD", "WW")),
]
"""Places of the outcomes where player and opponent are exchanged."""


def fit_ratings(
    results: Iterable[Result], anchor: str = ANCHOR, known: Mapping[str, float] = KNOWN_ELOS
) -> list[Rating]:
    """Returns the rating of every player; see `fit_table`."""
    return fit_table(results, anchor, known).ratings


def fit_table(
    results: Iterable[Result], anchor: str = ANCHOR, known: Mapping[str, float] = KNOWN_ELOS
) -> Table:
    """Fits the ratings of all players.

    A bound of a player's interval is None if no result limits it. The upper bound is None if no
    chain of lost or drawn games leads from the player to the anchor or a known player, the lower
    bound if no chain of won or drawn games does. The Elo of such a player is a cautious guess. A
    player that is connected with none of them by a chain of games, or has neither bound, has no
    rating.

    Args:
        results: in any order; results of the same two players add up.
        anchor: player whose Elo is 0; it need not have played where known players have.
        known: Elo over the anchor of players that are known beforehand, within KNOWN_SD; looked at
            only if the anchor is among them.

    Raises:
        ValueError: a negative count, pairs that do not make up the games, or a player against
            itself.
    """
    totals = _totals(results)
    games = dict.fromkeys(sorted({name for pair in totals for name in pair}), 0.0)
    took: dict[str, set[str]] = {name: set() for name in games}
    for (first, second), counts in totals.items():
        wins, draws, losses = _singles(counts)
        for name in (first, second):
            games[name] += wins + draws + losses
        if wins + draws > 0:
            took[first].add(second)
        if losses + draws > 0:
            took[second].add(first)
    gave = {name: {other for other in took if name in took[other]} for name in took}
    met = {name: took[name] | gave[name] for name in took}
    priors = {n: e for n, e in known.items() if n in games} if anchor in known else {}
    fixed = {anchor, *priors}
    connected = sorted(_reach(fixed, met) - {anchor})
    # The edges of `gave` lead from a player to those that took points from it: from the fixed ones
    # they reach every player with a chain of won or drawn games against them.
    bounded_below, bounded_above = _reach(fixed, gave), _reach(fixed, took)
    fit = _fit(connected, anchor, totals, priors)
    ratings = []
    for name, count in games.items():
        has_low, has_high = name in bounded_below, name in bounded_above
        if name == anchor:
            ratings.append(Rating(name, 0.0, 0.0, 0.0, round(count)))
        elif name in connected and (has_low or has_high):
            elo = fit.theta[name] * ELO_PER_LOG_ODDS
            half = NORMAL_QUANTILE * math.sqrt(fit.variance[name]) * ELO_PER_LOG_ODDS
            low, high = elo - half if has_low else None, elo + half if has_high else None
            ratings.append(Rating(name, elo, low, high, round(count)))
        else:
            ratings.append(Rating(name, None, None, None, round(count)))
    ratings.sort(key=lambda r: (r.elo is None, -(r.elo or 0.0), r.name))
    rated = {rating.name for rating in ratings if rating.elo is not None}
    expected = {pair: score for pair, score in fit.expected.items() if rated.issuperset(pair)}
    return Table(ratings, expected)


def players_beside(elo: float, table: Iterable[Rating]) -> list[tuple[str, float]]:
    """Returns greedy, and the known player whose Elo is nearest to this one, with their Elos.

    Known are the scripted players, and all of the table that are no version of the run, such as
    engines.

    Args:
        elo: of the player that is compared with them.
        table: all ratings.
    """
    known = dict(KNOWN_ELOS)
    for rating in table:
        if rating.elo is not None and version_of(rating.name) is None:
            known[rating.name] = rating.elo
    nearest = min(known, key=lambda name: abs(known[name] - elo))
    return [(name, known[name]) for name in dict.fromkeys(("greedy", nearest))]


def expected_score(elo: float, opponent_elo: float) -> float:
    """Returns the expected score of a player against an opponent, in [0, 1]."""
    return 1.0 / (1.0 + math.pow(10.0, (opponent_elo - elo) / 400.0))


def _totals(results: Iterable[Result]) -> dict[tuple[str, str], Floats]:
    """Returns the [9] outcomes for each two that met, seen by the first, names in order."""
    totals: dict[tuple[str, str], Floats] = {}
    for result in results:
        player, opponent = result.player, result.opponent
        counts = result.counts()
        singles = np.array([result.wins, result.draws, result.losses], float)
        if min(counts.min(), singles.min()) < 0 or player == opponent:
            raise ValueError(f"{result}: expected counts of games between two players.")
        if not np.allclose(_singles(counts), singles):
            raise ValueError(f"{result}: expected pairs that make up the games.")
        if result.games == 0:
            continue
        if player > opponent:
            player, opponent, counts = opponent, player, counts[_SWAPPED]
        totals[player, opponent] = totals.get((player, opponent), 0.0) + counts
    return dict(sorted(totals.items()))


def _singles(counts: Floats) -> Floats:
    """[3] won, drawn and lost games, those in pairs included."""
    singles: Floats = counts[:NUM_SINGLE] + np.array(games_in(counts[NUM_SINGLE:].tolist()))
    return singles


def _reach(starts: Collection[str], edges: Mapping[str, Collection[str]]) -> set[str]:
    """Returns all players that edges lead to from `starts`, these included if they played."""
    seen: set[str] = set()
    waiting = [name for name in starts if name in edges]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges[name]
    return seen


class _Fitted(NamedTuple):
    """Log-odds over the anchor and their variances by name, and the scores to be expected."""

    theta: dict[str, float]
    variance: dict[str, float]
    expected: dict[tuple[str, str], float]


class _Point(NamedTuple):
    """Values of all that is unknown."""

    unknown: Floats
    """[S] theta of the anchor, which stays 0, of the other players, and log tau."""
    log_nu: Floats
    """[K] of each match."""


class _Terms(NamedTuple):
    """Slope of the log-likelihood and Fisher information of each match, in d and log tau."""

    slope: Floats
    """[K, 2]."""
    information: Floats
    """[K, 2, 2]."""
    nu_slope: Floats
    """[K] in log nu, which is eliminated from the others."""
    nu_information: Floats
    """[K]."""
    nu_mixed: Floats
    """[K, 2] information of log nu with d and log tau."""


def _fit(
    names: list[str],
    anchor: str,
    totals: Mapping[tuple[str, str], Floats],
    priors: Mapping[str, float],
) -> _Fitted:
    """Fits the players that are connected with the anchor or a known player, by Fisher scoring.

    Unknown are the theta of every player but the anchor (row 0), log tau (the last row), and a log
    nu for each two players that met, which depends on their own match only and is eliminated.
    """
    index = {name: i for i, name in enumerate([anchor, *names])}
    met = [pair for pair in totals if pair[0] in index]
    if not names or not met:
        return _Fitted({}, {}, {})
    i, j = (np.array([index[pair[side]] for pair in met]) for side in (0, 1))
    counts = np.array([totals[pair] for pair in met])
    size = len(index) + 1
    center, precision = np.zeros(size), np.zeros(size)
    for name, elo in priors.items():
        center[index[name]] = elo / ELO_PER_LOG_ODDS
        precision[index[name]] = (ELO_PER_LOG_ODDS / KNOWN_SD) ** 2
    center[-1], precision[-1] = _LOG_TAU, _LOG_TAU_SD**-2
    at = _Point(center.copy(), np.full(len(met), _LOG_NU))  # Known players begin where they are.
    found = _outcomes_at(at, i, j)
    added = np.ones(len(met))
    covariance = np.zeros((size, size))
    for _ in range(_MAX_STEPS):
        terms = _terms(found, counts, added, at.log_nu)
        information, slope = np.diag(precision), precision * (center - at.unknown)
        _add_at(information, slope, i, j, terms)
        covariance[1:, 1:] = np.linalg.inv(information[1:, 1:])
        step = covariance @ slope
        changes = np.stack([step[i] - step[j], np.full(len(met), step[-1])], axis=1)
        nu_step = (terms.nu_slope - (terms.nu_mixed * changes).sum(1)) / terms.nu_information
        largest = max(float(np.abs(step).max()), float(np.abs(nu_step).max()))
        scale = min(1.0, _MAX_STEP / max(largest, _TOLERANCE))
        value = _value(found, counts, added, at, center, precision)
        value -= _ROUNDING * abs(value)
        while True:
            after = _Point(at.unknown + scale * step, at.log_nu + scale * nu_step)
            found = _outcomes_at(after, i, j)
            is_better = _value(found, counts, added, after, center, precision) >= value
            if is_better or scale * largest < _TOLERANCE:
                break
            scale /= 2
        at = after
        spread = covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j]
        added = (added + terms.information[:, 0, 0] * spread) / 2
        if largest < _TOLERANCE * (1.0 + float(np.abs(at.unknown).max())):
            break
    p = found.probabilities
    scores = dict(zip(met, (p[:, 0] + p[:, 1] / 2).tolist(), strict=True))
    return _Fitted(
        {name: float(at.unknown[index[name]]) for name in names},
        {name: float(covariance[index[name], index[name]]) for name in names},
        scores | {(second, first): 1.0 - score for (first, second), score in scores.items()},
    )


def _outcomes_at(at: _Point, i: Ints, j: Ints) -> Outcomes:
    """Computes the outcomes of the matches of players i against players j."""
    return outcomes(at.unknown[i] - at.unknown[j], at.log_nu, float(at.unknown[-1]))


def _value(
    found: Outcomes, counts: Floats, added: Floats, at: _Point, center: Floats, precision: Floats
) -> float:
    """Returns the logarithm of what is maximized, with these added games; see `_terms`."""
    logs = np.log(np.maximum(found.probabilities, 1e-300))
    games = (counts * logs).sum() + (added * (logs[:, 0] + logs[:, 2])).sum() / 2
    off = (at.log_nu - _LOG_NU) / _LOG_NU_SD
    return float(games - ((off**2).sum() + (precision * (at.unknown - center) ** 2).sum()) / 2)


def _terms(found: Outcomes, counts: Floats, added: Floats, log_nu: Floats) -> _Terms:
    """Computes what each match says about its parameters.

    Args:
        found: probabilities of all outcomes.
        counts: [K, 9] how often each came.
        added: [K] games that are added, half won and half lost.
        log_nu: [K] of each match.
    """
    log_slopes = found.log_slopes
    singles, pairs = counts[:, :NUM_SINGLE].sum(1), counts[:, NUM_SINGLE:].sum(1)
    sizes = np.repeat(np.stack([singles, pairs], 1), [NUM_SINGLE, len(PAIR_RESULTS)], axis=1)
    slope = (log_slopes * counts[:, None, :]).sum(-1)
    slope += added[:, None] * (log_slopes[..., 0] + log_slopes[..., 2]) / 2
    expected = sizes * found.probabilities
    information = np.einsum("kao,kbo,ko->kab", log_slopes, log_slopes, expected)
    slope[:, 1] += (_LOG_NU - log_nu) / _LOG_NU_SD**2
    information[:, 1, 1] += _LOG_NU_SD**-2
    # The Schur complement without log nu.
    nu_information, nu_mixed = information[:, 1, 1], information[:, 1, [0, 2]]
    kept = information[:, [0, 2]][:, :, [0, 2]]
    return _Terms(
        slope[:, [0, 2]] - nu_mixed * (slope[:, 1] / nu_information)[:, None],
        kept - nu_mixed[:, :, None] * nu_mixed[:, None, :] / nu_information[:, None, None],
        slope[:, 1],
        nu_information,
        nu_mixed,
    )


def _add_at(information: Floats, slope: Floats, i: Ints, j: Ints, terms: _Terms) -> None:
    """Adds the matches' terms to the [S, S] information and the [S] slope of all unknowns."""
    weights, mixed = terms.information[:, 0, 0], terms.information[:, 0, 1]
    np.add.at(information, (i, i), weights)
    np.add.at(information, (j, j), weights)
    np.add.at(information, (i, j), -weights)
    np.add.at(information, (j, i), -weights)
    row = np.zeros(len(slope))
    np.add.at(row, i, mixed)
    np.add.at(row, j, -mixed)
    information[-1] += row
    information[:, -1] += row
    information[-1, -1] += terms.information[:, 1, 1].sum()
    np.add.at(slope, i, terms.slope[:, 0])
    np.add.at(slope, j, -terms.slope[:, 0])
    slope[-1] += terms.slope[:, 1].sum()
    slope[0] = 0.0

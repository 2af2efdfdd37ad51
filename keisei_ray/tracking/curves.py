"""Curves of a run: the numbers in an event, each under one name.

W&B, TensorBoard and Ray Tune get the same curves. Pure: no files, no network. The name of a curve
is a name of `keisei_ray.telemetry.metrics`, `diagnostics/<name of the diagnostics table>`,
`evaluation/<kind>/<opponent>` or `elo/<kind>`, the last two also with the bounds of their 95%
confidence intervals as `_low` and `_high`. The kind of a player is `bare`, the network alone, or
`finishing`, with mates in one found by the rules.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from keisei_ray.config.player_names import player_name, version_of
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.reports import EvaluationResult, Rating

NetworkKind = Literal["bare", "finishing"]
"""How the network plays in a match: alone, or with mates in one found by the rules."""

EARLIER: Final = "earlier"
"""Opponent name for all earlier versions of the run's own weights. With a name for each, every
curve would have one point."""


@dataclass(frozen=True)
class CurvePoints:
    """Points of some curves at one timestep."""

    timestep: int
    values: Mapping[str, float]
    """Value by name of the curve. Undefined values (None) and text are left out."""


def curve_points(event: ev.Event) -> CurvePoints | None:
    """Returns the numbers of an update, its diagnostics, a match or an Elo table.

    A match counts at the timestep of the weights that it measured. Of an Elo table, only the newest
    weights have a curve: each of their matches adds a value at their timestep, founded on more
    games than the one before.

    Returns:
        None for other events, and where there is no number.
    """
    match event:
        case ev.UpdateFinished(metrics=metrics):
            timestep, values = metrics.timestep, _numbers(metrics)
        case ev.UpdateDiagnosed(diagnostics=diagnostics):
            others = asdict(diagnostics)
            del others["timestep"], others["update"]  # The metrics have them.
            timestep, values = diagnostics.timestep, _numbers(others, "diagnostics/")
        case ev.EvaluationFinished(result=result):
            timestep, values = result.timestep, _numbers(_scores(result), "evaluation/")
        case ev.RatingsFitted():
            timestep, values = event.timestep, _numbers(_elos(event), "elo/")
        case _:
            return None
    return CurvePoints(timestep, values) if values else None


def network_kind(result: EvaluationResult) -> NetworkKind:
    """Returns the kind of player that the weights were in a match."""
    return "finishing" if result.finishing else "bare"


def opponent_name(result: EvaluationResult) -> str:
    """Returns the opponent of a match; EARLIER for all earlier versions."""
    return result.opponent if version_of(result.opponent) is None else EARLIER


def newest_ratings(event: ev.RatingsFitted) -> dict[NetworkKind, Rating]:
    """Returns the newest weights' lines of an Elo table, by kind of player."""
    ratings = {rating.name: rating for rating in event.ratings}
    versions = [version for name in ratings if (version := version_of(name)) is not None]
    if not versions:
        return {}
    kinds: dict[NetworkKind, Rating] = {}
    newest = max(versions)
    if bare := ratings.get(player_name(newest, finishing=False)):
        kinds["bare"] = bare
    if finishing := ratings.get(player_name(newest, finishing=True)):
        kinds["finishing"] = finishing
    return kinds


def _scores(result: EvaluationResult) -> dict[str, float]:
    name, match = f"{network_kind(result)}/{opponent_name(result)}", result.match
    return {
        name: match.score,
        f"{name}_low": match.score_low,
        f"{name}_high": match.score_high,
    }


def _elos(event: ev.RatingsFitted) -> dict[str, float | None]:
    elos: dict[str, float | None] = {}
    for kind, rating in newest_ratings(event).items():
        elos |= {kind: rating.elo, f"{kind}_low": rating.low, f"{kind}_high": rating.high}
    return elos


def _numbers(values: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    return {
        f"{prefix}{name}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
    }

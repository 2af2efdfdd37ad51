"""The numbers in an event, each under one name: what curves are drawn from.

Pure: no files, no network. A name is `metrics/<name of the metrics table>`,
`diagnostics/<field>`, `evaluation/<kind>/<opponent>` or `elo/<kind>`, the last two with the bounds
of their intervals as `_low` and `_high`. The kind of a player is `bare`, the network alone, or
`finishing`, with mates in one found by the rules.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from keisei_ray.config.player_names import player_name, version_of
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.reports import EvaluationResult, Rating

PlayerKind = Literal["bare", "finishing"]

EARLIER: Final = "earlier"
"""Opponent that stands for all own earlier versions: a name each would be a curve of one point."""


@dataclass(frozen=True)
class Scalars:
    """Numbers that belong to one timestep."""

    timestep: int
    values: Mapping[str, float]
    """By name; what is undefined (None) or no number is left out."""


def scalars(event: ev.Event) -> Scalars | None:
    """The numbers of an update, its diagnostics, a match or an Elo table; None of other events.

    A match counts at the timestep of the weights that it measured. Of a table only the newest
    weights have a curve; it gets a further, better founded value at their timestep with each of
    their matches.
    """
    match event:
        case ev.UpdateFinished(metrics=metrics):
            return Scalars(metrics.timestep, _numbers("metrics", metrics))
        case ev.UpdateDiagnosed(diagnostics=diagnostics):
            fields = asdict(diagnostics)
            del fields["timestep"], fields["update"]  # Among the metrics already.
            return Scalars(diagnostics.timestep, _numbers("diagnostics", fields))
        case ev.EvaluationFinished(result=result):
            name, match = f"{player_kind(result)}/{opponent_name(result)}", result.match
            scores = {
                name: match.score,
                f"{name}_low": match.score_low,
                f"{name}_high": match.score_high,
            }
            return Scalars(result.timestep, _numbers("evaluation", scores))
        case ev.RatingsFitted():
            values: dict[str, float | None] = {}
            for kind, rating in newest_ratings(event).items():
                values |= {
                    kind: rating.elo,
                    f"{kind}_low": rating.low,
                    f"{kind}_high": rating.high,
                }
            return Scalars(event.timestep, _numbers("elo", values))
        case _:
            return None


def player_kind(result: EvaluationResult) -> PlayerKind:
    """As what the weights played a match."""
    return "finishing" if result.finishing else "bare"


def opponent_name(result: EvaluationResult) -> str:
    """Whom a match was against; all own earlier versions are EARLIER."""
    return result.opponent if version_of(result.opponent) is None else EARLIER


def newest_ratings(event: ev.RatingsFitted) -> dict[PlayerKind, Rating]:
    """The newest weights' lines of an Elo table, by the kind of player that has one."""
    ratings = {rating.name: rating for rating in event.ratings}
    versions = [version for name in ratings if (version := version_of(name)) is not None]
    if not versions:
        return {}
    kinds: dict[PlayerKind, Rating] = {}
    newest = max(versions)
    if bare := ratings.get(player_name(newest, finishing=False)):
        kinds["bare"] = bare
    if finishing := ratings.get(player_name(newest, finishing=True)):
        kinds["finishing"] = finishing
    return kinds


def _numbers(group: str, values: Mapping[str, object]) -> dict[str, float]:
    """Names are prefixed with the group's."""
    return {
        f"{group}/{name}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float)
    }

"""What Weights & Biases is sent for each event: pure functions from events to flat records.

Every record has `timestep`, the x axis of all charts. Only numbers are charted; None and text are
left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from keisei_ray import events as ev
from keisei_ray.config import Config
from keisei_ray.metrics import MetricRecord
from keisei_ray.reports import EvaluationResult, Rating
from keisei_ray.rollout import FinishedGame

Record = Mapping[str, object]

GAME_COLUMNS: Final = (
    "timestep", "game_id", "weights_version", "opponent", "learner_color", "result", "reason",
    "plies", "opening_plies", "start_sfen", "moves",
)  # fmt: skip
RATING_COLUMNS: Final = ("name", "elo", "low", "high", "games")
_OWN_VERSION: Final = re.compile(r"v(\d+)(\+mate1)?")


@dataclass(frozen=True)
class Table:
    """Rows to be shown as a table."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def settings_record(config: Config) -> dict[str, object]:
    """The effective configuration by dotted keys, the names under which a sweep gives them."""
    tree = config.model_dump(mode="json")
    return {f"{section}.{key}": v for section, keys in tree.items() for key, v in keys.items()}


def metrics_record(metrics: MetricRecord) -> Record:
    """An update's metrics under the names of `metrics.jsonl`."""
    return _numbers(metrics)


def diagnostics_record(event: ev.UpdateDiagnosed) -> Record:
    """An update's diagnostics, each under diagnostics/."""
    record = _numbers(asdict(event.diagnostics))
    return {
        name if name == "timestep" else f"diagnostics/{name}": value
        for name, value in record.items()
    }


def evaluation_record(result: EvaluationResult) -> Record:
    """A match, under evaluation/OPPONENT/bare/ or evaluation/OPPONENT/mate1/.

    All own earlier versions share a chart, as `earlier_self`: each has a name of its own, and
    there is no end of them.
    """
    own = _OWN_VERSION.fullmatch(result.opponent)
    opponent = "earlier_self" if own else result.opponent
    prefix = f"evaluation/{opponent}/{'mate1' if result.finishing else 'bare'}"
    match = result.match
    behind = {f"{prefix}/updates_behind": result.weights_version - int(own[1])} if own else {}
    return {
        "timestep": result.timestep,
        f"{prefix}/score": match.score,
        f"{prefix}/score_low": match.score_low,
        f"{prefix}/score_high": match.score_high,
        f"{prefix}/mean_plies": match.mean_plies,
        **behind,
    }


def elo_record(event: ev.RatingsFitted) -> Record:
    """Elo of the newest weights that have one, under elo/bare and elo/mate1, with intervals."""
    newest: dict[str, tuple[int, Rating]] = {}
    for rating in event.ratings:
        own = _OWN_VERSION.fullmatch(rating.name)
        if own and rating.elo is not None:
            kind, version = "mate1" if own[2] else "bare", int(own[1])
            if kind not in newest or version > newest[kind][0]:
                newest[kind] = (version, rating)
    record: dict[str, object] = {"timestep": event.timestep}
    for kind, (_, rating) in newest.items():
        record[f"elo/{kind}"] = rating.elo
        record[f"elo/{kind}_low"], record[f"elo/{kind}_high"] = rating.low, rating.high
    return _numbers(record)


def ratings_table(ratings: Iterable[Rating]) -> Table:
    """The Elo table, strongest first."""
    rows = [[getattr(rating, column) for column in RATING_COLUMNS] for rating in ratings]
    return Table(RATING_COLUMNS, rows)


def games_table(games: Iterable[tuple[int, FinishedGame]]) -> Table:
    """Finished games, each with the timestep it counted at."""
    rows = [
        [timestep, *(getattr(game, column) for column in GAME_COLUMNS[1:])]
        for timestep, game in games
    ]
    return Table(GAME_COLUMNS, rows)


def _numbers(record: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in record.items() if isinstance(value, int | float)}

"""What Weights & Biases is sent for each event: pure functions from events to flat records.

Every record has `timestep`, the x axis of all charts. Only numbers are charted; None and text are
left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.scalars import scalars

Record = Mapping[str, object]

GAME_COLUMNS: Final = (
    "timestep", "game_id", "weights_version", "opponent", "learner_color", "result", "reason",
    "plies", "opening_plies", "start_sfen", "moves",
)  # fmt: skip
RATING_COLUMNS: Final = ("name", "elo", "low", "high", "games")


@dataclass(frozen=True)
class Table:
    """Rows to be shown as a table."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def settings_record(config: Config) -> dict[str, object]:
    """The effective configuration by dotted keys, the names under which a sweep gives them."""
    tree = config.model_dump(mode="json")
    return {f"{section}.{key}": v for section, keys in tree.items() for key, v in keys.items()}


def record_of(event: ev.Event) -> Record | None:
    """The numbers of an event under the names of `scalars`, those of `metrics.jsonl` as there.

    Returns:
        None where there is nothing to chart.
    """
    found = scalars(event)
    if found is None or not found.values:
        return None
    values = {name.removeprefix("metrics/"): value for name, value in found.values.items()}
    return {"timestep": found.timestep, **values}


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

"""What a run directory holds, read once into plain records.

The settings are read as they stand and not validated: a page about an old run must not depend
on today's settings. Only `config.json` must be there; every other file may be missing, empty or
still growing.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from keisei_ray.config.player_names import version_of
from keisei_ray.errors import RunDirError
from keisei_ray.report.games import GameTally
from keisei_ray.report.json_lines import Columns, JsonLinesReader, Record, number, read_columns
from keisei_ray.storage.run_layout import (
    CONFIG_FILE,
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
    RATINGS_FILE,
)
from keisei_ray.telemetry.metrics import METRIC_NAMES

DIAGNOSTICS: Final = ("timestep", "distinct_positions", "pool_games", "pool_score")
"""What is drawn of `diagnostics.jsonl`."""
FINISHING: Final = "+mate1"
"""Ends the name of a player that plays mate in one wherever there is one."""
EARLIER: Final = "earlier weights"
"""Stands for all weights of this run as opponents."""


@dataclass(frozen=True)
class Evaluation:
    """A finished match of these weights against an opponent."""

    timestep: int
    weights_version: int
    player: str
    opponent: str
    finishing: bool
    """Whether the player was helped to play mate in one."""
    games: int
    wins: int
    draws: int
    losses: int
    truncated: int
    score: float
    """Share of points in [0, 1]; drawn and cut games count half."""
    score_low: float
    """Lower end of the 95% interval; NaN where unknown."""
    score_high: float
    """Upper end."""

    @property
    def kind(self) -> str:
        """Whom it was against: the opponent's name, one name for all earlier weights."""
        return EARLIER if version_of(self.opponent) is not None else self.opponent


@dataclass(frozen=True)
class Rating:
    """One player of the rating table."""

    name: str
    elo: float
    """Relative to the anchor; NaN where it has no finite estimate."""
    low: float
    """Lower end of the 95% interval; NaN where it has none."""
    high: float
    """Upper end."""
    games: int
    timestep: float
    """Of the weights; NaN for a player that is not of this run."""

    @property
    def finishing(self) -> bool:
        """Whether the player was helped to play mate in one."""
        return self.name.endswith(FINISHING)


@dataclass(frozen=True)
class Run:
    """A run directory's content."""

    path: Path
    config: Mapping[str, Any]
    metrics: Columns
    """Name of `keisei_ray.telemetry.metrics` -> [U]; NaN where a value is no number."""
    diagnostics: Columns
    """Name of `DIAGNOSTICS` -> [D]."""
    games: GameTally
    events: tuple[Record, ...]
    """Each with a text `kind`."""
    evaluations: tuple[Evaluation, ...]
    ratings: tuple[Rating, ...]
    damaged: Mapping[str, int]
    """File name -> records left out because they could not be read; only files that have any."""

    @property
    def timesteps(self) -> int:
        """The newest timestep on record, 0 before the first update."""
        recorded = self.metrics["timestep"]
        return int(recorded[-1]) if len(recorded) else 0

    def events_of(self, kind: str) -> list[Record]:
        """The events of a kind, oldest first."""
        return [event for event in self.events if event["kind"] == kind]

    def setting(self, *keys: str) -> Any:
        """A value of `config.json` by its path; None where there is none."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read_run(path: Path) -> Run:
    """Reads a run directory. Files that grow meanwhile are read as far as they are whole.

    Raises:
        RunDirError: not a directory that training wrote, or a file of it cannot be read.
    """
    config = read_config(path)
    readers = {
        name: JsonLinesReader(path / name)
        for name in (METRICS_FILE, DIAGNOSTICS_FILE, GAMES_FILE, EVENTS_FILE, EVALUATIONS_FILE)
    }
    ratings = read_ratings(path / RATINGS_FILE)
    return Run(
        path=path,
        config=config,
        metrics=read_columns(readers[METRICS_FILE], METRIC_NAMES),
        diagnostics=read_columns(readers[DIAGNOSTICS_FILE], DIAGNOSTICS),
        games=GameTally.of(readers[GAMES_FILE]),
        events=tuple(e for e in readers[EVENTS_FILE] if isinstance(e.get("kind"), str)),
        evaluations=_read_evaluations(readers[EVALUATIONS_FILE]),
        ratings=ratings or (),
        # Counted while they were read, above.
        damaged={name: reader.damaged for name, reader in readers.items() if reader.damaged}
        | ({} if ratings is not None else {RATINGS_FILE: 1}),
    )


def read_config(path: Path) -> Record:
    """The settings of the run in directory `path`, as they stand.

    Raises:
        RunDirError: there are none, or they cannot be read.
    """
    file = path / CONFIG_FILE
    try:
        config = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunDirError(
            f"{path} has no {CONFIG_FILE}, expected the directory of a run. "
            "Name the one that training was given or made, e.g. runs/20260101-120000."
        ) from error
    except OSError as error:
        raise RunDirError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise RunDirError(f"{file} is not JSON: {error}. Expected a run's settings.") from error
    if not isinstance(config, dict):
        raise RunDirError(f"{file} holds a {type(config).__name__}, expected a run's settings.")
    return config


def _read_evaluations(reader: JsonLinesReader) -> tuple[Evaluation, ...]:
    evaluations = []
    for record in reader:
        try:
            evaluations.append(_evaluation(record))
        except (KeyError, TypeError, ValueError):
            reader.damaged += 1
    return tuple(sorted(evaluations, key=lambda evaluation: evaluation.timestep))


def _evaluation(record: Record) -> Evaluation:
    """A record of `evaluations.jsonl`; KeyError, TypeError or ValueError where it is not one."""
    score = number(record["score"])
    if math.isnan(score):
        raise ValueError("no score")
    counts = ("timestep", "weights_version", "games", "wins", "draws", "losses", "truncated")
    return Evaluation(
        player=str(record["player"]),
        opponent=str(record["opponent"]),
        finishing=bool(record["finishing"]),
        score=score,
        score_low=number(record.get("score_low")),
        score_high=number(record.get("score_high")),
        **{name: int(record[name]) for name in counts},
    )


def read_ratings(file: Path) -> tuple[Rating, ...] | None:
    """The rating table; none of it where the file is missing, None where it is no such table.

    Raises:
        RunDirError: the file exists and cannot be read.
    """
    try:
        table = json.loads(file.read_bytes())
        return tuple(_rating(player) for player in table["players"])
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RunDirError(f"{file} cannot be read: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError):
        return None


def _rating(player: Record) -> Rating:
    return Rating(
        name=str(player["name"]),
        elo=number(player["elo"]),
        low=number(player.get("low")),
        high=number(player.get("high")),
        games=int(player["games"]),
        timestep=number(player.get("timestep")),
    )

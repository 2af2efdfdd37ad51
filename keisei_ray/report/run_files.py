"""Content of a run directory as plain records, read once or again and again as it grows.

The settings are read as they stand and are not validated: a page about an old run must not depend
on today's settings. Only `config.json` must exist; every other file may be missing, empty or
still growing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from keisei_ray.config.json_text import read_json
from keisei_ray.config.player_names import finishes_mates, version_of
from keisei_ray.errors import RunDirError
from keisei_ray.report.columns import Columns, GrowingColumns
from keisei_ray.report.games import GameTally
from keisei_ray.storage.json_lines import JsonLinesReader, Record
from keisei_ray.storage.run_layout import (
    CONFIG_FILE,
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    MANIFEST_FILE,
    MATCHES_FILE,
    METRICS_FILE,
    RATINGS_FILE,
)
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.telemetry.reports import EvaluationResult
from keisei_ray.tracking.evaluation_records import RatedPlayer, evaluation_from, read_ratings

DRAWN_DIAGNOSTICS: Final = ("timestep", "distinct_positions", "pool_score")
"""Names of `diagnostics.jsonl` that are drawn."""
MAX_EVENTS: Final = 20_000
"""Events that are kept of a run: the first half of them, and the newest."""
EARLIER_WEIGHTS: Final = "earlier weights"
"""Label for all earlier weights of this run as one opponent."""


@dataclass(frozen=True)
class Run:
    """Content of a run directory."""

    path: Path
    config: Mapping[str, Any]
    """Settings as they stand in `config.json`."""
    metrics: Columns
    """Name of `keisei_ray.telemetry.metrics` -> [U]; NaN where a record has no number."""
    diagnostics: Columns
    """Name of `DRAWN_DIAGNOSTICS` -> [D]."""
    games: GameTally
    events: tuple[Record, ...]
    """Records of `events.jsonl`, each with a text `kind`; the first and the newest."""
    events_left_out: int
    """Number of events between these that were not kept."""
    evaluations: tuple[EvaluationResult, ...]
    """Matches, in the order of the timesteps of the weights, then of the number of games."""
    ratings: tuple[RatedPlayer, ...]
    damaged: Mapping[str, int]
    """File name -> records left out because they could not be read; only files that have any."""

    @property
    def timesteps(self) -> int:
        """Newest timestep on record, 0 before the first update."""
        recorded = self.metrics["timestep"]
        return int(recorded[-1]) if len(recorded) else 0

    def events_of(self, kind: str) -> list[Record]:
        """Returns the events of a kind, oldest first."""
        return [event for event in self.events if event["kind"] == kind]

    def setting(self, *keys: str) -> Any:
        """Returns a value of `config.json` by its path; None where there is none."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def opponent_label(match: EvaluationResult) -> str:
    """Returns the opponent's name; one label stands for all earlier weights of the run."""
    return EARLIER_WEIGHTS if version_of(match.opponent) is not None else match.opponent


def is_finishing(player: RatedPlayer) -> bool:
    """Returns whether the player plays every mate in one, found by the rules library."""
    return finishes_mates(player.rating.name)


def read_run(path: Path) -> Run:
    """Reads a run directory. Files that still grow are read as far as their lines are complete.

    Raises:
        RunDirError: not a directory that training wrote, or a file in it cannot be read.
    """
    return RunFiles(path).read()


class RunFiles:
    """Reader of a run directory that grows: each reading reads only what has come since."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self._path = path
        self._begin()

    def _begin(self) -> None:
        """Forgets what was read."""
        self._readers = {
            name: JsonLinesReader(self._path / name)
            for name in (
                METRICS_FILE,
                DIAGNOSTICS_FILE,
                GAMES_FILE,
                EVENTS_FILE,
                EVALUATIONS_FILE,
                MATCHES_FILE,
            )
        }
        self._metrics = GrowingColumns(self._readers[METRICS_FILE], METRIC_NAMES)
        self._diagnostics = GrowingColumns(self._readers[DIAGNOSTICS_FILE], DRAWN_DIAGNOSTICS)
        self._games = GameTally()
        self._first_events: list[Record] = []
        self._newest_events: deque[Record] = deque(maxlen=MAX_EVENTS // 2)
        self._num_events = 0
        self._evaluations: list[EvaluationResult] = []

    def read(self) -> Run:
        """Returns the content as it is now.

        The tally of games is the reader's own: the next reading adds to it.

        Raises:
            RunDirError: not a directory that training wrote, or a file in it cannot be read.
        """
        config = read_config(self._path)
        if any(reader.is_cut for reader in self._readers.values()):
            self._begin()
        if self._num_events and self._read_events():
            # A resume has set aside records beyond its checkpoint.
            self._begin()
        self._read_events()
        metrics, diagnostics = self._metrics.read(), self._diagnostics.read()
        self._games.add(self._readers[GAMES_FILE])
        for name in (EVALUATIONS_FILE, MATCHES_FILE):
            self._evaluations += _added_evaluations(self._readers[name])
        ratings = read_ratings(self._path / RATINGS_FILE)
        damaged = {name: r.damaged for name, r in self._readers.items() if r.damaged}
        return Run(
            path=self._path,
            config=config,
            metrics=metrics,
            diagnostics=diagnostics,
            games=self._games,
            events=(*self._first_events, *self._newest_events),
            events_left_out=self._num_events - len(self._first_events) - len(self._newest_events),
            # Of the matches of one checkpoint that with the most games, which says most, is last.
            evaluations=tuple(sorted(self._evaluations, key=lambda m: (m.timestep, m.match.games))),
            ratings=ratings or (),
            damaged=damaged | ({} if ratings is not None else {RATINGS_FILE: 1}),
        )

    def _read_events(self) -> bool:
        """Adds the events that have come, and returns whether a session has begun among them."""
        has_begun = False
        for event in self._readers[EVENTS_FILE]:
            if not isinstance(event.get("kind"), str):
                continue
            has_begun |= event["kind"] == "run_started"
            self._num_events += 1
            if len(self._first_events) < MAX_EVENTS // 2:
                self._first_events.append(event)
            else:
                self._newest_events.append(event)
        return has_begun


def read_config(path: Path) -> Record:
    """Reads the settings of the run in directory `path`, as they stand.

    Raises:
        RunDirError: there are none, they cannot be read, or they are those in a checkpoint.
    """
    file = path / CONFIG_FILE
    try:
        config = read_json(file)
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
    if (path / MANIFEST_FILE).is_file():
        raise RunDirError(
            f"{path} is a checkpoint, expected the directory of a run. Name that of its run."
        )
    return config


def _added_evaluations(reader: JsonLinesReader) -> list[EvaluationResult]:
    matches = []
    for record in reader:
        match = evaluation_from(record)
        if match is None:
            reader.damaged += 1
        else:
            matches.append(match)
    return matches

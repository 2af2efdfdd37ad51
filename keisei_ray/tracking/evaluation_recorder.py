"""Records the run's strength: matches in `evaluations.jsonl`, the Elo table in `ratings.json`.

The table depends on the matches in the file and on nothing else: after each match it is fitted anew
from all of them, those of earlier sessions included, and published as `RatingsFitted`. On a resume,
matches beyond the resumed timestep are moved aside as metrics are (see `json_lines`), so the table
leaves out weights that are going to be trained again.
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from keisei_ray.errors import RunDirError
from keisei_ray.evaluation.elo_table import ANCHOR, Result, fit_ratings
from keisei_ray.evaluation.score_intervals import CONFIDENCE
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import EVALUATIONS_FILE, RATINGS_FILE
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.reports import EvaluationResult, Rating
from keisei_ray.tracking.json_lines import JsonLinesWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RatedPlayer:
    """A player's line of `ratings.json`."""

    rating: Rating
    timestep: int | None
    """Timestep of the weights; None for a player that is not a version of this run."""


class EvaluationRecorder:
    """Subscriber that writes both files and publishes `RatingsFitted`."""

    def __init__(
        self,
        run_dir: Path,
        resumed_timestep: int | None,
        publish: Callable[[ev.Event], object],
    ) -> None:
        """Opens the files; see `JsonLinesWriter` for errors.

        Args:
            run_dir: existing directory of the run.
            resumed_timestep: None for a fresh run.
            publish: puts an event on the bus that this subscriber is on.
        """
        path = run_dir / EVALUATIONS_FILE
        self._lines = JsonLinesWriter(path, resumed_timestep=resumed_timestep)
        self.close = self._lines.close
        self._ratings_path = run_dir / RATINGS_FILE
        self._publish = publish
        self._records = read_records(path)

    def handle(self, event: ev.Event) -> None:
        """Appends a match and fits the table; at the start of a resumed run, only fits it.

        Raises:
            OSError: a file could not be written.
        """
        if isinstance(event, ev.EvaluationFinished):
            record = evaluation_record(event.result)
            self._lines.append(record)
            self._records.append(record)
        elif not isinstance(event, ev.RunStarted) or not self._records:
            return
        ratings = fit_ratings(results_of(self._records))
        table = ratings_record(ratings, self._records)
        write_atomically(self._ratings_path, json.dumps(table, indent=1).encode() + b"\n")
        self._publish(ev.RatingsFitted(tuple(ratings), table["timestep"]))


def evaluation_record(result: EvaluationResult) -> dict[str, Any]:
    """Returns a match as a line of `evaluations.jsonl`."""
    record = asdict(result)
    match, run_time_s = record.pop("match"), record.pop("run_time_s")
    return {**record, **match, "run_time_s": run_time_s}


def from_record(record: Mapping[str, Any]) -> EvaluationResult | None:
    """Returns the match of a line of `evaluations.jsonl`; None where it is not one."""
    try:
        result: EvaluationResult = _reader_of(EvaluationResult).validate_python(
            {**record, "match": record}
        )
    except ValidationError:
        return None
    numbers = [v for v in evaluation_record(result).values() if isinstance(v, float)]
    return result if all(map(math.isfinite, numbers)) else None


def read_ratings(file: Path) -> tuple[RatedPlayer, ...] | None:
    """Reads the Elo table.

    Returns:
        No players where the file is missing; None where it is not such a table.

    Raises:
        RunDirError: the file exists and cannot be read.
    """
    try:
        players = json.loads(file.read_bytes())["players"]
        return tuple(
            RatedPlayer(_rating(player), _reader_of(int | None).validate_python(player["timestep"]))
            for player in players
        )
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RunDirError(f"{file} cannot be read: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError):  # A ValidationError is a ValueError.
        return None


def _rating(player: Any) -> Rating:
    rating: Rating = _reader_of(Rating).validate_python(player)
    return replace(
        rating,
        elo=_finite_or_none(rating.elo),
        low=_finite_or_none(rating.low),
        high=_finite_or_none(rating.high),
    )


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@cache
def _reader_of(kind: Any) -> TypeAdapter[Any]:
    """Returns what makes a value of a type of parsed JSON."""
    return TypeAdapter(kind)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Reads an `evaluations.jsonl`; warns of lines that hold no match and leaves them out."""
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line)
            list(results_of([record]))
            records.append(record)
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s line %d is no match: %r", path, number, error)
    return records


def results_of(records: Iterable[Mapping[str, Any]]) -> Iterable[Result]:
    """Yields the results that the Elo table is fitted from."""
    for r in records:
        points = r["wins"] + (r["draws"] + r["truncated"]) / 2
        yield Result(r["player"], r["opponent"], r["games"], points)


def ratings_record(
    ratings: Sequence[Rating], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the content of `ratings.json`."""
    timesteps = {record["player"]: record["timestep"] for record in records}
    players = [{**asdict(r), "timestep": timesteps.get(r.name)} for r in ratings]
    return {
        "anchor": ANCHOR,
        "confidence": CONFIDENCE,
        "timestep": max(timesteps.values()),
        "players": players,
    }

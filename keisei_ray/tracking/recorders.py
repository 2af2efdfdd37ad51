"""Subscribers that write the run directory's JSON lines, one record per line.

`metrics.jsonl` and `diagnostics.jsonl` get a record per update, `games.jsonl` one per finished
game, `events.jsonl` one per other event.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from keisei_ray.storage.json_lines_writer import JsonLinesWriter, encode
from keisei_ray.storage.run_layout import (
    DIAGNOSTICS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
)
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.run_file_queue import AT_ONCE, Writing

Record = Mapping[str, object]

RECORDED_ELSEWHERE: Final = (
    ev.UpdateFinished,
    ev.UpdateDiagnosed,
    ev.GameFinished,
    ev.RolloutArrived,
    ev.EvaluationFinished,
    ev.RatingsFitted,
)
"""Events that `events.jsonl` leaves out: they have a file of their own, or are too many."""


class Recorder:
    """Subscriber that appends the records of some events to a file."""

    def __init__(
        self,
        lines: JsonLinesWriter,
        record_of: Callable[[ev.Event], Record | None],
        files: Writing,
    ) -> None:
        """Takes over `lines`.

        Args:
            lines: the file.
            record_of: returns an event's record, None for events that are not recorded.
            files: has the lines written.
        """
        self._lines = lines
        self._record_of = record_of
        self._files = files

    def handle(self, event: ev.Event) -> None:
        """Has the event's record appended, if it has one."""
        record = self._record_of(event)
        if record is not None:
            self._files.put(self._lines.append_line, encode(record))

    def close(self) -> None:
        """Closes the file once everything is in it; waits for that without limit."""
        self._files.flush()
        self._lines.close()


def metrics_recorder(
    run_dir: Path, resumed_timestep: int | None, files: Writing = AT_ONCE
) -> Recorder:
    """Opens `metrics.jsonl`; see `JsonLinesWriter` for errors."""
    lines = JsonLinesWriter(run_dir / METRICS_FILE, resumed_timestep=resumed_timestep)
    return Recorder(lines, metrics_record, files)


def games_recorder(
    run_dir: Path, resumed_timestep: int | None, files: Writing = AT_ONCE
) -> Recorder:
    """Opens `games.jsonl`; see `JsonLinesWriter` for errors."""
    lines = JsonLinesWriter(run_dir / GAMES_FILE, resumed_timestep=resumed_timestep)
    return Recorder(lines, game_record, files)


def diagnostics_recorder(
    run_dir: Path, resumed_timestep: int | None, files: Writing = AT_ONCE
) -> Recorder:
    """Opens `diagnostics.jsonl`; see `JsonLinesWriter` for errors."""
    lines = JsonLinesWriter(run_dir / DIAGNOSTICS_FILE, resumed_timestep=resumed_timestep)
    return Recorder(lines, diagnostics_record, files)


def events_recorder(
    run_dir: Path,
    resumed_timestep: int | None,
    clock: Callable[[], float],
    files: Writing = AT_ONCE,
) -> Recorder:
    """Opens `events.jsonl`, which keeps the events of all sessions of a run.

    Args:
        run_dir: existing directory of the run.
        resumed_timestep: None for a fresh run.
        clock: seconds since 1970.
        files: has the lines written.

    Raises:
        RunDirError: see `JsonLinesWriter`.
    """
    path = run_dir / EVENTS_FILE
    lines = JsonLinesWriter(path, resumed_timestep=resumed_timestep, is_cut=False)
    return Recorder(lines, partial(event_record, clock=clock), files)


def metrics_record(event: ev.Event) -> Record | None:
    """Returns an update's metrics; None for other events."""
    return event.metrics if isinstance(event, ev.UpdateFinished) else None


def game_record(event: ev.Event) -> Record | None:
    """Returns a finished game with the timestep it counted at; None for other events."""
    if not isinstance(event, ev.GameFinished):
        return None
    return {"timestep": event.timestep, **asdict(event.game)}


def diagnostics_record(event: ev.Event) -> Record | None:
    """Returns an update's diagnostics; None for other events."""
    return asdict(event.diagnostics) if isinstance(event, ev.UpdateDiagnosed) else None


def event_record(event: ev.Event, clock: Callable[[], float]) -> Record | None:
    """Returns an event with its UTC time and kind, without the config (see `config.json`)."""
    if isinstance(event, RECORDED_ELSEWHERE):
        return None
    time = datetime.fromtimestamp(clock(), UTC).isoformat(timespec="milliseconds")
    record: dict[str, object] = {"time": time, "kind": event.kind}
    for field in fields(event):
        if field.name != "config":
            record[field.name] = getattr(event, field.name)
    return record

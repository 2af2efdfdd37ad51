"""A run's files, as they grow, turned back into the events that they were written from.

What the live view shows is folded from events; the same events out of the files give the same
view in another process. Two things are in no file and are missing here: rollouts that have arrived
but not been learnt from, and the board of a game in play.

A resume sets records aside that lie beyond its checkpoint, appends `run_started` to
`events.jsonl`, and goes on appending. So a new `run_started` means: everything but the events is
to be read anew. Events of former sessions are passed over, as by a view that was not there.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keisei_ray.report.json_lines import JsonLinesReader, Record
from keisei_ray.report.run_files import read_config, read_ratings
from keisei_ray.status.records import event_of, fitted, metrics_of, result_of, settings_of
from keisei_ray.storage.run_layout import (
    CONFIG_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    METRICS_FILE,
    RATINGS_FILE,
)
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import UpdateMetrics


@dataclass(frozen=True)
class Happened:
    """An event and when it came."""

    event: ev.Event
    time_s: float
    """Seconds since 1970. Events carry the writer's clock; an update's time is reckoned."""


class RunFollower:
    """The newest session of a run as events, each once.

    Attributes:
        began_s: when the session began, in seconds since 1970; None while it is starting.
        before: the newest metrics of former sessions; None where there is none.
    """

    def __init__(self, run_dir: Path) -> None:
        """Follows the run in `run_dir`; nothing is read yet."""
        self.run_dir = run_dir
        self._events = JsonLinesReader(run_dir / EVENTS_FILE)
        self._metrics = JsonLinesReader(run_dir / METRICS_FILE)
        self._evaluations = JsonLinesReader(run_dir / EVALUATIONS_FILE)
        self._forget_session()

    @property
    def damaged(self) -> int:
        """Lines that were left out because they could not be read."""
        return self._events.damaged + self._metrics.damaged + self._evaluations.damaged

    def poll(self, now_s: float) -> list[Happened]:
        """What the files hold beyond what was told already, oldest first.

        A session's first event is its `RunStarted`, also where a run is resumed meanwhile; a view
        that folds it starts anew.

        Args:
            now_s: seconds since 1970; nothing is said to have come later.

        Raises:
            RunDirError: a file exists and cannot be read.
        """
        if any(r.is_cut for r in (self._events, self._metrics, self._evaluations)):
            # Cut for a resume whose run_started has not come yet, or another run's files.
            self._events.rewind()
            self._forget_session()
        records = [r for r in self._events if isinstance(r.get("kind"), str)]
        starts = [i for i, r in enumerate(records) if r["kind"] == "run_started"]
        happened = []
        if starts:
            records = records[starts[-1] :]
            happened += self._begin(records[0])
            del records[0]
        elif self.began_s is None and _written_s(self._metrics.path) is not None:
            happened += self._begin({"kind": "run_started", "resumed_from": None, "cluster": {}})
        told = [h for record in records if (h := self._of_record(record, now_s))]
        happened += self._updates(now_s)
        happened += self._matches(now_s)
        happened += told
        return sorted(happened, key=lambda h: (h.time_s, _rank(h.event)))

    def _forget_session(self) -> None:
        self._metrics.rewind()
        self._evaluations.rewind()
        self.began_s: float | None = None
        self.before: UpdateMetrics | None = None
        self._ended_s: float | None = None
        self._start_timestep = self._newest_timestep = 0
        self._ratings = fitted(())

    def _begin(self, record: Record) -> list[Happened]:
        """A session begins, by the record of its `run_started`."""
        self._forget_session()
        timestep = record.get("timestep")
        self._start_timestep = self._newest_timestep = timestep if type(timestep) is int else 0
        # The settings are written just before the session begins.
        time_s = _time_of(record) or _written_s(self.run_dir / CONFIG_FILE)
        self.began_s = time_s or _written_s(self._metrics.path) or 0.0
        if not (self.run_dir / CONFIG_FILE).exists():
            return []
        config = settings_of(read_config(self.run_dir))
        started = event_of(record, config=config, run_dir=str(self.run_dir))
        return [Happened(started, self.began_s)] if started is not None else []

    def _of_record(self, record: Record, now_s: float) -> Happened | None:
        event = event_of(record)
        if event is None:
            return None
        time_s = self._within_session(_time_of(record), now_s)
        if isinstance(event, ev.RunEnded):
            self._ended_s = time_s
        return Happened(event, time_s)

    def _updates(self, now_s: float) -> list[Happened]:
        """Updates that were added to `metrics.jsonl`."""
        updates = []
        for metrics in map(metrics_of, self._metrics):
            if metrics is None:
                continue
            if metrics.timestep <= self._start_timestep:
                self.before = metrics
            elif metrics.timestep > self._newest_timestep:
                self._newest_timestep = metrics.timestep
                updates.append(metrics)
        if not updates:
            return []
        # Their clock stands still while the machine sleeps, that of the file does not.
        newest_s = self._within_session(_written_s(self._metrics.path), now_s)
        newest_wall_s = updates[-1].wall_time_s
        happened = []
        for metrics in updates:
            before_s = newest_wall_s - metrics.wall_time_s
            time_s = self._within_session(newest_s - before_s, now_s)
            happened.append(Happened(ev.UpdateFinished(metrics), time_s))
        return happened

    def _matches(self, now_s: float) -> list[Happened]:
        """Matches that were added to `evaluations.jsonl`, and the table if it has changed.

        Those of former sessions are told too: they are what is known of the run's strength.
        """
        results = [result for record in self._evaluations if (result := result_of(record))]
        ratings = fitted(read_ratings(self.run_dir / RATINGS_FILE) or ())
        base_s = self.before.wall_time_s if self.before else 0.0
        happened = []
        for result in results:
            # The earliest that it can have been over.
            ran_s = result.run_time_s + result.match.wall_time_s - base_s
            time_s = self._within_session((self.began_s or now_s) + ran_s, now_s)
            happened.append(Happened(ev.EvaluationFinished(result), time_s))
            if ratings.ratings:
                happened.append(Happened(ratings, time_s))
        if not results and ratings != self._ratings:
            happened.append(Happened(ratings, self._within_session(now_s, now_s)))
        self._ratings = ratings
        return happened

    def _within_session(self, time_s: float | None, now_s: float) -> float:
        """`time_s` brought into the session; other machines' clocks may differ from this one's."""
        latest_s = now_s if self._ended_s is None else self._ended_s
        bounded = latest_s if time_s is None else min(time_s, latest_s)
        return bounded if self.began_s is None else max(bounded, self.began_s)


def _rank(event: ev.Event) -> int:
    """Among events of one moment a session's first and last keep their places."""
    return 0 if isinstance(event, ev.RunStarted) else 2 if isinstance(event, ev.RunEnded) else 1


def _written_s(file: Path) -> float | None:
    """When a file was last written, in seconds since 1970; None if there is nothing in it."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime if found.st_size else None


def _time_of(record: Record) -> float | None:
    """Seconds since 1970 of an event's record."""
    try:
        return datetime.fromisoformat(str(record.get("time"))).timestamp()
    except ValueError:
        return None

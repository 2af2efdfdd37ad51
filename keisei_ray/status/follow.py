"""Events of a run, read back from its files as they grow.

The live view shows a state that is computed from events. The same events, read from the files, give
the same view in another process. Two things are in no file: rollouts that have
arrived but have not been learnt from, which are missing here, and the board of a game in play, in
whose place the end of the last finished game is shown.

A resume sets records aside that lie beyond its checkpoint, appends `run_started` to
`events.jsonl`, and continues to append. So a new `run_started` means that all files but the events
must be read again. Events of former sessions are skipped: a live view of this session has not seen
them either.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from keisei_ray.report.run_files import read_config
from keisei_ray.shogi.replay import replay
from keisei_ray.status.records import config_from, event_from, metrics_from
from keisei_ray.storage.json_lines import JsonLinesReader, Record, last_record
from keisei_ray.storage.run_layout import (
    CONFIG_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
    RATINGS_FILE,
)
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import UpdateMetrics
from keisei_ray.tracking.evaluation_records import RatedPlayer, evaluation_from, read_ratings

MAX_EVENTS: Final = 100_000
"""Events of `events.jsonl` that one call returns at most, the newest: no session of a run has as
many, and a directory of another user's may hold millions."""


@dataclass(frozen=True)
class TimedEvent:
    """An event and its time."""

    event: ev.Event
    time_s: float
    """Seconds since 1970, by the writer's clock; the time of an update is estimated."""


class RunFollower:
    """Events of a run's newest session, each once.

    Attributes:
        began_s: when the session began, in seconds since 1970; None while it is starting.
        before: the newest metrics of former sessions; None where there is none.
        num_begun: how often the events began anew; a view of earlier ones is then out of date.
    """

    def __init__(self, run_dir: Path, most_updates: int | None = None) -> None:
        """Reads nothing yet.

        Args:
            run_dir: directory of the run to follow.
            most_updates: of the updates that a call of `poll` finds, only so many are returned,
                the newest ones; None: all.
        """
        self.run_dir = run_dir
        self._most_updates = most_updates
        self._events = JsonLinesReader(run_dir / EVENTS_FILE)
        self._metrics = JsonLinesReader(run_dir / METRICS_FILE)
        self._evaluations = JsonLinesReader(run_dir / EVALUATIONS_FILE)
        self.num_begun = 0
        self._forget_session()

    @property
    def damaged(self) -> int:
        """Number of lines that were left out because they could not be read."""
        return self._events.damaged + self._metrics.damaged + self._evaluations.damaged

    def poll(self, now_s: float) -> list[TimedEvent]:
        """Returns the events that the files have gained since the last call, oldest first.

        The first event of a session is its `RunStarted`, also if the run is resumed between two
        calls; a view of it starts from nothing.

        Args:
            now_s: seconds since 1970; no event gets a later time.

        Raises:
            RunDirError: a file exists and cannot be read.
        """
        if any(r.is_cut for r in (self._events, self._metrics, self._evaluations)):
            # Cut for a resume whose run_started has not come yet, or another run's files.
            self._events.rewind()
            self._forget_session()
        start: Record | None = None
        records: deque[Record] = deque(maxlen=MAX_EVENTS)
        for record in self._events:
            if record.get("kind") == "run_started":
                start = record
                records.clear()
            elif isinstance(record.get("kind"), str):
                records.append(record)
        found = []
        if start is not None:
            found += self._begin(start)
        elif self.began_s is None and _written_s(self._metrics.path) is not None:
            found += self._begin({"kind": "run_started", "resumed_from": None, "cluster": {}})
        recorded = [e for record in records if (e := self._recorded(record, now_s))]
        found += self._updates(now_s)
        found += self._matches(now_s)
        found += recorded
        return sorted(found, key=lambda e: (e.time_s, _rank(e.event)))

    def _forget_session(self) -> None:
        self.num_begun += 1
        self._metrics.rewind()
        self._evaluations.rewind()
        self.began_s: float | None = None
        self.before: UpdateMetrics | None = None
        self._ended_s: float | None = None
        self._start_timestep = self._newest_timestep = 0
        self._ratings = _ratings_fitted(())

    def _begin(self, record: Record) -> list[TimedEvent]:
        """Begins a session with the record of its `run_started`."""
        self._forget_session()
        timestep = record.get("timestep")
        self._start_timestep = self._newest_timestep = timestep if type(timestep) is int else 0
        # The settings are written just before the session begins.
        time_s = _time_of(record) or _written_s(self.run_dir / CONFIG_FILE)
        self.began_s = time_s or _written_s(self._metrics.path) or 0.0
        if not (self.run_dir / CONFIG_FILE).exists():
            return []
        config = config_from(read_config(self.run_dir))
        started = event_from(record, config=config, run_dir=str(self.run_dir))
        return [TimedEvent(started, self.began_s)] if started is not None else []

    def _recorded(self, record: Record, now_s: float) -> TimedEvent | None:
        """Returns the event of a record of `events.jsonl`."""
        event = event_from(record)
        if event is None:
            return None
        time_s = self._within_session(_time_of(record), now_s)
        if isinstance(event, ev.RunEnded):
            self._ended_s = time_s
        return TimedEvent(event, time_s)

    def _updates(self, now_s: float) -> list[TimedEvent]:
        """Returns the updates that were added to `metrics.jsonl`."""
        updates = []
        for metrics in map(metrics_from, self._newest_records()):
            if metrics is None:
                continue
            if metrics.timestep <= self._start_timestep:
                self.before = metrics
            elif metrics.timestep > self._newest_timestep:
                self._newest_timestep = metrics.timestep
                updates.append(metrics)
        if not updates:
            return []
        # While the machine sleeps, the run's wall time stands still; the file's time does not.
        newest_s = self._within_session(_written_s(self._metrics.path), now_s)
        newest_wall_s = updates[-1].wall_time_s
        found = []
        for metrics in updates:
            before_s = newest_wall_s - metrics.wall_time_s
            time_s = self._within_session(newest_s - before_s, now_s)
            is_newest = metrics is updates[-1]
            event = _with_last_game(metrics, self.run_dir) if is_newest else None
            found.append(TimedEvent(event or ev.UpdateFinished(metrics), time_s))
        return found

    def _newest_records(self) -> Iterator[Record]:
        """Yields the added records that `_updates` needs: the newest, and the last before them."""
        before: deque[Record] = deque(maxlen=1)
        added: deque[Record] = deque(maxlen=self._most_updates)
        for record in self._metrics:
            timestep = record.get("timestep")
            is_before = type(timestep) is int and timestep <= self._start_timestep
            (before if is_before else added).append(record)
        yield from before
        yield from added

    def _matches(self, now_s: float) -> list[TimedEvent]:
        """Returns the matches that were added, and the rating table if it has changed.

        Matches of former sessions are included: they show how strong the run's player is.
        """
        results = [result for record in self._evaluations if (result := evaluation_from(record))]
        ratings = _ratings_fitted(read_ratings(self.run_dir / RATINGS_FILE) or ())
        base_s = self.before.wall_time_s if self.before else 0.0
        found = []
        for result in results:
            # The earliest time at which the match can have ended.
            ran_s = result.run_time_s + result.match.wall_time_s - base_s
            time_s = self._within_session((self.began_s or now_s) + ran_s, now_s)
            found.append(TimedEvent(ev.EvaluationFinished(result), time_s))
            if ratings.ratings:
                found.append(TimedEvent(ratings, time_s))
        if not results and ratings != self._ratings:
            found.append(TimedEvent(ratings, self._within_session(now_s, now_s)))
        self._ratings = ratings
        return found

    def _within_session(self, time_s: float | None, now_s: float) -> float:
        """Returns a time moved into the session: clocks of other machines may differ."""
        latest_s = now_s if self._ended_s is None else self._ended_s
        bounded = latest_s if time_s is None else min(time_s, latest_s)
        return bounded if self.began_s is None else max(bounded, self.began_s)


def _with_last_game(metrics: UpdateMetrics, run_dir: Path) -> ev.UpdateFinished | None:
    """Returns an update with the end of the last finished game on file; None without one."""
    record = last_record(run_dir / GAMES_FILE)
    moves = record.get("moves") if record else None
    if record is None or not isinstance(moves, str) or not moves:
        return None
    try:
        played = replay(moves.split(), str(record.get("start_sfen") or ""))
    except ValueError:
        return None
    return ev.UpdateFinished(metrics, played.sfens[-1], played.moves[-1], is_sample_over=True)


def _ratings_fitted(players: Sequence[RatedPlayer]) -> ev.RatingsFitted:
    """Returns the event of a rating table."""
    timesteps = [player.timestep for player in players if player.timestep is not None]
    return ev.RatingsFitted(tuple(player.rating for player in players), max(timesteps, default=0))


def _rank(event: ev.Event) -> int:
    """Returns the order among events of one moment: a session's start first, its end last."""
    return 0 if isinstance(event, ev.RunStarted) else 2 if isinstance(event, ev.RunEnded) else 1


def _written_s(file: Path) -> float | None:
    """Returns when a file was last written, in seconds since 1970; None if it is empty."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime if found.st_size else None


def _time_of(record: Record) -> float | None:
    """Returns the time of an event's record, in seconds since 1970."""
    try:
        return datetime.fromisoformat(str(record.get("time"))).timestamp()
    except (ValueError, OverflowError):
        return None

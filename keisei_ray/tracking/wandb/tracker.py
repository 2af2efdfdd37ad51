"""Subscriber that shows a run on Weights & Biases; nothing W&B does can harm the run.

`handle` only queues calls: those for records in one thread, uploads of checkpoints in another, so
that a slow upload holds up no metrics. Both queues are bounded; calls that find them full are
dropped, counted and reported. Calls that hang are left behind in bounded time, without signals.

W&B gets the curves of `tracking.curves` over the timestep, an alert for every warning, and tables
of games and ratings with each checkpoint and at the end. The table of games holds the newest
GAMES_KEPT since the last one; `games.jsonl` has all of them.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import tenacity

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.call_queue import CallQueue
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.curves import curve_points
from keisei_ray.tracking.event_messages import Message, message_of
from keisei_ray.tracking.late_notice import publish_or_log
from keisei_ray.tracking.terminal.text import clip
from keisei_ray.tracking.wandb.client import MAX_ALERT_TITLE, Table, WandbClient

logger = logging.getLogger(__name__)

T = TypeVar("T")

RECORDS_WAITING: Final = 1000
UPLOADS_WAITING: Final = 8
GAMES_KEPT: Final = 200
ATTEMPTS: Final = 5
"""Attempts to begin the run, and to make each upload."""
BACK_OFF: Final = tenacity.wait_random_exponential(multiplier=2, max=120)
"""Seconds between the attempts."""
GAME_COLUMNS: Final = (
    "timestep", "game_id", "weights_version", "opponent", "learner_color", "result", "reason",
    "plies", "opening_plies", "start_sfen", "moves",
)  # fmt: skip
RATING_COLUMNS: Final = ("name", "elo", "low", "high", "games")


class WandbTracker:
    """Subscriber that passes each event's record to a `WandbClient`."""

    def __init__(
        self,
        client: WandbClient,
        publish: Callable[[ev.Event], object],
        *,
        close_timeout_s: float,
        records_waiting: int = RECORDS_WAITING,
        back_off: Callable[[tenacity.RetryCallState], float] = BACK_OFF,
    ) -> None:
        """Starts two threads, which end with `close` or with the process.

        Args:
            client: the W&B run; used only in threads of the tracker's own.
            publish: puts an event on the bus that this subscriber is on.
            close_timeout_s: the longest that `close` takes.
            records_waiting: records that may wait for W&B.
            back_off: seconds to the next attempt.
        """
        self._client = client
        self._publish = publish
        self._close_timeout_s = close_timeout_s
        self._back_off = back_off
        self._records = CallQueue("wandb records", records_waiting, self._report_first)
        self._uploads = CallQueue("wandb uploads", UPLOADS_WAITING)
        self._games: deque[tuple[int, FinishedGame]] = deque(maxlen=GAMES_KEPT)
        self._ratings: tuple[Rating, ...] = ()
        self._exit_code = 0
        self._has_begun = False
        """Whether the W&B run has begun."""
        self._is_decided = threading.Event()
        """Set once `_has_begun` is final; uploads wait for it."""
        self._is_closing = threading.Event()
        """Ends all waiting for a next attempt."""
        self._uploads_failed = 0
        self._own_notices: set[str] = set()
        """Notices about W&B itself, of which it gets no alert."""

    def handle(self, event: ev.Event) -> None:
        """Queues what W&B is to get of the event. Never blocks."""
        match event:
            case ev.RunStarted():
                settings = settings_by_key(event.config)
                resumed = event.timestep if event.resumed_from else None
                self._put(partial(self._start, settings, resumed))
            case ev.RatingsFitted():
                self._ratings = event.ratings
            case ev.GameFinished():
                self._games.append((event.timestep, event.game))
            case ev.CheckpointSaved():
                self._put_tables(event.timestep)
                self._put_upload(Path(event.path), event.timestep)
            case ev.RunEnded():
                self._exit_code = {"done": 0, "interrupted": 130, "failed": 1}[event.reason]
                self._put_tables(event.timestep)
            case _:
                pass
        points = curve_points(event)
        if points is not None:
            record = {"timestep": points.timestep, **points.values}
            self._put(partial(self._if_begun, partial(self._client.log, record)))
        message = message_of(event)
        if message is not None and message.level in ("WARNING", "ERROR"):
            self._put_alert(event, message)

    def close(self) -> None:
        """Ends the W&B run, and reports what is missing there. Takes `close_timeout_s` at most.

        Uploads that wait for a next attempt make it now, and no further one.
        """
        end = time.monotonic() + self._close_timeout_s
        self._is_closing.set()
        # A quarter of the time is kept for `finish`, which sends what wandb itself has queued.
        halt = end - self._close_timeout_s / 4
        is_complete = self._records.close(halt - time.monotonic())
        is_complete = self._uploads.close(halt - time.monotonic()) and is_complete
        self._is_decided.set()
        is_finished = False
        if self._has_begun:
            last = CallQueue("wandb finish", 1)
            last.put(partial(self._client.finish, self._exit_code))
            is_finished = last.close(end - time.monotonic()) and not last.failed
        if not is_finished:
            self._client.abandon()
        self._report_what_is_missing(is_complete and is_finished)

    def _put_tables(self, timestep: int) -> None:
        if self._games:
            self._put_table("games", games_table(self._games), timestep)
            self._games.clear()
        if self._ratings:
            self._put_table("ratings", ratings_table(self._ratings), timestep)
            self._ratings = ()

    def _put_table(self, name: str, table: Table, timestep: int) -> None:
        call = partial(self._client.log_table, name, table, timestep)
        self._put(partial(self._if_begun, call))

    def _put_alert(self, event: ev.Event, message: Message) -> None:
        if isinstance(event, ev.Notice) and event.message in self._own_notices:
            return
        is_error = message.level == "ERROR"
        title = alert_title(event, message)
        call = partial(self._client.alert, title, message.text, is_error=is_error)
        self._put(partial(self._if_begun, call))

    def _put(self, call: Callable[[], object]) -> None:
        if not self._records.put(call) and self._records.refused == 1:
            self._report(
                "W&B is too slow or does not answer: records are dropped there from now on; the "
                "run directory has them all"
            )

    def _put_upload(self, path: Path, timestep: int) -> None:
        if not self._uploads.put(partial(self._upload, path, timestep)):
            self._report(
                f"checkpoint {path.name} is not uploaded to W&B: {UPLOADS_WAITING} wait already; "
                "it stays in the run directory"
            )

    def _start(self, settings: dict[str, object], resumed_timestep: int | None) -> None:
        """Begins the W&B run. Called in the thread for records."""
        try:
            if resumed_timestep is not None:
                self._report_gap(resumed_timestep)
            url = self._retry(partial(self._client.start, settings))
            self._has_begun = True
        except Exception as error:  # noqa: BLE001  the border to wandb: it may raise anything
            self._report(f"the run is not on W&B, which could not be reached: {_brief(error)}")
        else:
            notice = ev.Notice(f"W&B: {url}" if url else "W&B: recording offline")
            publish_or_log(self._publish, notice, logger)
        finally:
            self._is_decided.set()

    def _report_gap(self, resumed_timestep: int) -> None:
        """Reports what of the session before did not reach wandb's file."""
        former = self._client.former_timestep()
        if former is not None and former < resumed_timestep:
            self._report(
                f"W&B lacks what lies between timesteps {former:,} and {resumed_timestep:,}: the "
                "session before was ended before wandb had written it; the run directory has it"
            )

    def _if_begun(self, call: Callable[[], object]) -> None:
        """Makes a call unless the W&B run could not begin. Called in the thread for records."""
        if self._has_begun:
            call()

    def _upload(self, path: Path, timestep: int) -> None:
        """Uploads a checkpoint unless it has been pruned. Called in the thread for uploads."""
        self._is_decided.wait()
        if not self._has_begun:
            return
        try:
            self._retry(partial(self._upload_if_kept, path, timestep))
        except Exception as error:  # noqa: BLE001  the border to wandb: it may raise anything
            self._uploads_failed += 1
            self._report(
                f"checkpoint {path.name} could not be uploaded to W&B: {_brief(error)}; it stays "
                "in the run directory"
            )

    def _upload_if_kept(self, path: Path, timestep: int) -> None:
        if path.is_dir():
            self._client.upload(path, timestep)
        else:
            logger.info("checkpoint %s was pruned before it could be uploaded", path.name)

    def _retry(self, call: Callable[[], T]) -> T:
        """Calls until it works, at most ATTEMPTS times; once when the run is closing."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(ATTEMPTS),
                tenacity.stop_when_event_set(self._is_closing),
            ),
            wait=self._back_off,
            sleep=tenacity.sleep_using_event(self._is_closing),
            before_sleep=tenacity.before_sleep_log(logger, logging.INFO),
            reraise=True,
        )
        return retrying(call)

    def _report_first(self, error: Exception) -> None:
        if self._records.failed == 1:
            self._report(f"W&B refuses records: {_brief(error)}; the run directory has them all")

    def _report(self, message: str) -> None:
        self._own_notices.add(message)
        publish_or_log(self._publish, ev.Notice(message, "WARNING"), logger)

    def _report_what_is_missing(self, is_complete: bool) -> None:
        missing = {
            "records dropped": self._records.refused,
            "records refused": self._records.failed,
            "records left": self._records.waiting,
            "checkpoints not uploaded": self._uploads.refused + self._uploads_failed,
            "checkpoints left": self._uploads.waiting,
        }
        parts = [f"{count} {what}" for what, count in missing.items() if count]
        if not self._has_begun:
            parts = ["the whole run", *parts]
        elif not is_complete:
            parts = [f"not finished within {self._close_timeout_s:g} s", *parts]
        if parts:
            logger.warning("W&B: %s; the run directory has everything", ", ".join(parts))


def settings_by_key(config: Config) -> dict[str, object]:
    """Returns the effective configuration by dotted keys, the names that a sweep uses."""
    tree = config.model_dump(mode="json")
    return {f"{section}.{key}": v for section, keys in tree.items() for key, v in keys.items()}


def alert_title(event: ev.Event, message: Message) -> str:
    """Returns the title of an alert: the start of a notice, the kind of another event.

    W&B sends alerts of one title once a minute at most. So different notices are all sent, but
    a node that dies with a hundred actors is one alert.
    """
    title = message.text if isinstance(event, ev.Notice) else event.kind.replace("_", " ")
    return clip(title, MAX_ALERT_TITLE, "~")


def ratings_table(ratings: Iterable[Rating]) -> Table:
    """Returns the Elo table, strongest player first."""
    rows = [[r.name, r.elo, r.low, r.high, r.games] for r in ratings]
    return Table(RATING_COLUMNS, rows)


def games_table(games: Iterable[tuple[int, FinishedGame]]) -> Table:
    """Returns finished games as rows of GAME_COLUMNS.

    Args:
        games: each with the timestep it counted at.
    """
    records = [{"timestep": timestep, **asdict(game)} for timestep, game in games]
    return Table(GAME_COLUMNS, [[record[column] for column in GAME_COLUMNS] for record in records])


def _brief(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]

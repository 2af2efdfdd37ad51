"""Subscriber: a run on Weights & Biases, such that W&B can never harm the run.

`handle` only hands over: records to one thread, checkpoints to another, so that a slow upload
holds up no metrics. Both queues are bounded; what finds them full is dropped, counted and
reported. What hangs is left behind in bounded time, without signals.

Games go to a table of the newest GAMES_KEPT since the last one, sent with each checkpoint and at
the end; all of them are in `games.jsonl`.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import tenacity

from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.wandb import records as records
from keisei_ray.tracking.wandb.client import WandbClient
from keisei_ray.tracking.wandb.handover import Handover

logger = logging.getLogger(__name__)

T = TypeVar("T")

RECORDS_WAITING: Final = 1000
UPLOADS_WAITING: Final = 8
GAMES_KEPT: Final = 200
ATTEMPTS: Final = 5
"""How often beginning the run, or an upload, is tried."""
BACK_OFF: Final = tenacity.wait_random_exponential(multiplier=2, max=120)
"""Seconds between the attempts."""


class WandbTracker:
    """Subscriber: hands every event's record over to a `WandbClient`."""

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
            client: the run; only ever used in threads of the tracker's own.
            publish: puts an event on the bus that this subscriber is on.
            close_timeout_s: the longest that `close` takes.
            records_waiting: records that may wait for W&B.
            back_off: seconds to the next attempt.
        """
        self._client = client
        self._publish = publish
        self._close_timeout_s = close_timeout_s
        self._back_off = back_off
        self._records = Handover("wandb records", records_waiting, self._report_first)
        self._uploads = Handover("wandb uploads", UPLOADS_WAITING)
        self._games: deque[tuple[int, FinishedGame]] = deque(maxlen=GAMES_KEPT)
        self._ratings: tuple[Rating, ...] = ()
        self._exit_code = 0
        self._is_up = False
        self._is_decided = threading.Event()
        """Whether the run has begun is known; uploads wait for it."""
        self._is_closing = threading.Event()
        """Ends all waiting for a next attempt."""
        self._uploads_failed = 0

    def handle(self, event: ev.Event) -> None:
        """Hand over what W&B is to know of the event. Never blocks."""
        match event:
            case ev.RunStarted():
                self._put(partial(self._start, records.settings_record(event.config)))
            case ev.UpdateFinished() | ev.UpdateDiagnosed() | ev.EvaluationFinished():
                self._log(event)
            case ev.RatingsFitted():
                self._ratings = event.ratings
                self._log(event)
            case ev.GameFinished():
                self._games.append((event.timestep, event.game))
            case ev.CheckpointSaved():
                self._log_tables(event.timestep)
                self._put_upload(Path(event.path), event.timestep)
            case ev.RunEnded():
                self._exit_code = {"done": 0, "interrupted": 130, "failed": 1}[event.reason]
                self._log_tables(event.timestep)
            case _:
                pass

    def close(self) -> None:
        """End the W&B run; takes `close_timeout_s` at most, and says what is missing there.

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
        if self._is_up:
            last = Handover("wandb finish", 1)
            last.put(partial(self._client.finish, self._exit_code))
            is_finished = last.close(end - time.monotonic()) and not last.failed
        if not is_finished:
            self._client.abandon()
        self._say_what_is_missing(is_complete and is_finished)

    # ---- in the driver's thread ----

    def _log(self, event: ev.Event) -> None:
        record = records.record_of(event)
        if record is not None:
            self._put(partial(self._if_up, partial(self._client.log, record)))

    def _log_tables(self, timestep: int) -> None:
        if self._games:
            self._put_table("games", records.games_table(self._games), timestep)
            self._games.clear()
        if self._ratings:
            self._put_table("ratings", records.ratings_table(self._ratings), timestep)
            self._ratings = ()

    def _put_table(self, name: str, table: records.Table, timestep: int) -> None:
        self._put(partial(self._if_up, partial(self._client.log_table, name, table, timestep)))

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

    # ---- in threads of the tracker's own ----

    def _start(self, settings: dict[str, object]) -> None:
        try:
            url = self._persist(partial(self._client.start, settings))
            self._is_up = True
        except Exception as error:  # noqa: BLE001  the border to wandb: it raises what it likes
            self._report(f"the run is not on W&B, which could not be reached: {_brief(error)}")
        else:
            self._publish_safely(ev.Notice(f"W&B: {url}" if url else "W&B: recording offline"))
        finally:
            self._is_decided.set()

    def _if_up(self, call: Callable[[], object]) -> None:
        if self._is_up:
            call()

    def _upload(self, path: Path, timestep: int) -> None:
        """Uploads a checkpoint, unless it has been pruned before its turn came."""
        self._is_decided.wait()
        if not self._is_up:
            return
        try:
            self._persist(partial(self._upload_if_kept, path, timestep))
        except Exception as error:  # noqa: BLE001  the border to wandb: it raises what it likes
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

    def _persist(self, call: Callable[[], T]) -> T:
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

    # ---- what a person is told ----

    def _report_first(self, error: Exception) -> None:
        if self._records.failed == 1:
            self._report(f"W&B refuses records: {_brief(error)}; the run directory has them all")

    def _report(self, message: str) -> None:
        self._publish_safely(ev.Notice(message, "WARNING"))

    def _publish_safely(self, notice: ev.Notice) -> None:
        try:
            self._publish(notice)
        except RuntimeError:  # The bus has closed; the log has not.
            logger.log(logging.getLevelNamesMapping()[notice.level], "%s", notice.message)

    def _say_what_is_missing(self, is_complete: bool) -> None:
        missing = {
            "records dropped": self._records.refused,
            "records refused": self._records.failed,
            "records left": self._records.waiting,
            "checkpoints not uploaded": self._uploads.refused + self._uploads_failed,
            "checkpoints left": self._uploads.waiting,
        }
        parts = [f"{count} {what}" for what, count in missing.items() if count]
        if not self._is_up:
            parts = ["the whole run", *parts]
        elif not is_complete:
            parts = [f"not finished within {self._close_timeout_s:g} s", *parts]
        if parts:
            logger.warning("W&B: %s; the run directory has everything", ", ".join(parts))


def _brief(error: Exception) -> str:
    """The first line of what an error says."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]

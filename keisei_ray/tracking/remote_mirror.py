"""Subscriber: keeps a run's URI as its local copy is, such that storage can never harm the run.

`handle` only wakes a daemon thread, which then brings over whatever the URI lacks (`uploader.py`).
What that is it finds by looking, not from a queue: nothing piles up behind a slow upload, the
newest checkpoint goes first, and one that was pruned here meanwhile is not missed.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import tenacity
from rich.console import Console
from rich.text import Text

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import KeiseiError, StorageError
from keisei_ray.storage.remote.remote_run import RemoteRun
from keisei_ray.storage.remote.uploader import OvertakenError, Uploader, local_checkpoints
from keisei_ray.telemetry import events as ev

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 5
"""How often a round of uploads is tried before it is reported and waits for the next checkpoint."""
BACK_OFF: Final = tenacity.wait_random_exponential(multiplier=2, max=60)
"""Seconds between the attempts."""
STALLED_S: Final = 900.0
"""A round of uploads under way for so long is told of."""


class Mirror:
    """Subscriber: uploads at the start, after each checkpoint and at the end."""

    def __init__(
        self,
        remote: RemoteRun,
        publish: Callable[[ev.Event], object],
        keep: CheckpointConfig,
        *,
        resumed_timestep: int | None,
        back_off: Callable[[tenacity.RetryCallState], float] = BACK_OFF,
    ) -> None:
        """Starts a thread, which ends with `finish` or with the process.

        Args:
            remote: where the run lies.
            publish: puts an event on the bus that this subscriber is on.
            keep: which checkpoints stay.
            resumed_timestep: of the checkpoint that the run goes on from; None for a fresh run.
            back_off: seconds to the next attempt.
        """
        self.has_begun = False
        """Whether the run has: before, there is nothing to upload."""
        self.ended: ev.RunEnded | None = None
        self.failures = 0
        """Rounds of uploads that were given up."""
        self._uploads = Uploader(remote, keep, resumed_timestep, on_saved=self._say_safe)
        self._uri = remote.storage.uri
        self._run_dir = remote.run_dir
        self._publish = publish
        self._back_off = back_off
        self._cause: KeiseiError | OSError | None = None
        """Why the newest round of uploads failed; None if it did not."""
        self._began_s: float | None = None
        """When the round under way began."""
        self._wake = threading.Event()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self._thread.start()

    def handle(self, event: ev.Event) -> None:
        """Wakes the thread when there is something to upload. Never blocks."""
        match event:
            case ev.RunStarted():
                self.has_begun = True
                self._wake.set()
            case ev.CheckpointSaved():
                self._say_if_stalled()
                self._wake.set()
            case ev.RunEnded():
                self.ended = event
            case _:
                pass

    def finish(self, timeout_s: float) -> None:
        """One last round of uploads; waits for it, `timeout_s` seconds at most."""
        self._is_closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._cause is None:
            self._cause = StorageError(f"not finished within {timeout_s:g} s")

    def verdict(self) -> tuple[bool, str]:
        """Whether the newest checkpoint is at the URI, and what a person is to know of that."""
        uri, safe_names = self._uri, self._uploads.uploaded.copy()
        paths = local_checkpoints(self._run_dir)
        name = paths[-1].name if paths else None
        safe = max(safe_names, default="none")
        if name is not None and name not in safe_names:
            cause = self._cause or "not waited for"
            return False, (
                f"checkpoint {name} is NOT at {uri} (newest there: {safe}): {cause}. It is in "
                f"{self._run_dir} on this machine; --resume latest goes on from there and uploads "
                "it."
            )
        what = f"checkpoint {name} is at {uri}" if name else f"no checkpoint to keep at {uri}"
        if self._cause is not None:
            return True, f"{what}, but not the newest records: {self._cause}"
        return True, what

    # ---- in the thread ----

    def _run(self) -> None:
        is_last = False
        while not is_last:
            if not self._is_closing.is_set():
                self._wake.wait()
            # Before the round, so that a round begins after the last word, or after a new one.
            is_last = self._is_closing.is_set()
            self._wake.clear()
            if not self.has_begun or isinstance(self._cause, OvertakenError):
                continue
            self._began_s = time.monotonic()
            try:
                self._persist()
                self._cause = None
            except (KeiseiError, OSError) as error:
                self._cause = error
                self.failures += 1
                self._report(error)
            self._began_s = None

    def _persist(self) -> None:
        """A round, at most ATTEMPTS times; each looks anew."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda e: isinstance(e, KeiseiError | OSError) and not isinstance(e, OvertakenError)
            ),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=self._back_off,
            sleep=self._pause,
            before_sleep=tenacity.before_sleep_log(logger, logging.INFO),
            reraise=True,
        )
        retrying(self._uploads.run)

    def _pause(self, seconds: float) -> None:
        """Ends early when there is more to upload, or when the run ends."""
        self._wake.wait(seconds)
        self._wake.clear()

    # ---- what a person is told ----

    def _report(self, error: Exception) -> None:
        again = (
            "" if isinstance(error, OvertakenError) else "; tried again with the next checkpoint"
        )
        self._publish_safely(
            ev.Notice(
                f"upload failed ({self.failures}): {error}. Training goes on, everything is kept "
                f"in {self._run_dir}{again}",
                "WARNING",
            )
        )

    def _say_safe(self, name: str) -> None:
        self._publish_safely(ev.Notice(f"checkpoint {name} is at {self._uri}"))

    def _say_if_stalled(self) -> None:
        began_s = self._began_s
        if began_s is not None and time.monotonic() - began_s > STALLED_S:
            minutes = (time.monotonic() - began_s) / 60
            self._publish_safely(
                ev.Notice(
                    f"the upload to {self._uri} has not finished for {minutes:.0f} min; "
                    f"everything is kept in {self._run_dir}",
                    "WARNING",
                )
            )

    def _publish_safely(self, notice: ev.Notice) -> None:
        try:
            self._publish(notice)
        except RuntimeError:  # The bus has closed; the log has not.
            logger.log(logging.getLevelNamesMapping()[notice.level], "%s", notice.message)


@contextlib.contextmanager
def mirrored(
    remote: RemoteRun | None,
    bus: ev.EventBus,
    keep: CheckpointConfig,
    resumed_timestep: int | None,
    console: Console,
) -> Iterator[None]:
    """Uploads a run inside the `with` block, which ends with its bus closed.

    On leaving, the last upload is waited for, `checkpoint.upload_timeout_s` at most (not at all
    after a second Ctrl-C), and whether the newest checkpoint is safe is said.

    Args:
        remote: None: the run lies here alone, and nothing is done.
        bus, keep, resumed_timestep: see `Mirror`.
        console: for the last words.

    Raises:
        StorageError: the run was done, and its last checkpoint is not at the URI.
    """
    if remote is None:
        yield
        return
    mirror = Mirror(remote, bus.publish, keep, resumed_timestep=resumed_timestep)
    bus.subscribe("storage", mirror.handle)
    try:
        yield
    except KeyboardInterrupt:
        _say(mirror, console)
        raise
    except BaseException:
        mirror.finish(keep.upload_timeout_s)
        _say(mirror, console)
        raise
    mirror.finish(keep.upload_timeout_s)
    is_done = mirror.ended is not None and mirror.ended.reason == "done"
    is_safe, words = mirror.verdict()
    if is_done and not is_safe:
        raise StorageError(words)
    _say(mirror, console)


def _say(mirror: Mirror, console: Console) -> None:
    if mirror.has_begun:
        is_safe, words = mirror.verdict()
        logger.info("%s", words)
        console.print(Text(words, style="" if is_safe else "bold red"), soft_wrap=True)

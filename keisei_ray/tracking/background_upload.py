"""Uploads a run to its URI while it trains; no failure of storage can harm the run.

`handle` only wakes a daemon thread, which then uploads everything that the URI lacks
(`storage/remote/uploader.py`). The thread compares the two sides each time and keeps no queue: no
work piles up behind a slow upload, the newest checkpoint goes first, and a checkpoint that was
pruned here meanwhile is not missed.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import tenacity
from rich.console import Console
from rich.text import Text

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import KeiseiError, StorageError
from keisei_ray.storage.remote.filesystem import within
from keisei_ray.storage.remote.remote_run import RemoteRun
from keisei_ray.storage.remote.uploader import OvertakenError, Uploader, local_checkpoints
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.evaluation_records import elo_by_version
from keisei_ray.tracking.late_notice import publish_or_log

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 5
"""Attempts at a round of uploads before it is reported and waits for the next checkpoint."""
BACK_OFF: Final = tenacity.wait_random_exponential(multiplier=2, max=60)
"""Seconds between the attempts."""
STALLED_S: Final = 900.0
"""Duration of a round of uploads from which on a notice reports it."""


class BackgroundUpload:
    """Subscriber that uploads at the start, after each checkpoint and at the end."""

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
            remote: the run's URI and its local copy.
            publish: puts an event on the bus that this subscriber is on.
            keep: which checkpoints stay.
            resumed_timestep: timestep of the checkpoint that the run resumes; None for a fresh run.
            back_off: seconds to the next attempt.
        """
        self.has_begun = False
        """Whether the run has begun; before, there is nothing to upload."""
        self.ended: ev.RunEnded | None = None
        self.failures = 0
        """Rounds of uploads that were given up."""
        self._uploader = Uploader(
            remote,
            keep,
            resumed_timestep,
            on_saved=self._report_uploaded,
            read_elo=partial(elo_by_version, remote.run_dir),
        )
        self._uri = remote.storage.uri
        self._run_dir = remote.run_dir
        self._publish = publish
        self._back_off = back_off
        self._cause: KeiseiError | OSError | None = None
        """Error of the newest round of uploads; None if it had none."""
        self._began_s: float | None = None
        """Time at which the current round began; None between rounds."""
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
                self._report_if_stalled()
                self._wake.set()
            case ev.RunEnded():
                self.ended = event
            case _:
                pass

    def set_newer_aside(self, timeout_s: float) -> None:
        """Sets aside the checkpoints at the URI beyond the resumed one; before the run begins.

        Args:
            timeout_s: longest wait.

        Raises:
            StorageError: the URI cannot be read or written, or not in time.
        """
        try:
            within(timeout_s, self._uri, self._uploader.set_newer_aside)
        except StorageError as error:
            raise StorageError(f"newer checkpoints cannot be set aside: {error}") from error

    def finish(self, timeout_s: float) -> None:
        """Starts one last round of uploads and waits for it, `timeout_s` seconds at most."""
        self._is_closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._cause is None:
            self._cause = StorageError(f"not finished within {timeout_s:g} s")

    def result(self) -> tuple[bool, str]:
        """Returns whether the newest checkpoint is at the URI, and a sentence that says so."""
        uri, uploaded = self._uri, self._uploader.uploaded.copy()
        paths = local_checkpoints(self._run_dir)
        name = paths[-1].name if paths else None
        newest_there = max(uploaded, default="none")
        if name is not None and name not in uploaded:
            cause = self._cause or "not waited for"
            return False, (
                f"checkpoint {name} is NOT at {uri} (newest there: {newest_there}): {cause}. It is "
                f"in {self._run_dir} on this machine; --resume latest goes on from there and "
                "uploads it."
            )
        what = f"checkpoint {name} is at {uri}" if name else f"no checkpoint to keep at {uri}"
        if self._cause is not None:
            return True, f"{what}, but not the newest records: {self._cause}"
        return True, what

    def _run(self) -> None:
        """Uploads whenever it is woken, until `finish`. The body of the thread."""
        is_last = False
        while not is_last:
            if not self._is_closing.is_set():
                self._wake.wait()
            # Read before the round: `finish` during a round makes for one more.
            is_last = self._is_closing.is_set()
            self._wake.clear()
            if not self.has_begun or isinstance(self._cause, OvertakenError):
                continue
            self._began_s = time.monotonic()
            try:
                self._upload()
                self._cause = None
            except (KeiseiError, OSError) as error:
                self._cause = error
                self.failures += 1
                self._report_failure(error)
            self._began_s = None

    def _upload(self) -> None:
        """Makes a round of uploads, at most ATTEMPTS times; each looks anew at what is missing."""
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
        retrying(self._uploader.run)

    def _pause(self, seconds: float) -> None:
        """Waits; ends early when there is more to upload, or when the run ends."""
        self._wake.wait(seconds)
        self._wake.clear()

    def _report_failure(self, error: Exception) -> None:
        again = (
            "" if isinstance(error, OvertakenError) else "; tried again with the next checkpoint"
        )
        notice = ev.Notice(
            f"upload failed ({self.failures}): {error}. Training goes on, everything is kept "
            f"in {self._run_dir}{again}",
            "WARNING",
        )
        publish_or_log(self._publish, notice, logger)

    def _report_uploaded(self, name: str) -> None:
        notice = ev.Notice(f"checkpoint {name} is at {self._uri}")
        publish_or_log(self._publish, notice, logger)

    def _report_if_stalled(self) -> None:
        began_s = self._began_s
        if began_s is not None and time.monotonic() - began_s > STALLED_S:
            minutes = (time.monotonic() - began_s) / 60
            notice = ev.Notice(
                f"the upload to {self._uri} has not finished for {minutes:.0f} min; "
                f"everything is kept in {self._run_dir}",
                "WARNING",
            )
            publish_or_log(self._publish, notice, logger)


@contextlib.contextmanager
def uploading(
    remote: RemoteRun | None,
    bus: ev.EventBus,
    keep: CheckpointConfig,
    resumed_timestep: int | None,
    console: Console,
) -> Iterator[BackgroundUpload | None]:
    """Uploads a run inside the `with` block, which ends with its bus closed.

    On leaving, it waits for the last upload, `checkpoint.upload_timeout_s` at most (not at all
    after a second Ctrl-C), and prints whether the newest checkpoint is at the URI.

    Args:
        remote: the run's URI and its local copy; None for a run without a URI: nothing is done.
        bus: the run's bus.
        keep: which checkpoints stay.
        resumed_timestep: timestep of the checkpoint that the run resumes; None for a fresh run.
        console: where the result is printed.

    Yields:
        The upload; None for a run without a URI.

    Raises:
        StorageError: the run was done, and its last checkpoint is not at the URI.
    """
    if remote is None:
        yield None
        return
    upload = BackgroundUpload(remote, bus.publish, keep, resumed_timestep=resumed_timestep)
    bus.subscribe("storage", upload.handle)
    try:
        yield upload
    except KeyboardInterrupt:
        _print_result(upload, console)
        raise
    except BaseException:
        upload.finish(keep.upload_timeout_s)
        _print_result(upload, console)
        raise
    upload.finish(keep.upload_timeout_s)
    is_done = upload.ended is not None and upload.ended.reason == "done"
    is_uploaded, sentence = upload.result()
    if is_done and not is_uploaded:
        raise StorageError(sentence)
    _print_result(upload, console)


def _print_result(upload: BackgroundUpload, console: Console) -> None:
    if upload.has_begun:
        is_uploaded, sentence = upload.result()
        logger.info("%s", sentence)
        console.print(Text(sentence, style="" if is_uploaded else "bold red"), soft_wrap=True)

"""A run is uploaded while it trains, and no failure of storage reaches it."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity
from rich.console import Console

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import StorageError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.remote.remote_run import RemoteRun, checkpoints_at
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking import background_upload as module
from keisei_ray.tracking.background_upload import BackgroundUpload, uploading
from tests.helpers.remote_runs import InterruptedFileSystem, new_uri, remote_run_at, save, step
from tests.helpers.run_events import run_started

KEEP = CheckpointConfig(keep_last=2)


PATIENCE_S = 30


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory, in which the uploads of a test end: their paths are relative to it."""
    monkeypatch.chdir(tmp_path)
    started: list[BackgroundUpload] = []

    class Noted(BackgroundUpload):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(module, "BackgroundUpload", Noted)
    yield
    for upload in started:
        upload.finish(PATIENCE_S)
        assert not upload._thread.is_alive()


class Watched:
    """An upload in the background, and all its notices."""

    def __init__(self, remote: RemoteRun, back_off_s: float = 0.0) -> None:
        self.notices: list[ev.Notice] = []
        self.upload = module.BackgroundUpload(
            remote,
            self.notices.append,  # type: ignore[arg-type]
            KEEP,
            resumed_timestep=None,
            back_off=tenacity.wait_fixed(back_off_s),
        )
        self.upload.handle(run_started())

    def save(self, remote: RemoteRun, timestep: int) -> None:
        save(remote.run_dir, timestep)
        path = remote.run_dir / "checkpoints" / step(timestep)
        self.upload.handle(ev.CheckpointSaved(str(path), timestep))

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, self.notices
            time.sleep(0.005)

    def warnings(self) -> list[str]:
        return [n.message for n in self.notices if n.level == "WARNING"]


def test_storage_that_fails_a_few_times_is_tried_again_without_a_warning() -> None:
    failures = iter([OSError("503")] * 4)

    def trouble(what: str, path: str) -> None:
        if what == "write" and path.endswith("manifest.json"):
            for failure in failures:
                raise failure

    remote = remote_run_at(new_uri(), InterruptedFileSystem(trouble))
    run = Watched(remote)
    run.save(remote, 10)
    run.wait_for(lambda: checkpoints_at(remote.storage) == [step(10)])
    run.upload.finish(PATIENCE_S)
    assert run.upload.result() == (True, f"checkpoint {step(10)} is at {remote.storage.uri}")
    assert run.warnings() == []


def test_storage_that_fails_for_good_is_reported_and_made_up_for_by_the_next_checkpoint() -> None:
    is_broken = [True]

    def trouble(what: str, path: str) -> None:
        if is_broken[0]:
            raise PermissionError("Access Denied")

    remote = remote_run_at(new_uri(), InterruptedFileSystem(trouble))
    run = Watched(remote)
    run.save(remote, 10)
    run.wait_for(lambda: bool(run.warnings()))
    assert "Access Denied" in run.warnings()[0]
    assert run.upload.failures >= 1
    is_broken[0] = False
    run.save(remote, 20)
    run.upload.finish(PATIENCE_S)
    assert checkpoints_at(remote.storage) == [step(10), step(20)]
    assert run.upload.result()[0]


def test_a_checkpoint_missing_at_the_end_is_reported_as_missing() -> None:
    def trouble(what: str, path: str) -> None:
        if step(20) in path:
            raise PermissionError("Access Denied")

    remote = remote_run_at(new_uri(), InterruptedFileSystem(trouble))
    run = Watched(remote)
    run.save(remote, 10)
    run.wait_for(lambda: checkpoints_at(remote.storage) == [step(10)])
    run.save(remote, 20)
    run.upload.finish(PATIENCE_S)
    is_uploaded, sentence = run.upload.result()
    assert not is_uploaded
    assert f"{step(20)} is NOT at" in sentence
    assert f"newest there: {step(10)}" in sentence
    assert "Access Denied" in sentence
    assert (remote.run_dir / "checkpoints" / step(20)).is_dir()


def test_storage_that_hangs_holds_up_neither_training_nor_the_end(
    hang: Callable[[], object],
) -> None:
    remote = remote_run_at(new_uri(), InterruptedFileSystem(lambda what, path: hang()))
    run = Watched(remote)
    began_s = time.monotonic()
    for timestep in (10, 20, 30):
        run.save(remote, timestep)
    run.upload.finish(0.2)
    assert time.monotonic() - began_s < 5
    is_uploaded, sentence = run.upload.result()
    assert not is_uploaded
    assert "not finished within 0.2 s" in sentence


def test_a_slow_upload_is_followed_by_the_newest_checkpoint_and_none_piles_up() -> None:
    go_on = threading.Event()
    is_slow = threading.Event()

    def trouble(what: str, path: str) -> None:
        if what == "write" and path.endswith(f"{step(10)}/model.safetensors"):
            is_slow.set()
            assert go_on.wait(PATIENCE_S)

    fs = InterruptedFileSystem(trouble)
    remote = remote_run_at(new_uri(), fs)
    run = Watched(remote)
    run.save(remote, 10)
    assert is_slow.wait(PATIENCE_S)
    for timestep in range(20, 100, 10):
        run.save(remote, timestep)
        checkpoint.prune(remote.run_dir / "checkpoints", KEEP)
    go_on.set()
    run.upload.finish(PATIENCE_S)
    sent = [path.split("/")[-2] for path in fs.written if path.endswith("manifest.json")]
    assert sent == [step(10), step(90), step(80)]
    assert run.warnings() == []


def leave(remote: RemoteRun, reason: Any, error: BaseException | None = None) -> str:
    """Returns what is printed when the `with` block of a run is left, or raises as it does."""
    console = Console(file=io.StringIO(), width=500)
    bus = ev.EventBus()
    keep = CheckpointConfig(keep_last=2, upload_timeout_s=0.2)
    try:
        with uploading(remote, bus, keep, None, console):
            bus.publish(run_started())
            save(remote.run_dir, 10)
            bus.publish(ev.RunEnded(reason, 10, None, 1.0))
            bus.close(1)
            if error is not None:
                raise error
    finally:
        assert isinstance(console.file, io.StringIO)
        said = console.file.getvalue()
    return said


def test_a_run_that_is_done_fails_while_its_checkpoint_is_not_at_the_uri(
    hang: Callable[[], object],
) -> None:
    with pytest.raises(StorageError, match="is NOT at"):
        leave(remote_run_at(new_uri(), InterruptedFileSystem(lambda what, path: hang())), "done")


def test_an_interrupted_run_says_that_its_checkpoint_is_not_at_the_uri(
    hang: Callable[[], object],
) -> None:
    said = leave(
        remote_run_at(new_uri(), InterruptedFileSystem(lambda what, path: hang())), "interrupted"
    )
    assert "is NOT at" in said


def test_a_failed_run_uploads_its_last_checkpoint_and_fails_as_it_failed() -> None:
    remote = remote_run_at(new_uri())
    with pytest.raises(RuntimeError, match="boom"):
        leave(remote, "failed", RuntimeError("boom"))
    assert checkpoints_at(remote.storage) == [step(10)]


def test_a_second_interrupt_does_not_wait_for_an_upload(hang: Callable[[], object]) -> None:
    remote = remote_run_at(new_uri(), InterruptedFileSystem(lambda what, path: hang()))
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        leave(remote, "interrupted", KeyboardInterrupt())
    assert time.monotonic() - began_s < 5  # The upload never ends.


def test_a_uri_that_fails_or_hangs_when_newer_checkpoints_are_set_aside_is_one_line(
    hang: Callable[[], object],
) -> None:
    def refuse() -> None:
        raise PermissionError("Access Denied")

    what_to_do: list[Callable[[], object]] = [lambda: None]
    remote = remote_run_at(new_uri(), InterruptedFileSystem(lambda what, path: what_to_do[0]()))
    first = Watched(remote)
    first.save(remote, 10)
    first.save(remote, 20)
    first.upload.finish(PATIENCE_S)
    upload = module.BackgroundUpload(remote, lambda event: None, KEEP, resumed_timestep=10)
    for trouble, cause in ((refuse, "Access Denied"), (hang, "did not answer within 0.2 s")):
        what_to_do[0] = trouble
        with pytest.raises(StorageError, match=f"cannot be set aside: .*{cause}") as refusal:
            upload.set_newer_aside(0.2)
        assert "\n" not in str(refusal.value)
    what_to_do[0] = lambda: None
    assert checkpoints_at(remote.storage) == [step(10), step(20)]
    upload.set_newer_aside(PATIENCE_S)
    assert checkpoints_at(remote.storage) == [step(10)]


def test_a_run_that_never_began_leaves_the_uri_alone() -> None:
    remote = remote_run_at(new_uri())
    with uploading(remote, ev.EventBus(), KEEP, None, Console(quiet=True)):
        pass
    assert remote.storage.names() == {}

"""A run's URI follows its local copy, whatever the storage does; a reader never sees a half."""

import io
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity
from fsspec.implementations.local import LocalFileSystem
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import CheckpointError, StorageError
from keisei_ray.selfplay.pool import Pool
from keisei_ray.storage import checkpoint
from keisei_ray.storage.remote.filesystem import Storage
from keisei_ray.storage.remote.remote_run import RemoteRun, checkpoints_at, fetch_checkpoint
from keisei_ray.storage.remote.uploader import OvertakenError, Uploader
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.background_upload import BackgroundUpload, uploading
from tests.helpers.remote_runs import Troublesome, new_uri, remote_run_at, save, step
from tests.helpers.run_events import run_started

KEEP = CheckpointConfig(keep_last=2)
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def uploads(
    remote: RemoteRun, resumed: int | None = None, keep: CheckpointConfig = KEEP
) -> Uploader:
    return Uploader(remote, keep, resumed, on_saved=lambda name: None)


class Watched:
    """An upload in the background, and all its notices."""

    def __init__(self, remote: RemoteRun, back_off_s: float = 0.0) -> None:
        self.notices: list[ev.Notice] = []
        self.upload = BackgroundUpload(
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


def test_a_manifest_is_written_after_its_files_the_records_and_the_pools_weights() -> None:
    fs = Troublesome()
    remote = remote_run_at(new_uri(), fs)
    save(remote.run_dir, 10)
    (remote.run_dir / "pool").mkdir()
    (remote.run_dir / "pool" / "v1-abc.bin").write_bytes(b"weights")
    (remote.run_dir / ".tmp-1-config.json").write_bytes(b"half")
    uploads(remote).run()
    order = [path.split("/runs/first/")[1] for path in fs.written]
    assert order[-1] == f"checkpoints/{step(10)}/manifest.json"
    assert set(order[:-1]) == {
        "run-id", ".writer", "config.json", "metrics.jsonl", "pool/v1-abc.bin",
        f"checkpoints/{step(10)}/model.safetensors", f"checkpoints/{step(10)}/progress.json",
    }  # fmt: skip
    assert order.index("metrics.jsonl") < order.index(f"checkpoints/{step(10)}/model.safetensors")


def test_what_has_not_changed_is_not_sent_again() -> None:
    fs = Troublesome()
    remote = remote_run_at(new_uri(), fs)
    save(remote.run_dir, 10)
    session = uploads(remote)
    session.run()
    fs.written.clear()
    session.run()
    assert fs.written == []
    save(remote.run_dir, 20)
    session.run()
    assert {path.rsplit("/", 1)[-1] for path in fs.written} == {
        "metrics.jsonl", "model.safetensors", "progress.json", "manifest.json",
    }  # fmt: skip


def test_old_checkpoints_go_there_by_the_rule_that_holds_here() -> None:
    remote = remote_run_at(new_uri())
    keep = CheckpointConfig(interval_timesteps=10, keep_last=2, keep_every_timesteps=40)
    session = uploads(remote, keep=keep)
    for timestep in range(10, 100, 10):
        save(remote.run_dir, timestep)
        checkpoint.prune(remote.run_dir / "checkpoints", 2, 40)
        session.run()
    here = [path.name for path in checkpoint.whole(remote.run_dir / "checkpoints")]
    assert checkpoints_at(remote.storage) == here == [step(40), step(80), step(90)]


def test_a_checkpoint_that_only_lies_there_is_pruned_too() -> None:
    """After a resume on another machine only the newest lies here."""
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10, 20)
    uploads(remote).run()
    shutil.rmtree(remote.run_dir / "checkpoints" / step(10))
    save(remote.run_dir, 30)
    uploads(remote, resumed=20).run()
    assert checkpoints_at(remote.storage) == [step(20), step(30)]


def test_weights_stay_there_as_long_as_a_checkpoint_there_names_them() -> None:
    pool = Pool(Config().pool)
    for version in (1, 2):
        pool.add_snapshot(version, f"{version}" * 64)
    first, second = pool.snapshots
    remote = remote_run_at(new_uri())
    (remote.run_dir / "pool").mkdir()
    for member in (first, second):
        (remote.run_dir / "pool" / member.weights_name).write_bytes(b"weights")

    def save_with_pool(timestep: int) -> None:
        files = {"pool.json": pool.to_json().encode()}
        checkpoint.save(remote.run_dir / "checkpoints", timestep, files, {})

    session = uploads(remote)
    save_with_pool(10)
    session.run()
    pool.remove(first.name)
    (remote.run_dir / "pool" / first.weights_name).unlink()
    save_with_pool(20)
    session.run()
    assert len(remote.storage.names("pool")) == 2
    save_with_pool(30)
    session.run()
    assert list(remote.storage.names("pool")) == [f"pool/{second.weights_name}"]


def test_checkpoints_beyond_the_one_resumed_from_are_set_aside_there() -> None:
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10, 20)
    uploads(remote).run()
    manifest = remote.storage.read(f"checkpoints/{step(20)}/manifest.json")
    shutil.rmtree(remote.run_dir / "checkpoints" / step(20))
    save(remote.run_dir, 20, content=b"other weights")
    uploads(remote, resumed=10).run()
    aside = f"checkpoints/superseded-0-{step(20)}"
    assert remote.storage.read(f"{aside}/manifest.json") == manifest
    assert remote.storage.read(f"{aside}/model.safetensors") == b"weights20"
    assert remote.storage.read(f"checkpoints/{step(20)}/model.safetensors") == b"other weights20"


def test_a_session_that_was_overtaken_writes_nothing_any_more() -> None:
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10)
    old = uploads(remote)
    old.run()
    uploads(remote, resumed=10).run()
    before = remote.storage.names()
    save(remote.run_dir, 20)
    with pytest.raises(OvertakenError, match="another session"):
        old.run()
    assert remote.storage.names() == before


def test_two_fresh_runs_at_one_uri_do_not_mix(tmp_path: Path) -> None:
    remote = remote_run_at(new_uri())
    uploads(remote).run()
    other = RemoteRun(remote.storage, tmp_path / "other")
    other.run_dir.mkdir()
    save(other.run_dir, 10)
    before = remote.storage.names()
    with pytest.raises(OvertakenError, match="another run"):
        uploads(other).run()
    assert remote.storage.names() == before


def test_a_checkpoint_that_is_damaged_here_is_not_uploaded() -> None:
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10)
    (remote.run_dir / "checkpoints" / step(10) / "model.safetensors").write_bytes(b"WEIGHTS10")
    with pytest.raises(CheckpointError, match="SHA-256"):
        uploads(remote).run()
    assert checkpoints_at(remote.storage) == []


def test_storage_that_fails_a_few_times_is_tried_again_and_nobody_is_bothered() -> None:
    failures = iter([OSError("503")] * 4)

    def trouble(what: str, path: str) -> None:
        if what == "write" and path.endswith("manifest.json"):
            for failure in failures:
                raise failure

    remote = remote_run_at(new_uri(), Troublesome(trouble))
    run = Watched(remote)
    run.save(remote, 10)
    run.wait_for(lambda: checkpoints_at(remote.storage) == [step(10)])
    run.upload.finish(PATIENCE_S)
    assert run.upload.result() == (True, f"checkpoint {step(10)} is at {remote.storage.uri}")
    assert run.warnings() == []


def test_storage_that_fails_for_good_is_reported_and_the_next_checkpoint_mends_it() -> None:
    is_broken = [True]

    def trouble(what: str, path: str) -> None:
        if is_broken[0]:
            raise PermissionError("Access Denied")

    remote = remote_run_at(new_uri(), Troublesome(trouble))
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


def test_a_checkpoint_that_is_not_there_at_the_end_is_not_said_to_be() -> None:
    def trouble(what: str, path: str) -> None:
        if step(20) in path:
            raise PermissionError("Access Denied")

    remote = remote_run_at(new_uri(), Troublesome(trouble))
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
    remote = remote_run_at(new_uri(), Troublesome(lambda what, path: hang()))
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

    fs = Troublesome(trouble)
    remote = remote_run_at(new_uri(), fs)
    run = Watched(remote)
    run.save(remote, 10)
    assert is_slow.wait(PATIENCE_S)
    for timestep in range(20, 100, 10):
        run.save(remote, timestep)
        checkpoint.prune(remote.run_dir / "checkpoints", 2)
    go_on.set()
    run.upload.finish(PATIENCE_S)
    sent = [path.split("/")[-2] for path in fs.written if path.endswith("manifest.json")]
    assert sent == [step(10), step(90), step(80)]
    assert run.warnings() == []


def leave(remote: RemoteRun, reason: Any, error: BaseException | None = None) -> str:
    """What is said when the `with` block of a run is left; raises what it raises."""
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


def test_a_run_that_is_done_is_not_done_while_its_checkpoint_is_not_there(
    hang: Callable[[], object],
) -> None:
    with pytest.raises(StorageError, match="is NOT at"):
        leave(remote_run_at(new_uri(), Troublesome(lambda what, path: hang())), "done")


def test_an_interrupted_run_says_that_its_checkpoint_is_not_there(
    hang: Callable[[], object],
) -> None:
    said = leave(remote_run_at(new_uri(), Troublesome(lambda what, path: hang())), "interrupted")
    assert "is NOT at" in said


def test_a_failed_run_uploads_its_last_checkpoint_and_fails_as_it_failed() -> None:
    remote = remote_run_at(new_uri())
    with pytest.raises(RuntimeError, match="boom"):
        leave(remote, "failed", RuntimeError("boom"))
    assert checkpoints_at(remote.storage) == [step(10)]


def test_who_asks_twice_does_not_wait_for_an_upload(hang: Callable[[], object]) -> None:
    remote = remote_run_at(new_uri(), Troublesome(lambda what, path: hang()))
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        leave(remote, "interrupted", KeyboardInterrupt())
    assert time.monotonic() - began_s < 5  # The upload never ends.


def test_a_run_that_never_began_leaves_the_uri_alone() -> None:
    remote = remote_run_at(new_uri())
    with uploading(remote, ev.EventBus(), KEEP, None, Console(quiet=True)):
        pass
    assert remote.storage.names() == {}


class Killing(LocalFileSystem):  # type: ignore[misc]
    """Files on disk; the process is killed in the middle of the n-th that it writes."""

    cachable = False
    protocol = ("local",)  # Not `file`, whose files the storage writes aside first.

    def __init__(self, left: int) -> None:
        super().__init__(auto_mkdir=True)
        self.left = left

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        self.left -= 1
        if self.left == 0:
            super().pipe_file(path, value[: len(value) // 2], **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        super().pipe_file(path, value, **kwargs)


def _upload_and_die(uri: str, run_dir: Path, left: int) -> None:
    Uploader(
        RemoteRun(Storage(uri, Killing(left)), run_dir), KEEP, 10, on_saved=lambda name: None
    ).run()


def test_whenever_an_upload_is_killed_what_verifies_there_is_what_was_saved(
    tmp_path: Path,
) -> None:
    """With every file cut in the middle, as an object store would never do."""
    there, here = tmp_path / "there", tmp_path / "here"
    remote = RemoteRun(Storage(f"file://{there}", LocalFileSystem(auto_mkdir=True)), here)
    here.mkdir()
    save(here, 10)
    uploads(remote).run()
    save(here, 20)
    spawn = multiprocessing.get_context("spawn")
    seen: list[list[int]] = []
    children = []
    for left in range(1, 6):
        place = tmp_path / f"there{left}"
        shutil.copytree(there, place)
        child = spawn.Process(target=_upload_and_die, args=(f"file://{place}", here, left))
        child.start()
        children.append((place, child))
    for place, child in children:
        child.join(PATIENCE_S)
        assert child.exitcode == -signal.SIGKILL
        storage = Storage(f"file://{place}", LocalFileSystem(auto_mkdir=True))
        verified = []
        for name in checkpoints_at(storage):
            try:
                found = fetch_checkpoint(storage, name, tmp_path / f"back-{place.name}")
            except CheckpointError:
                continue
            assert found.files["model.safetensors"] == b"weights%d" % found.timestep
            verified.append(found.timestep)
        seen.append(verified)
        # The next session mends it.
        uploads(RemoteRun(storage, here), resumed=20).run()
        assert checkpoints_at(storage) == [step(10), step(20)]
    assert seen == [[10]] * 5

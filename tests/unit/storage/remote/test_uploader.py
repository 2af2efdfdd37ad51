"""A round of uploads makes a run's URI like its local copy; no reader sees half a checkpoint."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import CheckpointError, StorageError
from keisei_ray.selfplay.pool import Pool
from keisei_ray.storage import checkpoint
from keisei_ray.storage.remote.filesystem import Storage
from keisei_ray.storage.remote.remote_run import RemoteRun, checkpoints_at, fetch_checkpoint
from keisei_ray.storage.remote.uploader import OvertakenError, Uploader
from tests.helpers.remote_runs import InterruptedFileSystem, new_uri, remote_run_at, save, step

KEEP = CheckpointConfig(keep_last=2)


PATIENCE_S = 30


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def uploads(
    remote: RemoteRun, resumed: int | None = None, keep: CheckpointConfig = KEEP
) -> Uploader:
    return Uploader(remote, keep, resumed, on_saved=lambda name: None)


def test_a_manifest_is_written_after_its_files_the_records_and_the_pools_weights() -> None:
    fs = InterruptedFileSystem()
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
    fs = InterruptedFileSystem()
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


def test_checkpoints_are_pruned_at_the_uri_by_the_rule_of_the_local_copy() -> None:
    remote = remote_run_at(new_uri())
    keep = CheckpointConfig(interval_timesteps=10, keep_last=2, keep_every_timesteps=40)
    session = uploads(remote, keep=keep)
    for timestep in range(10, 100, 10):
        save(remote.run_dir, timestep)
        checkpoint.prune(remote.run_dir / "checkpoints", keep)
        session.run()
    here = [path.name for path in checkpoint.list_complete(remote.run_dir / "checkpoints")]
    assert checkpoints_at(remote.storage) == here == [step(40), step(80), step(90)]


def test_the_newest_healthy_checkpoint_stays_at_the_uri() -> None:
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10)
    for timestep in (20, 30):
        checkpoint.save(remote.run_dir / "checkpoints", timestep, {"a": b""}, {"health": "bad"})
    keep = CheckpointConfig(interval_timesteps=10, keep_last=1)
    uploads(remote, keep=keep).run()
    assert checkpoints_at(remote.storage) == [step(10), step(30)]


def test_the_best_rated_stay_at_the_uri_whichever_machine_has_them() -> None:
    """With ratings, the local copy decides about those that it has."""
    remote = remote_run_at(new_uri())
    checkpoints_dir = remote.run_dir / "checkpoints"
    keep = CheckpointConfig(interval_timesteps=10, keep_last=1, keep_best=1)
    session = Uploader(
        remote, keep, None, on_saved=lambda name: None, read_elo=lambda: {1: 30.0, 2: 40.0, 3: 9.0}
    )
    for version in (1, 2, 3, 4, 5):
        checkpoint.save(checkpoints_dir, 10 * version, {"a": b""}, {"weights_version": version})
    session.run()
    assert checkpoints_at(remote.storage) == [step(10 * version) for version in (1, 2, 3, 4, 5)]
    for version in (1, 2, 3):
        shutil.rmtree(checkpoints_dir / step(10 * version))
    session.run()
    assert checkpoints_at(remote.storage) == [step(20), step(40), step(50)]


def test_a_checkpoint_that_is_only_at_the_uri_is_pruned_too() -> None:
    """After a resume on another machine, only the newest is in the local copy."""
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10, 20)
    uploads(remote).run()
    shutil.rmtree(remote.run_dir / "checkpoints" / step(10))
    save(remote.run_dir, 30)
    uploads(remote, resumed=20).run()
    assert checkpoints_at(remote.storage) == [step(20), step(30)]


def test_weights_stay_at_the_uri_as_long_as_a_checkpoint_there_names_them() -> None:
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


def test_checkpoints_beyond_the_one_resumed_from_are_set_aside_at_the_uri() -> None:
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


def test_a_table_of_ratings_that_a_resume_has_removed_is_removed_at_the_uri() -> None:
    remote = remote_run_at(new_uri())
    (remote.run_dir / "ratings.json").write_text("{}")
    save(remote.run_dir, 10)
    uploads(remote).run()
    uploads(remote, resumed=10).run()
    assert remote.storage.read("ratings.json") == b"{}"
    (remote.run_dir / "ratings.json").unlink()
    uploads(remote, resumed=10).run()
    assert remote.storage.read("ratings.json") is None


def test_nothing_is_written_before_the_run_where_no_checkpoint_is_newer() -> None:
    fs = InterruptedFileSystem()
    remote = remote_run_at(new_uri(), fs)
    save(remote.run_dir, 10)
    uploads(remote, resumed=10).set_newer_aside()
    assert fs.written == []
    uploads(remote, resumed=10).run()
    fs.written.clear()
    uploads(remote, resumed=10).set_newer_aside()
    assert fs.written == []


def test_checkpoints_are_set_aside_although_the_first_attempt_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10, 20, 30)
    uploads(remote, keep=CheckpointConfig(keep_last=3)).run()
    for timestep in (20, 30):
        shutil.rmtree(remote.run_dir / "checkpoints" / step(timestep))
    save(remote.run_dir, 15)
    session = uploads(remote, resumed=10, keep=CheckpointConfig(keep_last=3))
    with monkeypatch.context() as broken:

        def copy(name: str, to: str) -> None:
            raise StorageError("timeout")

        broken.setattr(remote.storage, "copy", copy)
        with pytest.raises(StorageError, match="timeout"):
            session.run()
    session.run()
    assert checkpoints_at(remote.storage) == [step(10), step(15)]
    assert session.uploaded == {step(10), step(15)}


def test_a_checkpoint_that_the_rule_removed_at_the_uri_is_not_sent_again() -> None:
    """In the local copy, which begins with the resumed checkpoint, it is the first of its span."""
    remote = remote_run_at(new_uri())
    keep = CheckpointConfig(interval_timesteps=10, keep_last=2, keep_every_timesteps=100)
    save(remote.run_dir, 110, 150)
    uploads(remote, keep=keep).run()
    shutil.rmtree(remote.run_dir / "checkpoints" / step(110))
    saved: list[str] = []
    session = Uploader(remote, keep, 150, on_saved=saved.append)
    for timestep in (160, 170, 180, 190):
        save(remote.run_dir, timestep)
        checkpoint.prune(remote.run_dir / "checkpoints", keep)
        session.run()
    assert saved.count(step(150)) == 1
    assert checkpoints_at(remote.storage) == [step(110), step(180), step(190)]


def test_a_session_that_was_overtaken_writes_nothing_more() -> None:
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


def test_a_damaged_checkpoint_is_not_uploaded() -> None:
    remote = remote_run_at(new_uri())
    save(remote.run_dir, 10)
    (remote.run_dir / "checkpoints" / step(10) / "model.safetensors").write_bytes(b"WEIGHTS10")
    with pytest.raises(CheckpointError, match="SHA-256"):
        uploads(remote).run()
    assert checkpoints_at(remote.storage) == []


class Killing(LocalFileSystem):  # type: ignore[misc]
    """Files on disk, whose process is killed in the middle of the n-th file that it writes."""

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


@pytest.mark.slow
def test_whenever_an_upload_is_killed_what_verifies_there_is_what_was_saved(
    tmp_path: Path,
) -> None:
    """Every file is cut in the middle, which an object store would never do."""
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
        # The next session completes the upload.
        uploads(RemoteRun(storage, here), resumed=20).run()
        assert checkpoints_at(storage) == [step(10), step(20)]
    assert seen == [[10]] * 5

"""Resuming of a run at a URI: which checkpoint is taken, and what is refused."""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import (
    CheckpointError,
    RunDirError,
    StorageError,
    UnreadableCheckpointError,
)
from keisei_ray.storage import checkpoint
from keisei_ray.storage import run_lock as run_lock_module
from keisei_ray.storage.remote.filesystem import Storage
from keisei_ray.storage.remote.remote_resume import holds_checkpoint, saved_config, use_local_copy
from keisei_ray.storage.remote.remote_run import (
    RemoteRun,
    checkpoints_at,
    load_checkpoint,
    local_copy,
    split_uri,
)
from keisei_ray.storage.remote.uploader import Uploader
from keisei_ray.storage.run_lock import run_lock
from keisei_ray.storage.superseded import set_newer_aside
from tests.helpers.killed_writers import being_saved
from tests.helpers.remote_runs import remote_run_at, save, step
from tests.helpers.unreadable import refuse_reading

KEEP = CheckpointConfig(keep_last=3)


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run with checkpoints 10 and 20 at a URI, and its local copy in the working directory."""
    move_to(tmp_path / "first machine", monkeypatch)
    remote = remote_run_at(f"file://{tmp_path}/bucket/runs/first", Storage.open("file:///x")._fs)
    save(remote.run_dir, 10, 20)
    (remote.run_dir / "pool").mkdir()
    (remote.run_dir / "pool" / "v1-abc.bin").write_bytes(b"a snapshot")
    upload(remote)
    return remote.storage.uri


def move_to(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.mkdir(exist_ok=True)
    monkeypatch.chdir(machine)


def home_of(uri: str) -> RemoteRun:
    return RemoteRun(Storage.open(uri), local_copy(uri))


def upload(remote: RemoteRun, resumed: int | None = None) -> None:
    Uploader(remote, KEEP, resumed, on_saved=lambda name: None).run()


def go_on(
    uri: str | None, resume: str | None = "latest"
) -> tuple[Config, RemoteRun | None, list[str], list[str]]:
    run = {"run_dir": uri, "resume": resume}
    said: list[str] = []
    warned: list[str] = []
    config, remote = use_local_copy(Config.model_validate({"run": run}), said.append, warned.append)
    return config, remote, said, warned


def lines(uri: str) -> list[str]:
    return (local_copy(uri) / "metrics.jsonl").read_text().splitlines()


def test_another_machine_gets_checkpoint_records_and_pool(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(tmp_path / "second machine", monkeypatch)
    config, remote, said, warned = go_on(uri)
    here = local_copy(uri)
    assert remote is not None
    assert (remote.storage.uri, remote.run_dir) == (uri, here)
    assert config.run.run_dir == str(here)
    assert config.run.resume == str(here / "checkpoints" / step(20))
    found = checkpoint.load(Path(config.run.resume))
    assert found.files["model.safetensors"] == b"weights20"
    assert lines(uri) == ['{"timestep": 10}', '{"timestep": 20}']
    assert (here / "pool" / "v1-abc.bin").read_bytes() == b"a snapshot"
    assert said == [f"{uri}/checkpoints/{step(20)} is taken"]
    assert warned == []
    assert [path.name for path in Path("runs").iterdir()] == [here.name]


def test_a_damaged_checkpoint_at_the_uri_is_skipped_with_a_warning(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(tmp_path / "second machine", monkeypatch)
    Storage.open(uri).write(f"checkpoints/{step(20)}/model.safetensors", b"WEIGHTS20")
    config, _, _, warned = go_on(uri)
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(10))
    assert len(warned) == 1
    assert step(20) in warned[0]
    assert "SHA-256" in warned[0]


def test_a_local_copy_that_cannot_be_read_is_neither_passed_over_nor_set_aside(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(local_copy(uri), 30)
    newest = local_copy(uri) / "checkpoints" / step(30)
    refuse_reading(monkeypatch, newest / "model.safetensors")
    before = sorted(Path("runs").rglob("*"))
    with pytest.raises(UnreadableCheckpointError, match=step(30)):
        go_on(uri)
    assert sorted(Path("runs").rglob("*")) == before
    # One that is named is fetched instead.
    config, *_ = go_on(uri, f"{uri}/checkpoints/{step(20)}")
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(20))


def test_what_was_fetched_and_cannot_be_read_here_is_not_taken_for_damaged(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(tmp_path / "second machine", monkeypatch)

    def load(path: Path) -> object:
        raise UnreadableCheckpointError(f"cannot read {path}")

    monkeypatch.setattr(checkpoint, "load", load)
    with pytest.raises(UnreadableCheckpointError, match=step(20)):
        go_on(uri)


def test_nothing_intact_anywhere_is_refused(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(tmp_path / "second machine", monkeypatch)
    for timestep in (10, 20):
        Storage.open(uri).write(f"checkpoints/{step(timestep)}/progress.json", b"")
    with pytest.raises(CheckpointError, match="2 damaged"):
        go_on(uri)


def test_nothing_is_fetched_if_the_local_copy_is_ahead(uri: str) -> None:
    save(local_copy(uri), 30)
    config, _, said, _ = go_on(uri)
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(30))
    assert f"newest at {uri} is {step(20)}" in said[0]
    assert len(lines(uri)) == 3


def test_nothing_is_fetched_if_the_local_copy_is_equal(uri: str) -> None:
    (local_copy(uri) / "mine").write_text("kept")
    config, _, _, _ = go_on(uri)
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(20))
    assert (local_copy(uri) / "mine").exists()


def test_a_local_copy_that_is_behind_is_renamed_as_a_whole(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(tmp_path / "second machine", monkeypatch)
    go_on(uri)
    save(local_copy(uri), 30)
    upload(home_of(uri), resumed=20)
    move_to(tmp_path / "first machine", monkeypatch)
    config, _, said, _ = go_on(uri)
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(30))
    aside = Path(f"{local_copy(uri)}.superseded-0")
    assert str(aside) in said[0]
    assert sorted(path.name for path in (aside / "checkpoints").iterdir()) == [step(10), step(20)]
    assert len(lines(uri)) == 3


def test_the_local_copy_of_another_run_is_not_used_for_this_one(uri: str) -> None:
    save(local_copy(uri), 99)
    (local_copy(uri) / "run-id").write_text("another\n")
    config, _, _, warned = go_on(uri)
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(20))
    assert "another run" in warned[0]
    assert Path(f"{local_copy(uri)}.superseded-0", "checkpoints", step(99)).is_dir()


def test_a_checkpoint_is_resumed_by_its_uri(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(tmp_path / "second machine", monkeypatch)
    config, remote, _, _ = go_on(None, f"{uri}/checkpoints/{step(10)}")
    assert remote is not None
    assert remote.storage.uri == uri
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(10))
    save(local_copy(uri), 15)
    upload(remote, resumed=10)
    assert checkpoints_at(remote.storage) == [step(10), step(15)]
    assert remote.storage.read(f"checkpoints/superseded-0-{step(20)}/manifest.json") is not None


def test_a_run_that_went_back_goes_on_from_there_though_nothing_of_it_was_uploaded(
    uri: str,
) -> None:
    _, remote, _, _ = go_on(None, f"{uri}/checkpoints/{step(10)}")
    assert remote is not None
    Uploader(remote, KEEP, 10, on_saved=lambda name: None).set_newer_aside()
    set_newer_aside(local_copy(uri) / "checkpoints", 10, on_renamed=lambda old, new: None)
    save(local_copy(uri), 15)
    config, _, _, warned = go_on(uri)
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(15))
    assert warned == []
    assert remote.storage.read(f"checkpoints/superseded-0-{step(20)}/manifest.json") is not None


def test_a_checkpoint_at_a_uri_may_begin_a_run_elsewhere(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(tmp_path / "second machine", monkeypatch)
    config, remote, _, _ = go_on("runs/mine", f"{uri}/checkpoints/{step(10)}")
    assert (remote, config.run.run_dir) == (None, "runs/mine")
    assert config.run.resume == str(local_copy(uri) / "checkpoints" / step(10))
    with pytest.raises(RunDirError, match="already holds a run"):
        go_on(uri, "runs/mine/checkpoints/x")


def test_a_fresh_run_is_refused_if_the_uri_or_the_local_copy_holds_one(uri: str) -> None:
    with pytest.raises(RunDirError, match="Go on with it by --resume latest"):
        go_on(uri, None)
    Storage.open(uri).remove("checkpoints")
    with pytest.raises(RunDirError, match="which has no checkpoint"):
        go_on(uri, None)
    Storage.open(uri).remove("config.json")
    with pytest.raises(RunDirError, match="its local copy"):
        go_on(uri, None)
    shutil.rmtree(local_copy(uri))
    config, remote, _, _ = go_on(uri, None)
    assert remote is not None
    assert config.run.resume is None


def test_a_run_that_is_named_by_its_local_copy_goes_on_at_the_uri(uri: str) -> None:
    """The terminal names the local copy at the end of a run, so users resume from it."""
    config = Config.model_validate({"run": {"run_dir": uri}})
    (local_copy(uri) / "config.json").write_text(config.model_dump_json())
    _, remote, _, _ = go_on(str(local_copy(uri)))
    assert remote is not None
    assert remote.storage.uri == uri


def test_local_runs_are_left_alone(tmp_path: Path) -> None:
    for resume in (None, "latest", "runs/x/checkpoints/y"):
        config, remote, said, warned = go_on(str(tmp_path), resume)
        assert (config.run.run_dir, config.run.resume) == (str(tmp_path), resume)
        assert (remote, said, warned) == (None, [], [])


def test_the_settings_of_a_resume_come_with_the_run(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saved_config(uri, "latest") as path:
        assert path == local_copy(uri) / "config.json"
    move_to(tmp_path / "second machine", monkeypatch)
    with saved_config(uri, "latest") as path:
        assert path is not None
        assert Config.model_validate_json(path.read_text()) == Config()
    assert list(Path("runs").iterdir()) == []


def test_a_checkpoint_is_read_by_uri_for_a_match_and_leaves_nothing(uri: str) -> None:
    before = sorted(Path("runs").rglob("*"))
    where, found = load_checkpoint(uri, warn=pytest.fail)
    assert (where, found.timestep) == (f"{uri}/checkpoints/{step(20)}", 20)
    assert load_checkpoint(f"{uri}/checkpoints/{step(10)}", warn=pytest.fail)[1].timestep == 10
    with pytest.raises(CheckpointError, match=step(30)):
        load_checkpoint(f"{uri}/checkpoints/{step(30)}", warn=pytest.fail)
    assert sorted(Path("runs").rglob("*")) == before


def test_holds_checkpoint_looks_at_the_uri_and_the_local_copy(uri: str, tmp_path: Path) -> None:
    assert holds_checkpoint(uri)
    assert not holds_checkpoint(f"file://{tmp_path}/bucket/runs/second")
    with pytest.raises(StorageError):
        holds_checkpoint("nothing")


def test_holds_checkpoint_waits_until_a_killed_run_is_saved_in_the_local_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"file://{tmp_path}/bucket/runs/first"
    local_copy(uri).mkdir(parents=True)
    with being_saved(local_copy(uri)) as end_saving:

        def sleep(seconds: float) -> None:
            save(local_copy(uri), 10)
            end_saving()

        clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
        monkeypatch.setattr(run_lock_module, "time", clock)
        assert holds_checkpoint(uri)


@pytest.mark.parametrize(
    ("given", "run", "name"),
    [
        ("s3://b/runs/first/", "s3://b/runs/first", None),
        ("s3://b/runs/first/checkpoints", "s3://b/runs/first", None),
        (f"S3://b/runs/first/checkpoints/{step(3)}/", "s3://b/runs/first", step(3)),
    ],
)
def test_a_uri_names_a_run_or_one_of_its_checkpoints(
    given: str, run: str, name: str | None
) -> None:
    assert split_uri(given) == (run, name)


def test_the_same_uri_finds_the_same_local_copy_and_others_do_not() -> None:
    assert local_copy("s3://b/runs/first") == local_copy("s3://b/runs/first")
    names = {local_copy(u).name for u in ("s3://b/runs/first", "s3://b/x/first", "gs://b/x/first")}
    assert len(names) == 3
    assert all(name.startswith("first-") for name in names)


def test_nothing_is_changed_before_the_run_is_claimed(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(local_copy(uri), 30)
    (local_copy(uri) / "run-id").write_text("another run")

    def claim(storage: Storage) -> None:
        raise RunDirError("a run is going on there")

    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    before = content()
    for resume in ("latest", f"{uri}/checkpoints/{step(10)}", None):
        config = Config.model_validate({"run": {"run_dir": uri, "resume": resume}})
        with pytest.raises(RunDirError, match="going on"):
            use_local_copy(config, print, print, claim)
        assert content() == before


def test_a_local_copy_in_which_a_process_trains_is_not_renamed(uri: str) -> None:
    (local_copy(uri) / "run-id").write_text("another run")
    with run_lock(local_copy(uri)):
        with pytest.raises(RunDirError, match="a run is going on there"):
            go_on(uri)
        assert (local_copy(uri) / "run-id").read_text() == "another run"
    go_on(uri)
    assert (local_copy(uri) / "run-id").read_text() != "another run"


def save_with_settings(run_dir: Path, timestep: int, seed: int) -> None:
    config = Config.model_validate({"run": {"seed": seed}}).model_dump_json().encode()
    files = {"progress.json": b"{}", "config.json": config}
    checkpoint.save(run_dir / "checkpoints", timestep, files, {})


def test_the_settings_of_a_resume_are_those_in_the_newest_checkpoint_that_verifies(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_with_settings(local_copy(uri), 30, seed=30)
    save_with_settings(local_copy(uri), 40, seed=40)
    upload(home_of(uri), 20)

    def seed(resume: str = "latest") -> int:
        with saved_config(uri, resume) as path:
            assert path is not None
            return Config.model_validate_json(path.read_text()).run.seed

    assert seed() == 40
    move_to(tmp_path / "second machine", monkeypatch)
    assert seed() == 40
    assert seed(f"{uri}/checkpoints/{step(30)}") == 30
    damaged = f"checkpoints/{step(40)}/config.json"
    home_of(uri).storage.write(damaged, Config().model_dump_json().encode())
    assert seed() == 30


def test_a_local_copy_without_its_settings_still_goes_on_at_the_uri(uri: str) -> None:
    config = Config.model_validate({"run": {"run_dir": uri}}).model_dump_json().encode()
    files = {"progress.json": b"{}", "config.json": config}
    checkpoint.save(local_copy(uri) / "checkpoints", 30, files, {})
    (local_copy(uri) / "config.json").unlink()
    _, remote, _, _ = go_on(str(local_copy(uri)))
    assert remote is not None
    assert remote.storage.uri == uri

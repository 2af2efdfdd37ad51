"""Checkpoints: complete or absent, whatever happens to the disk or to the process."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import CheckpointError, RunDirError, UnreadableCheckpointError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.manifest import _digest
from tests.helpers.held_files import held_open
from tests.helpers.unreadable import SYSTEM_ERRORS, refuse_reading

FILES = {"model.safetensors": bytes(range(256)) * 8, "learner.pt": b"state", "empty": b""}
INFO: dict[str, str | int | float | bool | None] = {
    "weights_version": 41,
    "weights_digest": "ab12",
    "ratio": 0.1,
    "note": None,
}


def never(path: Path, cause: str) -> None:
    pytest.fail(f"skipped {path}: {cause}")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def rewrite_manifest(path: Path, **changes: object) -> None:
    """Changes entries of a manifest and gives it the digest of its new content."""
    where = path / "manifest.json"
    body = json.loads(where.read_text()) | changes
    del body["digest"]
    where.write_text(json.dumps(body | {"digest": _digest(body)}))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "run" / "checkpoints", 1234, FILES, INFO)
    assert path == tmp_path / "run" / "checkpoints" / "step-000000001234"
    loaded = checkpoint.load(path)
    assert loaded == checkpoint.Checkpoint(path, 1234, INFO, FILES)
    assert checkpoint.find_latest(path.parent, never) == loaded
    assert names(path.parent) == [path.name]
    assert names(path) == sorted([*FILES, "manifest.json"])


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum to compare with")
def test_the_manifest_holds_what_sha256sum_says(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 5, FILES, INFO)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["schema"], manifest["timestep"], manifest["info"]) == (1, 5, INFO)
    for name, content in FILES.items():
        said = subprocess.check_output(["sha256sum", path / name], text=True).split()[0]
        assert manifest["files"][name] == {"sha256": said, "bytes": len(content)}


def test_latest_is_the_greatest_timestep_not_the_last_name_or_time(tmp_path: Path) -> None:
    for timestep in (0, 20, 3, 10**12, 999_999_999_999):
        checkpoint.save(tmp_path, timestep, FILES, {})
    latest = checkpoint.find_latest(tmp_path, never)
    assert latest is not None
    assert latest.timestep == 10**12


def test_no_directory_and_an_empty_one_have_no_latest(tmp_path: Path) -> None:
    assert checkpoint.find_latest(tmp_path / "missing", never) is None
    (tmp_path / "notes").mkdir()
    (tmp_path / "step-12").mkdir()
    (tmp_path / ".tmp-step-000000000012").mkdir()
    assert checkpoint.find_latest(tmp_path, never) is None


def test_a_flipped_bit_anywhere_names_the_file(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES | {"big": random.Random(0).randbytes(300)}, INFO)
    for name in ("model.safetensors", "learner.pt", "big", "manifest.json"):
        whole = (path / name).read_bytes()
        step = 37 if len(whole) > 1000 and name != "manifest.json" else 1
        for place in range(0, len(whole), step):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (place % 8)
            (path / name).write_bytes(damaged)
            with pytest.raises(CheckpointError, match=name):
                checkpoint.load(path)
        (path / name).write_bytes(whole)
    checkpoint.load(path)


def test_truncation_of_any_file_names_it(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    for name in ("model.safetensors", "learner.pt", "manifest.json"):
        whole = (path / name).read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole) - 2):
            (path / name).write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=name):
                checkpoint.load(path)
        (path / name).write_bytes(whole)
    (path / "empty").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="empty: 1 bytes, the manifest says 0"):
        checkpoint.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in [*FILES, "manifest.json"]:
        path = checkpoint.save(tmp_path, 7, FILES, INFO)
        (path / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            checkpoint.load(path)
        shutil.rmtree(path)


def test_a_directory_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    (path / "learner.pt").unlink()
    (path / "learner.pt").mkdir()
    with pytest.raises(CheckpointError, match=r"learner\.pt"):
        checkpoint.load(path)


def test_a_file_that_the_manifest_does_not_name_is_not_loaded(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    (path / "extra.pt").write_bytes(b"someone's")
    assert checkpoint.load(path).files == FILES


def test_a_path_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(CheckpointError, match=f"no checkpoint at {path}"):
            checkpoint.load(path)
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"nope"])
def test_a_manifest_that_is_not_json_is_named(tmp_path: Path, text: bytes) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    (path / "manifest.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is not JSON"):
        checkpoint.load(path)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"schema": "1"}', '{"schema": 0}'])
def test_json_that_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    (path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a checkpoint's manifest"):
        checkpoint.load(path)


def test_a_newer_schema_says_so(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    rewrite_manifest(path, schema=2)
    with pytest.raises(CheckpointError, match="schema 2; this program reads up to 1"):
        checkpoint.load(path)


ENTRY = {"sha256": "0", "bytes": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"../../etc/passwd": ENTRY}}, "'../../etc/passwd' is not a plain file name"),
        ({"files": {"a/b": ENTRY}}, "'a/b'"),
        ({"files": {"a\\b": ENTRY}}, "plain file name"),
        ({"files": {"/a": ENTRY}}, "'/a'"),
        ({"files": {"..": ENTRY}}, "'..'"),
        ({"files": {"": ENTRY}}, "''"),
        ({"files": {"manifest.json": ENTRY}}, "'manifest.json'"),
        ({"files": {"a": {"bytes": 0}}}, "entry of 'a'"),
        ({"files": {"a": {"sha256": "0", "bytes": "0"}}}, "entry of 'a'"),
        ({"files": {"a": None}}, "entry of 'a'"),
        ({"files": {}}, "'files'"),
        ({"files": ["a"]}, "'files'"),
        ({"info": None}, "'info'"),
        ({"info": {"a": [1]}}, "not a scalar"),
        ({"timestep": -1}, "timestep = -1"),
        ({"timestep": "7"}, "timestep = '7'"),
        ({"timestep": 8}, "of timestep 8: a renamed copy"),
    ],
)
def test_a_hand_made_manifest_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    rewrite_manifest(path, **changes)
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.load(path)
    assert "manifest.json" in str(refusal.value)
    assert message in str(refusal.value)


def test_a_copy_under_another_name_can_be_loaded_by_its_path(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "run", 7, FILES, INFO)
    shutil.copytree(path, tmp_path / "best")
    assert checkpoint.load(tmp_path / "best").timestep == 7


def test_latest_skips_damaged_ones_newest_first_and_reports_each(tmp_path: Path) -> None:
    paths = [checkpoint.save(tmp_path, t, FILES, INFO) for t in (10, 20, 30, 40)]
    (paths[3] / "learner.pt").write_bytes(b"stAte")
    (paths[2] / "manifest.json").unlink()
    skipped = []
    latest = checkpoint.find_latest(tmp_path, lambda path, cause: skipped.append((path, cause)))
    assert latest is not None
    assert latest.timestep == 20
    assert [path for path, _ in skipped] == [paths[3], paths[2]]
    assert "learner.pt" in skipped[0][1]
    assert "manifest.json is missing" in skipped[1][1]
    for path in paths[:2]:
        (path / "learner.pt").unlink()
    assert checkpoint.find_latest(tmp_path, lambda *_: None) is None


@pytest.mark.parametrize("number", SYSTEM_ERRORS)
@pytest.mark.parametrize(("name", "call"), [("manifest.json", "open"), ("learner.pt", "open"),
                                            ("learner.pt", "stat"), ("", "stat")])  # fmt: skip
def test_a_newest_checkpoint_that_cannot_be_read_is_not_taken_for_damaged(
    number: int, name: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newest = (checkpoint.save(tmp_path, t, FILES, INFO) for t in (10, 20))
    refuse_reading(monkeypatch, newest / name, number, call)
    with pytest.raises(UnreadableCheckpointError) as refusal:
        checkpoint.find_latest(tmp_path, never)
    message = str(refusal.value)
    assert message.startswith(f"cannot read {newest / name}: {os.strerror(number)}. Check its")
    assert message.endswith("or name an older one by --resume PATH.")
    assert "\n" not in message
    skipped: list[Path] = []
    found = checkpoint.find_latest(
        tmp_path, lambda path, cause: skipped.append(path), skips_unreadable=True
    )
    assert found is not None
    assert (found.path, skipped) == (older, [newest])


def test_a_checkpoint_that_cannot_be_read_is_passed_over_where_one_is_only_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newest = (checkpoint.save(tmp_path, t, FILES, INFO) for t in (10, 20))
    refuse_reading(monkeypatch, newest / "manifest.json")
    assert checkpoint.newest(tmp_path) == older
    assert checkpoint.list_complete(tmp_path) == [older]
    assert checkpoint.prune(tmp_path, keeping(1)) == []


def test_saving_the_same_content_again_changes_nothing(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    before = {p.name: p.stat().st_mtime_ns for p in path.iterdir()} | {"": path.stat().st_ino}
    assert checkpoint.save(tmp_path, 7, FILES, INFO) == path
    assert {p.name: p.stat().st_mtime_ns for p in path.iterdir()} | {
        "": path.stat().st_ino
    } == before


@pytest.mark.parametrize(
    ("files", "info"), [(FILES, INFO | {"weights_version": 42}), ({"other": b"1"}, INFO)]
)
def test_saving_other_content_for_the_same_timestep_replaces_it(
    tmp_path: Path, files: dict[str, Any], info: dict[str, Any]
) -> None:
    checkpoint.save(tmp_path, 7, FILES, INFO)
    path = checkpoint.save(tmp_path, 7, files, info)
    assert checkpoint.load(path) == checkpoint.Checkpoint(path, 7, info, files)
    assert names(tmp_path) == [path.name]


def test_saving_over_a_damaged_checkpoint_repairs_it(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    (path / "learner.pt").write_bytes(b"stAte")
    checkpoint.save(tmp_path, 7, FILES, INFO)
    assert checkpoint.load(path).files == FILES


def test_a_replacement_cut_between_its_renames_is_found_and_put_right(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    replaced = path.with_name(path.name + ".replaced")
    path.rename(replaced)
    latest = checkpoint.find_latest(tmp_path, never)
    assert latest is not None
    assert (latest.path, latest.files) == (replaced, FILES)
    checkpoint.save(tmp_path, 8, FILES, INFO)
    assert names(tmp_path) == ["step-000000000007", "step-000000000008"]
    assert checkpoint.load(path).files == FILES


def test_a_replacement_cut_before_its_clean_up_shows_the_new_content(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, {"old": b""}, INFO)
    path.rename(path.with_name(path.name + ".replaced"))
    shutil.copytree(path.with_name(path.name + ".replaced"), tmp_path / "keep")
    checkpoint.save(tmp_path / "elsewhere", 7, {"new": b""}, INFO).rename(path)
    latest = checkpoint.find_latest(tmp_path, never)
    assert latest is not None
    assert latest.files == {"new": b""}
    checkpoint.save(tmp_path, 8, FILES, INFO)
    assert not path.with_name(path.name + ".replaced").exists()
    assert checkpoint.load(path).files == {"new": b""}


def test_leftovers_of_an_interrupted_save_are_ignored_and_removed_by_the_next(
    tmp_path: Path,
) -> None:
    leftover = tmp_path / ".tmp-step-000000000099"
    shutil.copytree(checkpoint.save(tmp_path / "other", 99, FILES, INFO), leftover)
    shutil.rmtree(tmp_path / "other")
    assert checkpoint.find_latest(tmp_path, never) is None
    checkpoint.save(tmp_path, 7, FILES, INFO)
    assert names(tmp_path) == ["step-000000000007"]


@pytest.mark.parametrize(
    ("timestep", "files", "info"),
    [
        (-1, FILES, {}),
        (1, {}, {}),
        (1, {"a/b": b""}, {}),
        (1, {"../b": b""}, {}),
        (1, {".hidden": b""}, {}),
        (1, {"manifest.json": b""}, {}),
        (1, FILES, {"a": [1]}),
        (1, FILES, {"a": float("nan")}),
    ],
)
def test_what_no_checkpoint_can_hold_is_refused_before_anything_is_written(
    tmp_path: Path, timestep: int, files: dict[str, Any], info: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # The cases have different messages.
        checkpoint.save(tmp_path / "run", timestep, files, info)
    assert names(tmp_path) == []


def test_a_file_in_place_of_the_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    for directory in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        with pytest.raises(RunDirError, match=r"cannot save the checkpoint .*") as refusal:
            checkpoint.save(directory, 7, FILES, INFO)
        assert "\n" not in str(refusal.value)
    with pytest.raises(RunDirError, match="cannot list"):
        checkpoint.find_latest(tmp_path / "run", never)


FILL = """
import resource, sys
from pathlib import Path
from keisei_ray.storage import checkpoint
from keisei_ray.errors import RunDirError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoint.save(Path(sys.argv[1]), 20, {"small": b"1", "big": bytes(100_000)}, {})
except RunDirError as error:
    print(error)
"""


def test_a_file_that_does_not_fit_leaves_nothing_over_and_older_ones_untouched(
    tmp_path: Path,
) -> None:
    """RLIMIT_FSIZE stands for a full disk: the write fails in the middle, with OSError."""
    checkpoint.save(tmp_path, 10, FILES, INFO)
    said = subprocess.check_output([sys.executable, "-c", FILL, tmp_path], text=True)
    assert said.count("\n") == 1
    assert "step-000000000020" in said
    assert "too large" in said
    assert names(tmp_path) == ["step-000000000010"]
    latest = checkpoint.find_latest(tmp_path, never)
    assert latest is not None
    assert latest.files == FILES


SAVE_FOREVER = """
import itertools, sys
from pathlib import Path
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.storage import checkpoint
same_step = sys.argv[2] == "replacing"
for k in itertools.count(int(sys.argv[3])):
    files = {f"file{i}": bytes([(k + i) % 256]) * 100_000 for i in range(4)}
    checkpoint.save(Path(sys.argv[1]), 5 if same_step else k, files, {"k": k})
    checkpoint.prune(Path(sys.argv[1]), CheckpointConfig(keep_last=2))
    print(k, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["growing", "replacing"])
def test_kill_9_in_the_middle_of_saves_never_loses_an_acknowledged_one(
    tmp_path: Path, mode: str
) -> None:
    rng = random.Random(mode)
    acknowledged = 0
    cut_short = 0
    for _ in range(12):
        command = [sys.executable, "-c", SAVE_FOREVER, str(tmp_path), mode, str(acknowledged + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            time.sleep(rng.uniform(0, 0.03))  # The moment of the kill; nothing waits for it.
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        cut_short += any(name.startswith(".tmp-") for name in names(tmp_path))
        latest = checkpoint.find_latest(tmp_path, never)
        assert latest is not None
        k = latest.info["k"]
        assert isinstance(k, int)
        assert acknowledged <= k <= acknowledged + 1
        assert latest.timestep == (5 if mode == "replacing" else k)
        assert latest.files == {f"file{i}": bytes([(k + i) % 256]) * 100_000 for i in range(4)}
    assert cut_short > 0, "no kill fell into a save: the test saw nothing"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="fsync targets seen by /proc")
def test_a_save_syncs_every_file_before_the_rename_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of a power cut: the order of system calls is the one that survives it."""
    calls: list[tuple[str, str]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        real_fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        calls.append(("rename", Path(target).name))
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    path = checkpoint.save(tmp_path, 7, FILES, INFO)
    aside = f".tmp-{path.name}"
    assert calls == [
        *(("fsync", name) for name in FILES),
        ("fsync", "manifest.json"),
        ("fsync", aside),
        ("rename", path.name),
        ("fsync", tmp_path.name),
    ]


def keeping(last: int, every: int | None = None) -> CheckpointConfig:
    return CheckpointConfig(keep_last=last, keep_every_timesteps=every)


def kept_steps(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in directory.iterdir())


def test_prune_keeps_the_newest_and_the_first_after_each_multiple(tmp_path: Path) -> None:
    steps = [0, 90, 110, 190, 205, 290, 420, 430, 490, 505]
    for step in steps:
        checkpoint.save(tmp_path, step, {"a": b""}, {})
    removed = checkpoint.prune(tmp_path, keeping(2, 100))
    assert kept_steps(tmp_path) == [110, 205, 420, 490, 505]
    assert [int(path.name[5:]) for path in removed] == [0, 90, 190, 290, 430]
    assert checkpoint.prune(tmp_path, keeping(2, 100)) == []
    checkpoint.prune(tmp_path, keeping(3))
    assert kept_steps(tmp_path) == [420, 490, 505]
    checkpoint.prune(tmp_path, keeping(1))
    assert kept_steps(tmp_path) == [505]


def test_pruning_after_every_save_keeps_what_pruning_once_keeps(tmp_path: Path) -> None:
    rng = random.Random(4)
    steps = sorted(rng.sample(range(1000), 40))
    for step in steps:
        checkpoint.save(tmp_path / "each", step, {"a": b""}, {})
        checkpoint.prune(tmp_path / "each", keeping(3, 70))
        checkpoint.save(tmp_path / "once", step, {"a": b""}, {})
    checkpoint.prune(tmp_path / "once", keeping(3, 70))
    firsts = {min(s for s in steps if s // 70 == span) for span in {s // 70 for s in steps} - {0}}
    assert kept_steps(tmp_path / "each") == sorted(firsts | set(steps[-3:]))
    assert kept_steps(tmp_path / "once") == kept_steps(tmp_path / "each")


def test_prune_never_counts_a_damaged_checkpoint_as_one_that_is_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        checkpoint.save(tmp_path, step, FILES, {})
    (tmp_path / "step-000000000050" / "learner.pt").write_bytes(b"")
    (tmp_path / "step-000000000040" / "manifest.json").unlink()
    checkpoint.prune(tmp_path, keeping(2))
    assert kept_steps(tmp_path) == [20, 30, 40, 50]


def test_prune_keeps_the_newest_healthy_checkpoint_however_old_it_is(tmp_path: Path) -> None:
    for step, info in ((10, {}), (20, {"health": "healthy"}), (30, {"health": "diverging: x"})):
        checkpoint.save(tmp_path, step, FILES, info)
    for step in (40, 50):
        checkpoint.save(tmp_path, step, FILES, {"health": "doubtful: y"})
        checkpoint.prune(tmp_path, keeping(1))
    assert kept_steps(tmp_path) == [20, 50]
    checkpoint.save(tmp_path, 60, FILES, {"health": "healthy"})
    checkpoint.prune(tmp_path, keeping(1))
    assert kept_steps(tmp_path) == [60]


def test_a_checkpoint_that_says_nothing_of_its_health_counts_as_healthy(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, FILES, {})
    checkpoint.save(tmp_path, 20, FILES, {"health": "diverging: x"})
    checkpoint.prune(tmp_path, keeping(1))
    assert kept_steps(tmp_path) == [10, 20]


def test_prune_of_nothing_removes_nothing(tmp_path: Path) -> None:
    assert checkpoint.prune(tmp_path / "missing", keeping(1)) == []


def test_prune_keeps_the_best_rated_and_those_whose_rating_may_still_come(tmp_path: Path) -> None:
    for version in range(1, 7):
        checkpoint.save(tmp_path, 10 * version, {"a": b""}, {"weights_version": version})
    keep = CheckpointConfig(keep_last=1, keep_best=1)
    checkpoint.prune(tmp_path, keep, elo_of={1: 10.0, 2: 30.0, 3: 20.0}, awaited={4})
    assert kept_steps(tmp_path) == [20, 40, 60]


def test_a_checkpoint_that_a_reader_has_open_is_removed_by_a_later_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with held_open("learner.pt"):
        for step in (10, 20, 30):
            checkpoint.save(tmp_path, step, FILES, INFO)
            checkpoint.prune(tmp_path, keeping(1))
        assert [path.name for path in checkpoint.list_all(tmp_path)] == ["step-000000000030"]
        left = {".tmp-pruned-step-000000000010", ".tmp-pruned-step-000000000020"}
        assert {name for name in names(tmp_path) if name.startswith(".")} == left
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2, "one for each"
    checkpoint.save(tmp_path, 40, FILES, INFO)
    assert kept_steps(tmp_path) == [30, 40]


def test_a_checkpoint_that_cannot_be_renamed_stays_and_the_next_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, step, FILES, INFO)
    rename = os.rename

    def busy(source: Path, target: Path) -> None:
        if source.name.endswith("10"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "rename", busy)
    removed = checkpoint.prune(tmp_path, keeping(1))
    assert [path.name for path in removed] == ["step-000000000020"]
    assert kept_steps(tmp_path) == [10, 30]


def test_a_replaced_checkpoint_that_a_reader_has_open_is_in_no_saves_way(tmp_path: Path) -> None:
    with held_open("learner.pt"):
        for content in (b"1", b"2"):
            checkpoint.save(tmp_path, 10, {"learner.pt": content}, {})
        checkpoint.save(tmp_path, 20, FILES, {})
    assert checkpoint.load(tmp_path / "step-000000000010").files == {"learner.pt": b"2"}
    checkpoint.save(tmp_path, 30, FILES, {})
    assert kept_steps(tmp_path) == [10, 20, 30]


def test_half_of_an_interrupted_save_that_cannot_be_removed_still_refuses_a_save(
    tmp_path: Path,
) -> None:
    checkpoint.save(tmp_path, 10, FILES, INFO).rename(tmp_path / ".tmp-step-000000000010")
    with held_open("learner.pt"), pytest.raises(RunDirError, match="cannot save the checkpoint"):
        checkpoint.save(tmp_path, 20, FILES, INFO)

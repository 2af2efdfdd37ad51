from pathlib import Path

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.storage.run_layout import checkpoint_name
from keisei_ray.storage.run_lock import run_lock
from keisei_ray.storage.superseded import newer_checkpoints, set_newer_aside, set_run_aside


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_only_checkpoints_beyond_the_timestep_are_newer() -> None:
    names = [checkpoint_name(30), checkpoint_name(20), checkpoint_name(10), "step-x", ".tmp-step-9"]
    assert newer_checkpoints(names, 10) == [checkpoint_name(20), checkpoint_name(30)]
    assert newer_checkpoints(names, None) == [checkpoint_name(n) for n in (10, 20, 30)]


def test_newer_checkpoints_get_the_lowest_number_that_is_free(tmp_path: Path) -> None:
    taken = f"superseded-0-{checkpoint_name(20)}"
    for name in (checkpoint_name(10), checkpoint_name(20), checkpoint_name(30), taken):
        (tmp_path / name).mkdir()
    renamed: list[tuple[str, str]] = []
    set_newer_aside(tmp_path, 10, on_renamed=lambda old, new: renamed.append((old, new)))
    assert renamed == [
        (checkpoint_name(20), f"superseded-1-{checkpoint_name(20)}"),
        (checkpoint_name(30), f"superseded-0-{checkpoint_name(30)}"),
    ]
    assert names_in(tmp_path) == sorted([checkpoint_name(10), taken, *(new for _, new in renamed)])


def test_no_checkpoints_directory_has_nothing_to_set_aside(tmp_path: Path) -> None:
    set_newer_aside(tmp_path / "missing", 10, on_renamed=lambda old, new: pytest.fail(old))


def test_a_checkpoint_that_cannot_be_renamed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    (tmp_path / checkpoint_name(20)).mkdir()
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RunDirError, match=f"{checkpoint_name(20)} cannot be renamed: Permission"):
        set_newer_aside(tmp_path, 10, on_renamed=lambda old, new: pytest.fail(old))


def test_a_run_is_set_aside_and_the_files_of_ray_tune_stay(tmp_path: Path) -> None:
    for name in ("config.json", "metrics.jsonl", "error.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "checkpoint_000001").mkdir()
    set_run_aside(tmp_path)
    assert names_in(tmp_path) == ["checkpoint_000001", "error.txt", "superseded-0"]
    assert (tmp_path / "superseded-0" / "metrics.jsonl").read_text() == "metrics.jsonl"
    set_run_aside(tmp_path)
    assert not (tmp_path / "superseded-1").exists()


def test_the_lock_of_the_process_that_sets_a_run_aside_stays(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with run_lock(tmp_path) as lock:
        set_run_aside(tmp_path)
        assert names_in(tmp_path) == [".lock", "superseded-0"]
        assert lock.beat(1)
    assert names_in(tmp_path) == ["superseded-0"]

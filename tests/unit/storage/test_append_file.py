"""A file that is only appended to stays where a reader finds it, whatever is done to it."""

import os
import shutil
from pathlib import Path

import pytest

from keisei_ray.storage.append_file import AppendFile


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_a_file_that_was_removed_is_written_again_whole(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = AppendFile(run_dir / "a")
    file.append(b"1\n")
    (run_dir / "a").unlink()
    file.append(b"2\n")
    file.append(b"3\n")
    file.close()
    assert (run_dir / "a").read_bytes() == b"1\n2\n3\n"
    assert os.listdir(run_dir) == ["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_file_that_was_replaced_is_gone_on_with(run_dir: Path) -> None:
    file = AppendFile(run_dir / "a")
    file.append(b"1\n")
    (run_dir / "b").write_bytes(b"edited\n")
    (run_dir / "b").rename(run_dir / "a")
    file.append(b"2\n")
    file.close()
    assert (run_dir / "a").read_bytes() == b"edited\n2\n"


def test_a_file_that_was_moved_is_begun_anew(run_dir: Path) -> None:
    file = AppendFile(run_dir / "a")
    file.append(b"1\n")
    (run_dir / "a").rename(run_dir / "a.1")
    file.append(b"2\n")
    file.close()
    assert (run_dir / "a.1").read_bytes() == b"1\n"
    assert (run_dir / "a").read_bytes() == b"2\n"


def test_a_file_goes_along_with_its_directory(run_dir: Path) -> None:
    file = AppendFile(run_dir / "a")
    run_dir.rename(run_dir.with_name("moved"))
    run_dir.mkdir()
    file.append(b"1\n")
    (run_dir.with_name("moved") / "a").unlink()
    file.append(b"2\n")
    file.close()
    assert (run_dir.with_name("moved") / "a").read_bytes() == b"1\n2\n"
    assert os.listdir(run_dir) == []


def test_nothing_is_written_into_a_directory_that_was_deleted_nor_into_its_successor(
    run_dir: Path,
) -> None:
    file = AppendFile(run_dir / "a")
    shutil.rmtree(run_dir)
    run_dir.mkdir()
    with pytest.raises(FileNotFoundError, match="run/a"):
        file.append(b"1\n")
    file.close()
    assert os.listdir(run_dir) == []

"""The file that --json names."""

import json
import os
from pathlib import Path

import pytest

from keisei_ray.errors import ConfigError
from keisei_ray.storage.result_file import (
    check_output_file,
    check_result_file,
    write_result_file,
)


def test_a_result_is_written_as_json(tmp_path: Path) -> None:
    file = tmp_path / "z.json"
    check_result_file(str(file))
    write_result_file(str(file), {"a": 1})
    assert json.loads(file.read_text()) == {"a": 1}


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (
        tmp_path,
        tmp_path / "file" / "x.json",
        tmp_path / "gone" / "x.json",
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(ConfigError, match="not a file in a directory that can be written"):
            check_result_file(str(path))
        with pytest.raises(ConfigError, match=r"--kif .*: not a file in a directory that can be"):
            check_output_file(path, "--kif")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_file_is_named_by_the_sign_for_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--json -: this command prints its result as text"):
        check_result_file("-")


def test_a_file_of_another_in_a_directory_of_ones_own_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "z.json"
    file.write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) == tmp_path)
    with pytest.raises(ConfigError, match="not a file in a directory that can be written"):
        check_result_file(str(file))

"""The file that --json names."""

import json
from pathlib import Path

import pytest

from keisei_ray.errors import ConfigError
from keisei_ray.storage.result_file import check_result_file, write_result_file


def test_the_directory_of_the_file_is_made_before_the_work_begins(tmp_path: Path) -> None:
    file = tmp_path / "x" / "y" / "z.json"
    check_result_file(str(file))
    write_result_file(str(file), {"a": 1})
    assert json.loads(file.read_text()) == {"a": 1}


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "x.json", tmp_path / "file" / "y" / "x.json"):
        with pytest.raises(ConfigError, match="not a file in a directory that can be written"):
            check_result_file(str(path))


def test_no_file_is_named_by_the_sign_for_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--json -: this command prints its result as text"):
        check_result_file("-")

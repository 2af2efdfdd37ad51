"""Names of runs in addresses, and which directories have one."""

import re
from pathlib import Path

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.web.shown_runs import ShownRuns
from tests.helpers.report_runs import write_run


def test_each_run_has_a_name_that_an_address_can_hold(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "'\"<x> ..?"]
    for path in paths:
        write_run(path, updates=1)
    (tmp_path / "b" / "no run").mkdir()
    runs = ShownRuns([str(tmp_path / "a"), str(tmp_path / "b")])
    names = runs.refresh()
    assert {path.resolve() for path in names.values()} == {path.resolve() for path in paths}
    assert "run" in names
    assert "run-2" in names
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) for name in names)
    write_run(tmp_path / "a" / "Run", updates=1)
    assert names.items() <= runs.refresh().items()


@pytest.mark.parametrize("name", ["empty", "missing", "file"])
def test_a_directory_without_runs_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match="is not the directory of a run and has none in it"):
        ShownRuns([str(tmp_path / name)])


def test_without_names_all_runs_are_shown_also_if_there_is_none_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = ShownRuns(())
    assert runs.refresh() == {}
    write_run(Path("runs/first"), updates=1)
    assert list(runs.refresh()) == ["first"]

"""Runs at URIs: shown from copies that follow them."""

from pathlib import Path

import pytest

from keisei_ray.errors import StorageError
from keisei_ray.report.run_files import read_run
from keisei_ray.web import remote_copies
from keisei_ray.web.remote_copies import RemoteCopies
from keisei_ray.web.shown_runs import ShownRuns
from tests.helpers.report_runs import write_run
from tests.helpers.run_events import record
from tests.helpers.status_runs import append
from tests.helpers.waiting import wait_until


def test_a_copy_follows_the_run_at_its_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_copies, "UPDATE_S", 0.01)
    run_dir = write_run(tmp_path / "bucket" / "first", updates=3)
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "large").touch()
    (tmp_path / "copies").mkdir()
    copies = RemoteCopies(tmp_path / "copies")
    path = copies.add(run_dir.as_uri())
    shown = ShownRuns([str(path)], copies.uris)
    assert [shown.place(place) for place in shown.refresh().values()] == [run_dir.as_uri()]
    assert read_run(path).timesteps == 3000
    assert not (path / "checkpoints").exists()
    copies.follow()
    append(run_dir / "metrics.jsonl", record(4))
    wait_until(lambda: read_run(path).timesteps == 4000)
    copies.end()


def test_a_uri_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unknown scheme"):
        RemoteCopies(tmp_path).add("nothing://bucket/run")

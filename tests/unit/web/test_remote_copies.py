"""Runs at URIs: shown from copies that follow them."""

import shutil
from pathlib import Path

import pytest

from keisei_ray.errors import CheckpointError, StorageError
from keisei_ray.report.run_files import read_run
from keisei_ray.web import remote_copies
from keisei_ray.web.opponents import opponent, opponents
from keisei_ray.web.remote_copies import RemoteCopies
from keisei_ray.web.shown_runs import ShownRuns
from keisei_ray.web.thinking_process import load_network
from tests.helpers.report_runs import write_run
from tests.helpers.run_events import record
from tests.helpers.saved_runs import save_untrained
from tests.helpers.status_runs import append
from tests.helpers.waiting import wait_until


def test_a_copy_follows_the_run_at_its_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_copies, "UPDATE_S", 0.01)
    run_dir = write_run(tmp_path / "bucket" / "first", updates=3)
    (tmp_path / "copies").mkdir()
    copies = RemoteCopies(tmp_path / "copies")
    path = copies.add(run_dir.as_uri())
    shown = ShownRuns([str(path)], copies.uris)
    assert [shown.place(place) for place in shown.refresh().values()] == [run_dir.as_uri()]
    assert read_run(path).timesteps == 3000
    copies.follow()
    append(run_dir / "metrics.jsonl", record(4))
    wait_until(lambda: read_run(path).timesteps == 4000)
    copies.end()


def test_checkpoints_at_a_uri_are_listed_as_opponents_and_fetched_when_they_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_copies, "UPDATE_S", 0.01)
    run_dir = write_run(tmp_path / "bucket" / "first", updates=1)
    first, _ = (save_untrained(run_dir, timestep=t) for t in (100, 200))
    (first / "progress.json").write_text('{"wall_time_s": 300.0}')
    copies = RemoteCopies(tmp_path / "copies")
    (tmp_path / "copies").mkdir()
    path, uri = copies.add(run_dir.as_uri()), run_dir.as_uri()
    newest, oldest = opponents(path, uri)
    assert (newest["timestep"], newest["problem"]) == (200, None)
    assert oldest["label"] == "as after 5 minutes of training"
    assert oldest["path"] == first.as_uri()
    assert not list(path.rglob("*.safetensors"))
    assert load_network(oldest["path"])
    with pytest.raises(CheckpointError, match="no checkpoint 'step-000000000300'"):
        opponent(path, uri, "step-000000000300")
    copies.follow()
    shutil.rmtree(first)
    wait_until(lambda: [found["timestep"] for found in opponents(path, uri)] == [200])
    copies.end()


def test_a_uri_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unknown scheme"):
        RemoteCopies(tmp_path).add("nothing://bucket/run")

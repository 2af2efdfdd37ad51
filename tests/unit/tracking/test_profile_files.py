"""Traces become files in the run directory."""

import gzip
from pathlib import Path

from keisei_ray.learning.learner import Learner
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.diagnostics import Diagnostics, diagnose
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import Trace
from keisei_ray.tracking.profile_files import ProfileFiles
from tests.helpers.tiny import tiny_config


def test_traces_become_files_and_without_any_there_is_no_directory(tmp_path: Path) -> None:
    files = ProfileFiles(tmp_path)
    found = tiny_diagnostics()
    files.handle(ev.UpdateDiagnosed(found))
    assert list(tmp_path.iterdir()) == []
    files.handle(ev.UpdateDiagnosed(found, (Trace("a.json", gzip.compress(b"{}")),)))
    assert (tmp_path / "profile" / "a.json").read_bytes() == b"{}"
    assert [path.name for path in (tmp_path / "profile").iterdir()] == ["a.json"]


def tiny_diagnostics() -> Diagnostics:
    """Returns the diagnostics of a tiny update."""
    config = tiny_config()
    learner = Learner(config)
    actor = SelfPlay(config, 0, 0)
    actor.set_weights(learner.weights())
    collected, packed = actor.collect()
    return diagnose(Progress(), learner.update([packed], 0), [collected])

"""What a trial goes on from, and what it reports when. No Ray is started."""

import json
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError, UnreadableCheckpointError
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry import events as ev
from keisei_ray.tune.reporter import TrialReporter
from keisei_ray.tune.trial import bundles, check_trial_fits, find_start
from tests.helpers.run_events import evaluated, updated
from tests.helpers.unreadable import refuse_reading

INFO = {"weights_digest": "d"}


class Sent:
    """What Tune would be told: reports, and which checkpoint came with each."""

    def __init__(self, metric: str, run_dir: Path, total: int = 10_000, trial: str = "a") -> None:
        self.reports: list[dict[str, Any]] = []
        self.checkpoints: list[str | None] = []
        self.kept = run_dir.parent / "tune"
        self.source = TrialReporter(metric, run_dir, trial, total, self)

    def __call__(self, report: dict[str, float], staged: Path | None) -> None:
        self.reports.append(dict(report))
        name = None
        if staged is not None:
            [path] = (staged / "checkpoints").iterdir()
            name = path.name
            staged.rename(self.kept)  # Tune copies it; what is left is removed.
        self.checkpoints.append(name)

    def saw(self, *events: ev.Event) -> None:
        for event in events:
            self.source.handle(event)


def saved(run_dir: Path, timestep: int, content: bytes = b"w") -> ev.CheckpointSaved:
    """A checkpoint on disk, and its event."""
    path = checkpoint.save(run_dir / "checkpoints", timestep, {"model": content}, INFO)
    return ev.CheckpointSaved(str(path), timestep)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_each_update_is_reported_once_with_the_checkpoint_saved_after_it(run_dir: Path) -> None:
    sent = Sent("policy_loss", run_dir)
    sent.saw(updated(1))
    assert not sent.source.report_due()
    sent.saw(updated(2), saved(run_dir, 2000))
    assert not sent.source.report_due()
    assert not sent.source.report_due()
    assert [report["timestep"] for report in sent.reports] == [1000, 2000]
    assert sent.checkpoints == [None, "step-000000002000"]
    assert "entropy" in sent.reports[0]


def test_a_score_is_reported_when_it_comes_at_the_time_of_its_weights(run_dir: Path) -> None:
    sent = Sent("evaluation/bare/greedy", run_dir)
    sent.saw(updated(3), saved(run_dir, 3000))
    sent.source.report_due()
    assert sent.reports == []
    sent.saw(updated(5), evaluated(4, "random", wins=3), evaluated(4, "greedy", wins=16))
    sent.source.report_due()
    [report] = sent.reports
    assert (report["timestep"], report["evaluation/bare/greedy"]) == (4000, 0.5)
    assert report["evaluation/bare/random"] > 0
    assert sent.checkpoints == ["step-000000003000"]


def test_reports_of_the_last_update_wait_for_the_last_checkpoint(run_dir: Path) -> None:
    sent = Sent("policy_loss", run_dir, total=2000)
    sent.saw(updated(1))
    sent.source.report_due()
    sent.saw(updated(2))
    sent.source.report_due()
    assert [report["timestep"] for report in sent.reports] == [1000]
    sent.saw(saved(run_dir, 2000))
    sent.source.report_rest()
    assert sent.reports[-1]["timestep"] == 2000
    assert ("ended" in sent.reports[0], sent.reports[1]["ended"]) == (False, 1.0)
    assert sent.checkpoints == [None, "step-000000002000"]


def test_a_trial_resumed_at_its_end_reports_its_last_value_again(run_dir: Path) -> None:
    sent = Sent("policy_loss", run_dir, total=2000)
    for event in (updated(1), updated(2)):
        sent.source.handle_past(event)
    sent.source.report_due()
    assert sent.reports == []
    sent.source.report_rest()
    assert [report["timestep"] for report in sent.reports] == [2000]


def test_a_trial_that_never_had_the_metric_reports_nothing(run_dir: Path) -> None:
    sent = Sent("evaluation/bare/greedy", run_dir)
    sent.saw(updated(1))
    sent.source.report_due()
    sent.source.report_rest()
    assert sent.reports == []


def given_by(run_dir: Path, trial: str, timestep: int, content: bytes) -> tune.Checkpoint:
    """A Tune checkpoint of a trial's, as its reports make it, with a pool."""
    donor = run_dir.parent / "donor"
    (donor / "pool").mkdir(parents=True)
    (donor / "pool" / "v1.bin").write_bytes(b"snapshot")
    sent = Sent("policy_loss", donor, trial=trial)
    sent.saw(updated(1), saved(donor, timestep, content))
    sent.source.report_due()
    return tune.Checkpoint(str(sent.kept))


def test_a_trial_goes_on_from_its_own_newest_checkpoint_not_from_an_older_one_of_tunes(
    run_dir: Path,
) -> None:
    saved(run_dir, 3000, b"newest")
    start, is_own = find_start(run_dir, "a", given_by(run_dir, "a", 2000, b"older"))
    assert start is not None
    assert (is_own, start.timestep, start.files) == (True, 3000, {"model": b"newest"})


@pytest.mark.parametrize("timestep", [2000, 3000, 4000])
def test_another_trials_checkpoint_comes_first_whatever_its_timestep(
    timestep: int, run_dir: Path
) -> None:
    saved(run_dir, 3000, b"own")
    start, is_own = find_start(run_dir, "a", given_by(run_dir, "b", timestep, b"donor's"))
    assert start is not None
    assert (is_own, start.timestep, start.files) == (False, timestep, {"model": b"donor's"})
    assert start.path.parent.parent == run_dir
    assert (run_dir / "pool" / "v1.bin").read_bytes() == b"snapshot"


def test_a_fresh_trial_has_nothing_to_go_on_from(run_dir: Path) -> None:
    assert find_start(run_dir, "a", None) == (None, True)
    assert find_start(run_dir, "a", given_by(run_dir, "a", 2000, b"w"))[0] is not None


def test_a_trial_whose_newest_checkpoint_cannot_be_read_does_not_go_back(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(run_dir, 2000, b"older")
    saved(run_dir, 3000, b"newest")
    newest = run_dir / "checkpoints" / "step-000000003000"
    refuse_reading(monkeypatch, newest / "model")
    with pytest.raises(UnreadableCheckpointError, match=newest.name):
        find_start(run_dir, "a", None)


def test_a_checkpoint_that_is_missing_or_not_a_trials_is_named(tmp_path: Path) -> None:
    (tmp_path / "origin.json").write_text(json.dumps({"trial": "b"}))
    with pytest.raises(CheckpointError, match="not a trial's checkpoint"):
        find_start(tmp_path / "run", "a", tune.Checkpoint(str(tmp_path)))


def test_a_share_without_a_gpu_learns_on_the_cpu() -> None:
    learner = resolve_auto(Config(), num_cpus=0.5, num_gpus=0).learner
    assert (learner.device, learner.amp, learner.num_threads) == ("cpu", "off", 1)


def test_learner_actors_and_evaluator_fit_into_the_cpus_of_a_trial() -> None:
    config = Config.model_validate(
        {
            "self_play": {"num_actors": 3},
            "evaluation": {"interval_timesteps": 100, "num_cpus": 0.25},
            "learner": {"num_gpus": 0.5},
            "schedule": {"mode": "overlap"},
        }
    )
    for cpus in (0.75, 1.0, 4.0):
        for has_gpu in (False, True):
            parts = bundles(config, cpus, has_gpu=has_gpu)
            assert len(parts) == 5
            assert sum(part.get("CPU", 0) for part in parts) <= cpus + 1e-9
            assert [part.get("GPU") for part in parts] == [0.5 if has_gpu else None] + [None] * 4


def test_actors_of_a_trial_reserve_their_parts_of_its_gpu() -> None:
    play = {"num_actors": 4, "device": "cuda"}
    config = Config.model_validate({"self_play": play, "schedule": {"mode": "overlap"}})
    for has_gpu in (False, True):
        parts = bundles(config, 2.0, has_gpu=has_gpu)
        assert [part.get("GPU") for part in parts] == [0.5] + [0.125] * 4


def test_only_the_actors_that_a_trial_starts_have_a_part_of_its_cpus() -> None:
    config = Config.model_validate({"self_play": {"num_actors": 32}})
    assert len(bundles(config, 2.0, has_gpu=False)) == 3  # Learner and an actor for each core.


def test_a_learner_asked_onto_the_cpu_reserves_no_gpu() -> None:
    config = Config.model_validate({"learner": {"device": "cpu"}})
    assert all("GPU" not in part for part in bundles(config, 1.0, has_gpu=True))


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_trial_reserves_a_bundle_for_each_learner(has_gpu: bool) -> None:
    config = Config.model_validate(
        {
            "self_play": {"num_actors": 3},
            "learner": {"num_learners": 2},
            "schedule": {"mode": "overlap"},
        }
    )
    check_trial_fits(config, 4.0)
    parts = bundles(config, 4.0, has_gpu=has_gpu)
    assert sum(part.get("CPU", 0) for part in parts) <= 4
    assert [part.get("GPU") for part in parts] == [1.0 if has_gpu else None] * 2 + [None] * 3

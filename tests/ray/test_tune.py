"""Sweeps with real trials: whole runs side by side, their failures, exploits and resumes."""

import io
import json
import os
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import yaml
from ray.tune.result_grid import ResultGrid
from rich.console import Console

import keisei_ray.tune
from keisei_ray.cli import main
from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.storage import checkpoint
from keisei_ray.storage.manifest import read_manifest
from keisei_ray.tune import results as results_file
from keisei_ray.tune.results import TrialResult, of_trials
from keisei_ray.tune.space import dotted_settings, trial_config
from keisei_ray.tune.sweep import check_sweep, run_sweep
from keisei_ray.tune.sweep_file import Sweep, load_sweep_file
from tests.helpers.program import ROOT, json_records, session_members, start_program
from tests.helpers.subscribers import BRAKE
from tests.helpers.tiny import tiny_config

pytestmark = pytest.mark.ray

PATIENCE_S = 280.0
ROWS = 32
"""Of an update: 8 plies of 4 games."""


def sweep_of(folder: Path, settings: dict[str, dict[str, Any]], **parts: Any) -> Sweep:
    """A sweep over `tiny_config` with some settings, that optimises the learning rate itself.

    So it is known beforehand which trial is better: the one with the higher rate.
    """
    common: dict[str, dict[str, Any]] = {
        "learner": {"lr_schedule": "constant"},
        "checkpoint": {"interval_timesteps": 2 * ROWS, "keep_last": 1000},
        "tracking": {"ray_metrics": False},
    }
    for section, values in settings.items():
        common[section] = common.get(section, {}) | values
    base = tiny_config(**common).model_dump(mode="json")
    base["learner"].pop("learning_rate")
    base["learner"]["device"] = "auto"  # Of a share that has no GPU.
    tree = {
        "metric": {"name": "learning_rate", "mode": "max"},
        "settings": base,
        "space": {"learner.learning_rate": {"loguniform": [1e-4, 1e-2]}},
        "trial": {"num_cpus": 0.5},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree | parts), encoding="utf-8")
    sweep = load_sweep_file(str(path), {}, [], {})
    check_sweep(sweep)
    return sweep


def swept(
    sweep: Sweep,
    sweep_dir: Path,
    cluster: Cluster,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    is_resumed: bool = False,
) -> tuple[list[TrialResult], str]:
    """A sweep's results and lines."""
    sweep_dir.mkdir(exist_ok=True)
    said = io.StringIO()
    console = Console(file=said, width=200)
    results = run_sweep(
        sweep, sweep_dir, cluster, console, should_stop=should_stop, is_resumed=is_resumed
    )
    results_file.save(sweep, sweep_dir, results)
    results_file.show(sweep, results, console)
    return results, said.getvalue()


def starts(run_dir: Path) -> list[dict[str, Any]]:
    """A run's `run_started` records: one for each time that it began or went on."""
    return [e for e in json_records(run_dir / "events.jsonl") if e["kind"] == "run_started"]


def pids(run_dir: Path) -> list[int]:
    """Of all self-play actors that a run ever had."""
    return [e["pid"] for e in json_records(run_dir / "events.jsonl") if e["kind"] == "actor_ready"]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class AshaSweep:
    """Two trials under ASHA, the better before the other; one of them dies once.

    So the second is worse than what has passed the rung before it.
    """

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        tracking = {"subscribers": ["tests.helpers.subscribers:DieOnce"]}
        self.sweep = sweep_of(
            folder,
            {"run": {"total_timesteps": 12 * ROWS}, "tracking": tracking},
            space={"learner.learning_rate": {"grid": [2e-3, 1e-3]}},
            search={"method": "grid", "max_concurrent": 1},
            scheduler={"kind": "asha", "grace_timesteps": 4 * ROWS, "reduction_factor": 2},
        )
        self.dir = folder / "sweep"
        self.results, self.said = swept(self.sweep, self.dir, cluster)


@pytest.fixture(scope="module")
def asha(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> AshaSweep:
    return AshaSweep(tmp_path_factory.mktemp("asha"), cluster)


def test_a_sweep_ends_with_all_trials_best_first(asha: AshaSweep) -> None:
    results = asha.results
    assert len({result.trial for result in results}) == 2
    scores = [result.score for result in results]
    assert scores == sorted((r.settings["learner.learning_rate"] for r in results), reverse=True)
    assert results[0].state == "done"
    assert results[0].timestep == 12 * ROWS
    saved = json.loads((asha.dir / "results.json").read_text())
    assert [trial["trial"] for trial in saved["trials"]] == [r.trial for r in results]
    title, header, *rows = asha.said.splitlines()[-4:]
    assert title.strip() == "score: learning_rate, max"
    assert header.split() == ["trial", "score", "timestep", "state", "learning_rate"]
    assert [row.split()[0] for row in rows] == [r.trial for r in results]


def test_asha_stops_the_worse_at_a_rung_and_leaves_no_actor_of_theirs(asha: AshaSweep) -> None:
    [stopped] = [result for result in asha.results if result.state == "stopped"]
    assert stopped.timestep is not None
    assert 4 * ROWS <= stopped.timestep < 12 * ROWS
    actors = [pid for result in asha.results for pid in pids(asha.dir / result.trial)]
    assert len(actors) >= 3
    wait_for(lambda: not any(map(psutil.pid_exists, actors)), "actors are left")
    table = ray.util.placement_group_table()
    assert {group["state"] for group in table.values()} == {"REMOVED"}


def test_a_trial_that_dies_goes_on_from_its_newest_checkpoint(asha: AshaSweep) -> None:
    saved = Path((asha.dir / "died").read_text())
    [failed] = [result for result in asha.results if result.failures]
    run_dir = asha.dir / failed.trial
    assert saved.parent.parent == run_dir.resolve()
    first, second = starts(run_dir)
    assert (first["resumed_from"], second["resumed_from"]) == (None, str(saved))
    timesteps = [record["timestep"] for record in json_records(run_dir / "metrics.jsonl")]
    assert timesteps == [ROWS * (i + 1) for i in range(len(timesteps))]
    assert f"trial {failed.trial} failed, is tried again" in asha.said


def test_each_trial_is_a_whole_run_with_its_own_settings_and_log(asha: AshaSweep) -> None:
    for result in asha.results:
        run_dir = asha.dir / result.trial
        config = Config.model_validate_json((run_dir / "config.json").read_text())
        assert config.learner.learning_rate == result.settings["learner.learning_rate"]
        assert (config.learner.device, config.tracking.view) == ("cpu", "none")
        assert json_records(run_dir / "metrics.jsonl")
        assert (run_dir / "games.jsonl").exists()
        assert checkpoint.find_latest(run_dir / "checkpoints", lambda path, cause: None)
        log = (run_dir / "run.log").read_text()
        assert f"run {run_dir.resolve()} started" in log
        others = [other.trial for other in asha.results if other is not result]
        assert not any(other in log for other in others)


def test_the_best_configuration_trains_as_the_best_trial_did(asha: AshaSweep) -> None:
    best = asha.results[0]
    trial = trial_config(dotted_settings(asha.sweep.base), best.settings)
    of_trial = {key: dotted_settings(trial)[key] for key in of_trials(trial)}
    assert of_trial["run.total_timesteps"]  # The file leaves it to the run.
    config = resolve_config(str(asha.dir / "best.yaml"), {}, [], {}, of_trial)
    assert config == trial
    trained = Config.model_validate_json((asha.dir / best.trial / "config.json").read_text())
    started = resolve_auto(config, num_cpus=0.5, num_gpus=0)
    assert trained.model_copy(update={"run": config.run, "tracking": config.tracking}) == started


def test_an_exploit_carries_the_donors_weights_and_optimizer_under_mutated_settings(
    tmp_path: Path, cluster: Cluster
) -> None:
    sweep = sweep_of(
        tmp_path,
        {"run": {"total_timesteps": 10_000 * ROWS}, "tracking": {"subscribers": [BRAKE]}},
        search={"num_samples": 2},
        scheduler={"kind": "pbt", "interval_timesteps": 24 * ROWS, "quantile": 0.5},
    )
    sweep_dir = tmp_path / "sweep"

    def exploited() -> list[Path]:
        """Trials that have gone on from another's checkpoint, and done an update since."""
        return [
            path
            for path in sweep_dir.glob("*_000??")
            if len(started := starts(path)) > 1
            and json_records(path / "metrics.jsonl")[-1]["timestep"] > started[-1]["timestep"]
        ]

    results, said = swept(sweep, sweep_dir, cluster, should_stop=lambda: bool(exploited()))
    assert {result.state for result in results} == {"unfinished"}
    assert "asked to stop" in said
    taker = min(exploited(), key=lambda path: str(starts(path)[1]["time"]))
    [donor] = [path for path in sweep_dir.glob("*_000??") if path != taker]
    resumed = Path(starts(taker)[1]["resumed_from"])
    assert resumed.parent.parent == taker.resolve()
    # Set aside, if the donor has exploited in its turn by now.
    [given] = map(read_manifest, (donor / "checkpoints").glob(f"*{resumed.name}"))
    taken = read_manifest(resumed)
    assert taken["info"]["weights_digest"] == given["info"]["weights_digest"]
    assert taken["files"] == given["files"]
    assert {"model.safetensors", "optimizer.safetensors"} & set(taken["files"])
    # The learner was found to have those weights, or the driver would have refused them.
    after = [
        r
        for r in json_records(taker / "metrics.jsonl")
        if r["timestep"] > starts(taker)[1]["timestep"]
    ]
    assert after[0]["timestep"] == taken["timestep"] + ROWS
    assert after[0]["weights_version"] == taken["info"]["weights_version"] + 1
    donors_rate = json_records(donor / "metrics.jsonl")[0]["learning_rate"]
    assert after[0]["learning_rate"] != donors_rate
    config = Config.model_validate_json((taker / "config.json").read_text())
    assert after[0]["learning_rate"] == config.learner.learning_rate


def test_the_example_for_a_tuner_of_ones_own_runs(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = keisei_ray.tune.__doc__
    assert doc is not None
    example = textwrap.dedent(doc.split("share:\n")[1].split("\nRay Tune is")[0])
    assert "trainable(config" in example
    example = example.replace("num_samples=2", "num_samples=1")  # Two are shown above.
    monkeypatch.chdir(ROOT)
    scope: dict[str, Any] = {"storage": str(tmp_path)}
    exec(example, scope)
    metrics = scope["best"].metrics
    assert metrics["timestep"] == 512
    assert metrics["entropy"] > 0
    assert scope["best"].checkpoint is not None
    assert isinstance(scope["tuner"].get_results(), ResultGrid)


@pytest.mark.long
def test_a_sweep_that_was_killed_is_resumed(tmp_path: Path) -> None:
    """By kill -9 of the command; the finished trial is not run again, the other goes on."""
    sweep = sweep_of(
        tmp_path,
        {"run": {"total_timesteps": 16 * ROWS}, "cluster": {"num_cpus": 2, "num_gpus": 0}},
        space={"learner.learning_rate": {"grid": [1e-3, 2e-3]}},
        search={"method": "grid", "max_concurrent": 1},
    )
    sweep_dir = tmp_path / "sweep"

    def trials() -> list[Path]:
        return sorted(sweep_dir.glob("*_000??"))

    def is_second_under_way() -> bool:
        # Tune saves its state from time to time. A trial that ended after the last save begins
        # again from its newest checkpoint, which is not what is tested here.
        is_end_saved = any(
            "TERMINATED" in path.read_text() for path in sweep_dir.glob("experiment_state-*.json")
        )
        return (
            is_end_saved
            and len(trials()) == 2
            and len(json_records(trials()[1] / "metrics.jsonl")) >= 4
        )

    first = start_program(
        "tune", "--config", sweep.source, "--run-dir", "sweep", cwd=tmp_path,
        TUNE_GLOBAL_CHECKPOINT_S="0.5",
    )  # fmt: skip
    wait_for(lambda: is_second_under_way() or first.poll() is not None, "no second trial")
    os.kill(first.pid, signal.SIGKILL)
    first.wait(timeout=PATIENCE_S)  # Its Ray holds the pipes open until it has noticed.

    second = start_program(
        "tune", "--resume", "--config", sweep.source, "--run-dir", "sweep", cwd=tmp_path
    )
    said, errors = second.communicate(timeout=PATIENCE_S)
    assert (second.returncode, errors) == (0, ""), said
    assert [len(starts(path)) for path in trials()] == [1, 2]
    for path in trials():
        timesteps = [record["timestep"] for record in json_records(path / "metrics.jsonl")]
        assert timesteps == [ROWS * (i + 1) for i in range(16)]
    assert starts(trials()[1])[1]["timestep"] >= 2 * ROWS
    saved = json.loads((sweep_dir / "results.json").read_text())
    assert [trial["state"] for trial in saved["trials"]] == ["done", "done"]
    assert saved["trials"][0]["settings"] == {"learner.learning_rate": 2e-3}
    assert main(["config", "--config", str(sweep_dir / "best.yaml")]) == 0
    workers = ("ImplicitFunc", "SelfPlayShell", "LearnerShell")
    for process in (first, second):
        left = [m for m in session_members(process.pid).values() if any(w in m for w in workers)]
        assert left == []

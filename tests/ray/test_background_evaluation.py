"""Evaluation beside a real run: what it measures, and that training never waits for it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import EvaluationShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.evaluation.elo_table import fit_ratings
from keisei_ray.evaluation.plan import PlannedMatch
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.telemetry.events import EvaluationFinished, Event, Notice, UpdateFinished
from keisei_ray.telemetry.reports import EvaluationResult
from keisei_ray.tracking.evaluation_records import results_of
from tests.helpers.training_run import Run, overlap_config, train

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

UPDATE = 64


def evaluated_config(num_updates: int, evaluation: dict[str, Any], **sections: Any) -> Config:
    settings = {
        "interval_timesteps": 2 * UPDATE,
        "num_games": 2,
        "max_plies": 16,
        "opponents": ["random", "snapshots"],
        "finishing": False,
        "finish_timeout_s": 120.0,
        "max_cpu_share": 1.0,
    }
    return overlap_config(
        run={"total_timesteps": num_updates * UPDATE},
        self_play={"num_actors": 1},
        evaluation=settings | evaluation,
        **sections,
    )


def evaluators(shell: type[EvaluationShell]) -> Callable[..., Any]:
    """A stand-in for `new_evaluation_actor` that starts another shell."""

    def new(config: Config, incarnation: int) -> Any:
        actor: Any = ray.remote(shell)
        return actor.options(num_cpus=0).remote(config, incarnation)

    return new


def notices(run: Run) -> list[str]:
    return [event.message for event in run.of(Notice)]


def rating_names(run: Run) -> set[str]:
    return {rating.name for rating in fit_ratings(results_of(run.lines("evaluations.jsonl")))}


@pytest.fixture(scope="module")
def run(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six updates whose versions are all saved; the run waits for the last evaluation."""
    config = evaluated_config(
        6, {"finishing": True}, checkpoint={"interval_timesteps": UPDATE, "keep_last": 9}
    )
    return train(config, cluster, tmp_path_factory.mktemp("run"))


def test_the_digest_evaluated_is_the_digest_published(run: Run) -> None:
    results = [event.result for event in run.of(EvaluationFinished)]
    assert 6 in {result.weights_version for result in results}  # The last is waited for.
    for result in results:
        saved = checkpoint.load(run.run_dir / "checkpoints" / f"step-{result.timestep:012d}")
        assert saved.info["weights_version"] == result.weights_version
        assert saved.info["weights_digest"] == result.weights_digest


def test_each_match_is_reported_and_recorded_once(run: Run) -> None:
    results = [event.result for event in run.of(EvaluationFinished)]
    lines = run.lines("evaluations.jsonl")
    assert [(r.player, r.opponent) for r in results] == [
        (x["player"], x["opponent"]) for x in lines
    ]
    assert len({(r.player, r.opponent) for r in results}) == len(results)
    versions = list(dict.fromkeys(r.weights_version for r in results))
    for number, version in enumerate(versions):
        bare = [r.opponent for r in results if r.player == f"v{version}"]
        finishing = [r.opponent for r in results if r.player == f"v{version}+mate1"]
        earlier = [f"v{versions[number - 1]}"] if number else []
        assert bare[:2] == ["random", *earlier]
        assert finishing == [name + "+mate1" * name.startswith("v") for name in bare]


def test_the_time_of_a_result_is_that_of_its_weights(run: Run) -> None:
    times = {record["timestep"]: record["wall_time_s"] for record in run.lines("metrics.jsonl")}
    for event in run.of(EvaluationFinished):
        assert event.result.run_time_s == pytest.approx(times[event.result.timestep])


class HangingShell(EvaluationShell):
    """An evaluator whose match never ends, as with an engine that never moves."""

    def play(self, *_: object) -> tuple[EvaluationResult, float]:
        Path(self.run_dir, "evaluator.pid").write_text(str(os.getpid()))
        threading.Event().wait()
        raise AssertionError

    def __init__(self, config: Config, incarnation: int) -> None:
        super().__init__(config, incarnation)
        self.run_dir = config.run.run_dir or ""


def test_training_goes_on_beside_an_evaluator_that_hangs_and_a_stop_request_ends_the_wait_for_it(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.evaluation_handle.new_evaluation_actor", evaluators(HangingShell)
    )
    config = evaluated_config(
        8,
        {"finish_timeout_s": 1e9},
        checkpoint={"interval_timesteps": UPDATE, "keep_last": 1, "keep_best": 1},
    )
    config = config.model_copy(
        update={"run": config.run.model_copy(update={"run_dir": str(tmp_path)})}
    )
    pid_file = tmp_path / "evaluator.pid"
    updates: list[Event] = []

    def count(event: Event) -> None:
        if isinstance(event, UpdateFinished):
            updates.append(event)

    run = train(
        config,
        cluster,
        tmp_path,
        subscribers=[count],
        should_stop=lambda: len(updates) == 8 and pid_file.exists(),
    )
    assert run.driver.progress.updates == 8
    assert run.of(EvaluationFinished) == []
    (said,) = [event for event in run.of(Notice) if "are left out" in event.message]
    assert said == Notice("the run is stopped: matches of v2 and v8 are left out", "INFO")
    assert sum("only the newest weights wait" in message for message in notices(run)) == 1
    # A match of v2 is under way and v6 waits for its turn when the last checkpoint is handed over.
    kept = checkpoint.list_complete(tmp_path / "checkpoints")
    assert [checkpoint.load(path).info["weights_version"] for path in kept] == [2, 6, 8]
    ray.get(gone.remote(int(pid_file.read_text())), timeout=60)


@ray.remote(num_cpus=0)
def gone(pid: int) -> None:
    """Returns once the process has ended."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


class DyingShell(EvaluationShell):
    """Its first process is killed in its second match."""

    def __init__(self, config: Config, incarnation: int) -> None:
        super().__init__(config, incarnation)
        self.matches_left = 1 if incarnation == 0 else 10**6

    def play(
        self, match: PlannedMatch, weights: PackedBuffer, opponent_weights: PackedBuffer | None
    ) -> tuple[EvaluationResult, float]:
        if self.matches_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.matches_left -= 1
        return super().play(match, weights, opponent_weights)


def test_a_killed_evaluator_is_replaced_and_its_match_played_anew(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.evaluation_handle.new_evaluation_actor", evaluators(DyingShell)
    )
    config = evaluated_config(
        2, {"opponents": ["random", "checkpoint:/nowhere", "greedy"], "finishing": True}
    )
    run = train(config, cluster, tmp_path)
    assert sum("evaluator lost, 2 restarts left" in message for message in notices(run)) == 1
    assert run.driver.progress.actor_restarts == 0
    # And an opponent that cannot be had is left out, and told once.
    results = [event.result for event in run.of(EvaluationFinished)]
    assert [(result.player, result.opponent) for result in results] == [
        ("v2", "random"),
        ("v2+mate1", "random"),
        ("v2", "greedy"),
        ("v2+mate1", "greedy"),
    ]
    said = [message for message in notices(run) if "/nowhere" in message]
    assert len(said) == 1
    assert "is left out, and so will all others" in said[0]


class StillbornShell(EvaluationShell):
    """An evaluator that cannot be built."""

    def __init__(self, config: Config, incarnation: int) -> None:
        raise MemoryError("no room for the evaluator")


def test_an_evaluator_that_never_comes_up_is_given_up_and_training_ends_well(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.evaluation_handle.new_evaluation_actor", evaluators(StillbornShell)
    )
    config = evaluated_config(2, {}, cluster={"max_actor_deaths": 1})
    run = train(config, cluster, tmp_path)
    assert run.driver.progress.updates == 2
    given_up = [message for message in notices(run) if "no more evaluations" in message]
    assert len(given_up) == 1
    assert "the evaluator died 2 times" in given_up[0]
    assert "no room for the evaluator" in given_up[0]


def test_the_rating_table_survives_a_kill_and_a_resume(cluster: Cluster, tmp_path: Path) -> None:
    matches: list[Event] = []

    def die(event: Event) -> None:
        """Ends the run at once, as a kill does: nothing is saved."""
        if isinstance(event, EvaluationFinished):
            matches.append(event)
        if len(matches) >= 3 and isinstance(event, UpdateFinished):
            raise KeyboardInterrupt

    config = evaluated_config(10**6, {}, checkpoint={"interval_timesteps": UPDATE, "keep_last": 2})
    first = train(config, cluster, tmp_path, subscribers=[die], fails_with=(KeyboardInterrupt,))
    assert isinstance(first.error, KeyboardInterrupt)
    with (tmp_path / "evaluations.jsonl").open("a") as file:
        file.write('{"timestep": 99, "weights_ver')
    saved = checkpoint.find_latest(tmp_path / "checkpoints", on_skip=lambda *_: None)
    assert saved is not None
    before = [event.result for event in first.of(EvaluationFinished)]
    assert all(result.timestep <= saved.timestep for result in before)
    second = resumed(saved, cluster, tmp_path)
    lines = second.lines("evaluations.jsonl")
    after = [event.result for event in second.of(EvaluationFinished)]
    players = [(r.player, r.opponent) for r in [*before, *after]]
    assert [(line["player"], line["opponent"]) for line in lines] == players
    assert len(set(players)) == len(players)
    assert after
    # Own versions of the first session are still there to be played.
    newest_before = max(result.weights_version for result in before)
    first_after = min(result.weights_version for result in after)
    assert (f"v{first_after}", f"v{newest_before}") in players
    assert {r.player for r in before} <= rating_names(second)
    assert [p["name"] for p in second.json("ratings.json")["players"]] == [
        rating.name for rating in fit_ratings(results_of(lines))
    ]


def resumed(saved: Checkpoint, cluster: Cluster, run_dir: Path) -> Run:
    """Goes on for two updates, of which the last is evaluated."""
    updates = saved.timestep // UPDATE + 2
    config = evaluated_config(updates, {}, checkpoint={"interval_timesteps": UPDATE})
    return train(config, cluster, run_dir, resume=saved)

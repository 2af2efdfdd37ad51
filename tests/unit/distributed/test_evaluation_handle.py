"""An evaluator that lives but never answers. No Ray is started."""

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from keisei_ray.distributed import evaluation_handle, supervision
from keisei_ray.distributed.evaluation_handle import EvaluationHandle
from keisei_ray.distributed.learner_handle import LearnerVersion
from keisei_ray.evaluation.plan import PlannedMatch
from keisei_ray.telemetry.events import EvaluationFinished, Event, EventBus, Notice
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import EvaluationResult
from tests.helpers.run_events import evaluated
from tests.helpers.simulated_ray import SimulatedRay
from tests.helpers.tiny import tiny_config


@dataclass(frozen=True)
class FakeEvaluator:
    cpu_time_s: float = 0.0

    def play(self, match: PlannedMatch, *_: object) -> tuple[EvaluationResult, float]:
        return evaluated(match.weights_version, match.opponent, wins=1).result, self.cpu_time_s


class Beside:
    """A handle beside a simulated Ray, which has given its evaluator the first match of v1."""

    def __init__(
        self,
        run_dir: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        finish_timeout_s: float = 1.0,
        cpu_time_s: float = 0.0,
        is_stopped: bool = True,
    ) -> None:
        world = self.world = SimulatedRay(Random(0))
        for module in (evaluation_handle, supervision):
            monkeypatch.setattr(module, "ray", world)
        monkeypatch.setattr(supervision, "kill_process", lambda actor: None)
        monkeypatch.setattr(
            evaluation_handle,
            "new_evaluation_actor",
            lambda *_: world.new_actor(FakeEvaluator(cpu_time_s)),
        )
        bus = EventBus()
        self.events: list[Event] = []
        bus.subscribe("recorder", self.events.append)
        config = tiny_config(
            evaluation={
                "interval_timesteps": 1000,
                "opponents": ["random", "greedy"],
                "finishing": False,
                "finish_timeout_s": finish_timeout_s,
                "max_cpu_share": 0.05,
            },
            cluster={"call_timeout_s": 5.0},
        )
        self.progress = Progress()
        self.handle = EvaluationHandle(
            config, bus, run_dir, self.progress, num_cpus=2.0, clock=world.clock
        )
        self.progress.timestep = 1000
        weights = world.new_ref()
        weights.answer, weights.is_here = b"weights", True
        self.published = LearnerVersion(1, weights, {})  # type: ignore[arg-type]
        self.handle.poll(self.progress, self.published)
        (stopped,) = world.actors
        if is_stopped:
            stopped.stopped_until = math.inf

    def played(self) -> list[str]:
        return [e.result.opponent for e in self.events if isinstance(e, EvaluationFinished)]

    def notices(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Notice)]


def test_a_match_that_is_overdue_is_left_out_and_its_evaluator_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Beside(tmp_path, monkeypatch, finish_timeout_s=1.0)
    world, events = beside.world, beside.events
    while not [event for event in events if isinstance(event, EvaluationFinished)]:
        world.sleep(0.5)
        beside.handle.poll(beside.progress, beside.published)
        assert world.now < 130.0
    assert world.now > 24 * 5.0
    assert beside.notices() == [
        "evaluation of v1 against random is left out: no answer to play against random within "
        "120 s (cluster.call_timeout_s)",
        "evaluator lost, 2 restarts left: no answer to play against random within 120 s "
        "(cluster.call_timeout_s)",
    ]
    (played,) = [event.result for event in events if isinstance(event, EvaluationFinished)]
    assert played.opponent == "greedy"
    assert [actor.is_alive for actor in world.actors] == [False, True]


def test_the_end_of_a_run_waits_for_an_evaluator_as_long_as_the_setting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Beside(tmp_path, monkeypatch, finish_timeout_s=40.0)
    began = beside.world.now
    beside.handle.finish(lambda: False)
    assert 40.0 <= beside.world.now - began < 45.0
    assert beside.notices() == [
        "training is done; the matches of v1 are played, for at most 40 s "
        "(evaluation.finish_timeout_s)",
        "evaluation of v1 abandoned at the end of the run: matches that were not finished do not "
        "count (evaluation.finish_timeout_s)",
    ]
    assert [actor.is_alive for actor in beside.world.actors] == [False]


def test_a_stop_request_leaves_matches_out_at_once_and_that_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Beside(tmp_path, monkeypatch, finish_timeout_s=40.0)
    began = beside.world.now
    beside.handle.finish(lambda: True)
    assert beside.world.now == began
    (notice,) = [event for event in beside.events if isinstance(event, Notice)]
    assert notice == Notice("the run is stopped: matches of v1 are left out", "INFO")


def test_matches_wait_while_they_have_taken_more_than_their_share_of_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 0.05 of 2 CPUs: a match of 3 s may be followed by the next after 30 s.
    beside = Beside(tmp_path, monkeypatch, cpu_time_s=3.0, is_stopped=False)
    while beside.world.now < 29.0:
        beside.world.sleep(0.5)
        beside.handle.poll(beside.progress, beside.published)
    assert beside.played() == ["random"]
    while beside.world.now < 32.0:
        beside.world.sleep(0.5)
        beside.handle.poll(beside.progress, beside.published)
    assert beside.played() == ["random", "greedy"]


@pytest.mark.parametrize(
    ("cpu_time_s", "is_stopped", "notices"),
    [
        (
            0.0,
            True,
            [
                "evaluations take longer than evaluation.interval_timesteps = 1000: only the "
                "newest weights wait for their turn"
            ],
        ),
        (300.0, False, []),
    ],
    ids=["slow matches", "matches held back to their share"],
)
def test_evaluations_that_are_skipped_are_named_once_unless_their_share_is_the_reason(
    cpu_time_s: float,
    is_stopped: bool,
    notices: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beside = Beside(tmp_path, monkeypatch, cpu_time_s=cpu_time_s, is_stopped=is_stopped)
    for timestep in (2000, 3000, 4000, 5000):
        for _ in range(4):
            beside.world.sleep(0.5)
            beside.handle.poll(beside.progress, beside.published)
        beside.progress.timestep = timestep
    assert beside.notices() == notices


def test_matches_that_wait_for_their_share_are_played_at_the_end_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Beside(tmp_path, monkeypatch, cpu_time_s=300.0, is_stopped=False, finish_timeout_s=9.0)
    while beside.played() != ["random"]:
        beside.world.sleep(0.5)
        beside.handle.poll(beside.progress, beside.published)
    beside.handle.finish(lambda: False)
    assert beside.played() == ["random", "greedy"]


def test_an_opponent_whose_matches_say_little_is_left_out_of_later_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake evaluator loses 31 of 32 games to each: they are equal, and the first is met."""
    beside = Beside(tmp_path, monkeypatch, is_stopped=False)
    while len(beside.played()) < 2:
        beside.world.sleep(0.5)
        beside.handle.poll(beside.progress, beside.published)
    beside.progress.timestep = 2000
    for _ in range(20):
        beside.world.sleep(0.5)
        beside.handle.poll(beside.progress, beside.published)
    assert beside.played() == ["random", "greedy", "random"]

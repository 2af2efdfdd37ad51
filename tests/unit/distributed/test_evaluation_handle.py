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
    def play(self, match: PlannedMatch, *_: object) -> EvaluationResult:
        return evaluated(match.weights_version, match.opponent, wins=1).result


class Beside:
    """A handle beside a simulated Ray, which has given its evaluator the first match of v1."""

    def __init__(
        self, run_dir: Path, monkeypatch: pytest.MonkeyPatch, *, finish_timeout_s: float
    ) -> None:
        world = self.world = SimulatedRay(Random(0))
        for module in (evaluation_handle, supervision):
            monkeypatch.setattr(module, "ray", world)
        monkeypatch.setattr(
            evaluation_handle, "new_evaluation_actor", lambda *_: world.new_actor(FakeEvaluator())
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
            },
            cluster={"call_timeout_s": 5.0},
        )
        self.progress = Progress()
        self.handle = EvaluationHandle(config, bus, run_dir, self.progress, clock=world.clock)
        self.progress.timestep = 1000
        weights = world.new_ref()
        weights.answer, weights.is_here = b"weights", True
        self.published = LearnerVersion(1, weights, {})  # type: ignore[arg-type]
        self.handle.poll(self.progress, self.published)
        (stopped,) = world.actors
        stopped.stopped_until = math.inf

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
        "evaluation of v1 abandoned at the end of the run: matches that were not finished do not "
        "count (evaluation.finish_timeout_s)"
    ]
    assert [actor.is_alive for actor in beside.world.actors] == [False]

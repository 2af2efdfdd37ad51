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


def test_a_match_that_is_overdue_is_left_out_and_its_evaluator_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = SimulatedRay(Random(0))
    for module in (evaluation_handle, supervision):
        monkeypatch.setattr(module, "ray", world)
    monkeypatch.setattr(
        evaluation_handle, "new_evaluation_actor", lambda *_: world.new_actor(FakeEvaluator())
    )
    bus = EventBus()
    events: list[Event] = []
    bus.subscribe("recorder", events.append)
    config = tiny_config(
        evaluation={
            "interval_timesteps": 1000,
            "opponents": ["random", "greedy"],
            "finishing": False,
        },
        cluster={"call_timeout_s": 5.0},
    )
    progress = Progress()
    handle = EvaluationHandle(config, bus, tmp_path, progress, clock=world.clock)
    progress.timestep = 1000
    weights = world.new_ref()
    weights.answer, weights.is_here = b"weights", True
    published = LearnerVersion(1, weights, {})  # type: ignore[arg-type]
    handle.poll(progress, published)
    (stopped,) = world.actors
    stopped.stopped_until = math.inf
    while not [event for event in events if isinstance(event, EvaluationFinished)]:
        world.sleep(0.5)
        handle.poll(progress, published)
        assert world.now < 130.0
    assert world.now > 24 * 5.0
    assert [event.message for event in events if isinstance(event, Notice)] == [
        "evaluation of v1 against random is left out: no answer to play against random within "
        "120 s (cluster.call_timeout_s)",
        "evaluator lost, 2 restarts left: no answer to play against random within 120 s "
        "(cluster.call_timeout_s)",
    ]
    (played,) = [event.result for event in events if isinstance(event, EvaluationFinished)]
    assert played.opponent == "greedy"
    assert [actor.is_alive for actor in world.actors] == [False, True]

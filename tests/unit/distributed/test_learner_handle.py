"""A learner that starts too late; which rollouts of a failed update are to blame.

No Ray is started.
"""

import math
from random import Random
from typing import Any

import pytest
import ray
from ray.exceptions import ObjectReconstructionFailedError, RayError, RayTaskError

from keisei_ray.distributed import learner_handle, supervision
from keisei_ray.distributed.learner_handle import LearnerHandle, rejected_rollouts
from keisei_ray.errors import ClusterError, NumericalError, RejectedRolloutsError
from keisei_ray.telemetry.events import ActorLost, Event, EventBus
from keisei_ray.telemetry.reports import ProcessInfo
from tests.helpers.simulated_ray import SimulatedActor, SimulatedRay
from tests.helpers.tiny import tiny_config

ROLLOUTS: list["ray.ObjectRef[Any]"] = [ray.ObjectRef(bytes([number] * 28)) for number in range(4)]


def of_the_learner(cause: Exception) -> RayError:
    return RayTaskError("update", "traceback", cause)


def test_a_rollout_that_died_with_its_node_takes_no_other_along() -> None:
    lost = ObjectReconstructionFailedError(ROLLOUTS[2].hex())
    bad = rejected_rollouts(of_the_learner(lost), ROLLOUTS)
    assert list(bad) == [2]
    assert bad[2].startswith("lost with its node: ")


def test_if_it_is_not_known_which_was_lost_none_is_used() -> None:
    lost = ObjectReconstructionFailedError("ff" * 28)
    assert list(rejected_rollouts(of_the_learner(lost), ROLLOUTS)) == [0, 1, 2, 3]


def test_the_learner_names_those_that_it_cannot_read() -> None:
    cause = RejectedRolloutsError({1: "damaged"})
    assert rejected_rollouts(of_the_learner(cause), ROLLOUTS) == {1: "damaged"}


def test_what_is_not_about_rollouts_is_raised() -> None:
    with pytest.raises(NumericalError, match="loss is nan"):
        rejected_rollouts(of_the_learner(NumericalError("loss is nan")), ROLLOUTS)
    death = RayError("gone")
    with pytest.raises(RayError, match="gone"):
        rejected_rollouts(death, ROLLOUTS)


class FakeLearner:
    def start(self) -> ProcessInfo:
        return ProcessInfo(pid=1, node="", device="cpu", num_parameters=1)

    def restore(self, state: dict[str, bytes]) -> None:
        assert state == {"learner.pt": b"state"}

    def publish(self) -> tuple[str, bytes, dict[str, bytes]]:
        return "digest", b"weights", {"learner.pt": b"state"}


def handle_of(
    stopped: list[bool], events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> LearnerHandle:
    """Returns a handle whose learners are stopped from their first moment, or not, in turn."""
    world = SimulatedRay(Random(0))
    for module in (learner_handle, supervision):
        monkeypatch.setattr(module, "ray", world)
    waiting = iter(stopped)

    def new_learner(*_: object, **__: object) -> SimulatedActor:
        actor = world.new_actor(FakeLearner())
        actor.stopped_until = math.inf if next(waiting) else 0.0
        return actor

    monkeypatch.setattr(learner_handle, "new_learner_actor", new_learner)
    bus = EventBus()
    bus.subscribe("recorder", events.append)
    return LearnerHandle(
        tiny_config(cluster={"start_timeout_s": 30.0}),
        bus,
        num_cpus=1.0,
        reserve=lambda: None,
        should_stop=lambda: False,
        clock=world.clock,
    )


def test_the_first_learner_must_start_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    handle = handle_of([True], events, monkeypatch)
    with pytest.raises(ClusterError, match=r"did not answer within 30 s of its start\. Is a node"):
        handle.launch(0, None)
    assert events == []


def test_a_later_learner_that_starts_too_late_is_a_death_like_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[Event] = []
    handle = handle_of([False, True, False], events, monkeypatch)
    handle.launch(0, None)
    handle.relaunch(TimeoutError("no answer to update"))
    lost = [(e.incarnation, e.cause, e.restarts_left) for e in events if isinstance(e, ActorLost)]
    assert lost == [(0, "no answer to update", 2), (1, "no answer within 30 s of its start", 1)]

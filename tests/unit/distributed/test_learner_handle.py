"""A learner that starts too late; which rollouts of a failed update are to blame; several learners.

No Ray is started.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import ray
from ray.exceptions import ObjectReconstructionFailedError, RayError, RayTaskError

from keisei_ray.distributed import learner_handle, supervision
from keisei_ray.distributed.learner_handle import (
    LearnerHandle,
    SeveralLearnersLost,
    StateRefused,
    rejected_rollouts,
)
from keisei_ray.errors import (
    CheckpointError,
    ClusterError,
    DeviceMemoryError,
    KeiseiError,
    NumericalError,
    PeerLostError,
    RejectedRolloutsError,
)
from keisei_ray.telemetry.events import ActorLost, Event, EventBus
from keisei_ray.telemetry.reports import ProcessInfo, Publication
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

    def snapshot(self) -> None:
        self.digest = "digest"

    def publish(self) -> tuple[Publication, bytes, dict[str, bytes]]:
        return Publication(self.digest, 7, 0.5), b"weights", {"learner.pt": b"state"}


def handle_of(
    stopped: list[bool],
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    *,
    learners: list[Any] | None = None,
    world: SimulatedRay | None = None,
    is_pulled: bool = False,
) -> LearnerHandle:
    """Returns a handle whose learners are stopped from their first moment, or not, in turn.

    Args:
        stopped: whether each learner's process is.
        events: gets the events.
        monkeypatch: undoes what is replaced.
        learners: stand-ins that make each update together, by rank; None: a single one.
        world: where they live; None: a new one.
        is_pulled: whether they are pulled towards the network that the run began with.
    """
    world = world or SimulatedRay(Random(0))
    for module in (learner_handle, supervision):
        monkeypatch.setattr(module, "ray", world)
    monkeypatch.setattr(supervision, "kill_process", lambda actor: None)
    waiting = iter(stopped)

    def new_learner(_: object, rank: int, **__: object) -> SimulatedActor:
        actor = world.new_actor(learners[rank] if learners else FakeLearner())
        actor.stopped_until = math.inf if next(waiting) else 0.0
        return actor

    monkeypatch.setattr(learner_handle, "new_learner_actor", new_learner)
    bus = EventBus()
    bus.subscribe("recorder", events.append)
    return LearnerHandle(
        tiny_config(
            cluster={"start_timeout_s": 30.0},
            self_play={"num_actors": 5},
            learner={
                "num_learners": len(learners or [None]),
                "kl_start_coef": 0.5 if is_pulled else 0.0,
            },
            run={"init_from": "a" if is_pulled else None},
        ),
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


@dataclass(frozen=True)
class Made:
    """In place of an update's report."""

    weights_bytes_wire: int = 0
    publish_time_s: float = 0.0


class FakeOneOfSeveral(FakeLearner):
    """One of several learners. It answers an update with a result or an error, or never."""

    def __init__(self, answer: Exception | None = None) -> None:
        self.answer = answer
        self.shares: list[tuple[object, ...]] = []

    def open_group(self) -> str:
        return "place"

    def start(self, place: str = "") -> ProcessInfo:
        assert place == "place"
        return super().start()

    def follow(self, timestep: int, *rollouts: object) -> None:
        self.shares.append(rollouts)
        if self.answer is not None:
            raise self.answer

    def update(self, timestep: int, *rollouts: object) -> Made:
        self.follow(timestep, *rollouts)
        self.digest = "next"
        return Made()


class FailingAtItsStart(FakeOneOfSeveral):
    """A learner that fails in one call of its start."""

    def __init__(self, call: str, error: Exception) -> None:
        super().__init__()
        self.call, self.error = call, error

    def restore(self, state: dict[str, bytes]) -> None:
        self.fail_in("restore")

    def pull_to(self, model_file: bytes) -> None:
        self.fail_in("pull_to")

    def fail_in(self, call: str) -> None:
        if call == self.call:
            raise self.error


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        ("restore", CheckpointError("damaged"), StateRefused),
        ("restore", DeviceMemoryError("no room"), DeviceMemoryError),
        ("pull_to", CheckpointError("damaged"), CheckpointError),
    ],
)
def test_only_a_checkpoint_that_the_learner_complains_of_is_refused(
    call: str, error: Exception, expected: type[KeiseiError], monkeypatch: pytest.MonkeyPatch
) -> None:
    learners: list[Any] = [FailingAtItsStart(call, error), FailingAtItsStart("none", error)]
    handle = handle_of([False, False], [], monkeypatch, learners=learners, is_pulled=True)
    with pytest.raises(KeiseiError, match=str(error)) as caught:
        handle.launch(3, {"learner.pt": b"state"}, b"network")
    assert type(caught.value) is expected


def updated(
    learners: list[FakeOneOfSeveral],
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    *,
    dead: int | None = None,
    silent: int | None = None,
) -> LearnerHandle:
    """Returns the handle of learners that have been given five rollouts, once that update is over.

    Raises whatever the update fails with. One learner may die, or give no answer.
    """
    world = SimulatedRay(Random(1))
    handle = handle_of([False] * 20, events, monkeypatch, learners=learners, world=world)
    handle.launch(0, None)
    actors = world.actors[-len(learners) :]
    if (mute := dead if silent is None else silent) is not None:
        actors[mute].stopped_until = math.inf
    rollouts: list[Any] = [world.new_ref() for _ in range(5)]
    for number, rollout in enumerate(rollouts):
        rollout.answer = f"rollout {number}"
    update = handle.update(0, rollouts)

    def wait() -> None:
        [ref], _ = world.wait(list(update.missing), timeout=100)  # type: ignore[arg-type]
        update.missing.remove(ref)  # type: ignore[arg-type]

    while not handle.is_over(update):
        wait()
    if dead is not None:  # Ray reports it while the other failure is looked at.
        monkeypatch.setattr(world, "happen", lambda: world.end(actors[dead]))
    handle.take_report(update)
    while not update.is_packed:
        wait()
    report: Any = handle.take_version(update)
    assert (report.weights_bytes_wire, report.publish_time_s) == (7, 0.5)
    return handle


def test_each_of_several_learners_is_given_its_share_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learners = [FakeOneOfSeveral() for _ in range(3)]
    handle = updated(learners, [], monkeypatch)
    given = [rollout for learner in learners for [*share] in learner.shares for rollout in share]
    assert given == [f"rollout {number}" for number in range(5)]
    assert [len(learner.shares[0]) for learner in learners] == [1, 2, 2]
    assert (handle.published.version, handle.digest) == (1, "next")


def test_an_update_of_several_learners_is_not_over_before_all_have_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="not enough values"):  # Nothing more becomes ready.
        updated([FakeOneOfSeveral(), FakeOneOfSeveral()], [], monkeypatch, silent=1)


def test_rollouts_that_several_learners_refuse_are_named_by_their_place_in_the_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[Event] = []
    learners = [
        FakeOneOfSeveral(RejectedRolloutsError({})),
        FakeOneOfSeveral(RejectedRolloutsError({1: "damaged"})),
        FakeOneOfSeveral(RejectedRolloutsError({0: "truncated"})),
    ]
    with pytest.raises(RejectedRolloutsError) as caught:
        updated(learners, events, monkeypatch)
    assert caught.value.causes == {2: "damaged", 3: "truncated"}
    assert events == []


def test_the_death_of_one_of_several_learners_is_named_and_not_what_follows_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learners = [FakeOneOfSeveral(PeerLostError("learner 0 of 2 has lost another one: reset"))]
    learners.append(FakeOneOfSeveral())
    with pytest.raises(SeveralLearnersLost, match=r"^learner 1: The actor died unexpectedly"):
        updated(learners, [], monkeypatch, dead=1)


def test_a_learner_that_alone_has_lost_the_others_is_a_loss_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = FakeOneOfSeveral(PeerLostError("learner 1 of 2 has lost another one: reset"))
    with pytest.raises(SeveralLearnersLost, match=r"^learner 1: learner 1 of 2 has lost another"):
        updated([FakeOneOfSeveral(), lost], [], monkeypatch, silent=0)


def test_learners_are_lost_where_one_waits_for_another_that_has_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rollout was lost with its node: the call that it was for has failed before it began."""
    lost = FakeOneOfSeveral(ObjectReconstructionFailedError("ff" * 28))
    with pytest.raises(SeveralLearnersLost, match=r"^learner 1: ") as caught:
        updated([FakeOneOfSeveral(), lost], [], monkeypatch, silent=0)
    assert caught.value.rejected.keys() == {2, 3, 4}


def test_an_error_of_one_of_several_learners_ends_the_run_as_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = FakeOneOfSeveral(NumericalError("the loss is nan"))
    with pytest.raises(NumericalError, match="the loss is nan"):
        updated([FakeOneOfSeveral(), failing], [], monkeypatch, silent=0)

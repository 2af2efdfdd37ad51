"""The driver's handle on the learner actor: starts it, hands it rollouts, restarts it.

It holds what the learner published last. The state is in the driver's own memory, so that it is
lost with nothing that an update can outlive: not with the learner, its node, or Ray itself. The
packed weights are an object that the driver owns, with a copy on its node. An update has only
finished when both are here; the copy of the state takes 1 ms for the 4 MiB of a 4x64 network and 4
to 25 ms for the 35 MiB of a 10x128.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from keisei_ray.config.autosize import learner_gpus
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import ActorHandle, Ref, new_learner_actor
from keisei_ray.distributed.ray_errors import remote_cause
from keisei_ray.distributed.supervision import DEATHS, POLL_S, DeathBudget, end_dead_actor
from keisei_ray.errors import ClusterError, RejectedRolloutsError
from keisei_ray.telemetry.events import ActorLost, EventBus
from keisei_ray.telemetry.reports import ProcessInfo, UpdateReport

LEARNER_LOST = (*DEATHS, ObjectLostError)
"""Errors by which Ray reports that the learner is gone, or that its node is, and what it answered
with it. A `RayTaskError` is none of them, whatever else it is: the learner has raised it."""
PLACEMENT_WAIT_S = 5.0
"""Seconds within which Ray places a learner if there is room for it."""


class PlacementLost(Exception):
    """The node that held the learner's placement group is gone."""


class StopRequested(Exception):
    """The run was asked to stop while it waited for the learner to start."""


@dataclass(frozen=True)
class LearnerVersion:
    """One finished version of the learner: its weights and its state."""

    version: int
    weights: Ref
    """Packed weights, for the actors."""
    state: Mapping[str, bytes]
    """Files by name: everything that a learner needs to go on from here."""


@dataclass
class UpdateUnderWay:
    """References to what an update will have made."""

    version: int
    """Version of the weights."""
    report: Ref
    weights: Ref
    state: Ref
    missing: set[Ref]
    """Weights and state, as long as the driver's node does not have them. Waiting for them with Ray
    makes it fetch them. The update is finished when it has both."""


class LearnerHandle:
    """The run's learner, over all its incarnations."""

    published: LearnerVersion
    """The newest finished version; set by the first `launch`."""
    digest: str
    """Digest of the published weights."""

    def __init__(
        self,
        config: Config,
        bus: EventBus,
        *,
        num_cpus: float,
        reserve: Callable[[], PlacementGroup | None],
        should_stop: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        bus: gets an event for each death.
        num_cpus: CPUs that Ray reserves for the learner.
        reserve: makes the learner's placement group; None where it needs none of its own.
        should_stop: called while the learner starts.
        clock: monotonic seconds.
        """
        self._config = config
        self._bus = bus
        self._num_cpus = num_cpus
        self._reserve = reserve
        self._group: PlacementGroup | None = None
        self._should_stop = should_stop
        self._clock = clock
        self._actor: ActorHandle = None
        self._incarnation = 0
        self._budget = DeathBudget("the learner", config.cluster, clock)

    def launch(self, version: int, state: Mapping[str, bytes] | None) -> ProcessInfo:
        """Starts a learner, which publishes its weights and state.

        Blocks until the learner has answered. If its process dies it is restarted, within its
        budget.

        Args:
            version: weights version that it starts from.
            state: files to continue from; None for a new network.

        Raises:
            ActorLostError: it died too often.
            ClusterError: the run's first learner did not answer in time.
            UserError: it refused the settings or the state.
            StopRequested: the run was asked to stop meanwhile.
        """
        can_move = self._incarnation > 0
        if not can_move:
            self._group = self._reserve()
        while True:
            try:
                return self._launch_once(version, state, can_move)
            except PlacementLost:
                self._move()
                can_move = False
            except RayTaskError as error:
                raise remote_cause(error) from error
            except LEARNER_LOST as error:
                self._count_death(error)
            except TimeoutError as error:
                if self._incarnation == 0:
                    what = "GPU" if self._config.learner.device == "cuda" else "CPU"
                    limit_s = self._config.cluster.start_timeout_s
                    raise ClusterError(
                        f"the learner did not answer within {limit_s:g} s of its start. Is a node "
                        f"with a free {what} up? Raise cluster.start_timeout_s if the cluster is "
                        "slow."
                    ) from error
                self._count_death(error)

    def relaunch(self, error: Exception) -> None:
        """Replaces a learner that has died by one that goes on from the newest finished version.

        Args:
            error: one of `LEARNER_LOST`, of its call, or a TimeoutError: its answer is overdue.

        Raises:
            Exception: the same as `launch`.
        """
        self._count_death(error)
        self.launch(self.published.version, self.published.state)

    def update(self, timestep: int, rollouts: Sequence[Ref]) -> UpdateUnderWay:
        """Asks for an update; returns at once. Pass it to `take` once nothing of it is missing."""
        report, weights, state = self._actor.update.options(num_returns=3).remote(
            timestep, *rollouts
        )
        version = self.published.version + 1
        return UpdateUnderWay(version, report, weights, state, missing={weights, state})

    def take(self, update: UpdateUnderWay) -> UpdateReport:
        """Makes the version of an update that has finished the newest one.

        After an error the version before is still the newest.

        Raises:
            RayTaskError: the learner raised an exception.
            LEARNER_LOST: it died, or weights or state were lost with its node.
        """
        report: UpdateReport = ray.get(update.report)
        state: Mapping[str, bytes] = ray.get(update.state)
        ray.get(update.weights)  # Copies nothing, and raises if they were lost.
        self._publish(LearnerVersion(update.version, update.weights, state), report.weights_digest)
        return report

    def dismiss(self) -> None:
        """Ends the learner's process, whatever it is doing. LearnerVersion objects stay."""
        if self._actor is not None:
            ray.kill(self._actor)
        self._remove_group()

    def _publish(self, published: LearnerVersion, digest: str) -> None:
        self.published, self.digest = published, digest

    def _launch_once(
        self, version: int, state: Mapping[str, bytes] | None, can_move: bool
    ) -> ProcessInfo:
        strategy = PlacementGroupSchedulingStrategy(self._group) if self._group else None
        self._actor = new_learner_actor(
            self._config, num_cpus=self._num_cpus, scheduling_strategy=strategy
        )
        info: ProcessInfo = self._await(self._actor.start.remote(), can_move)
        if state is not None:
            self._await(self._actor.restore.remote(state))
        digest, weights, files = self._actor.publish.options(num_returns=3).remote()
        self._await(weights)
        self._publish(LearnerVersion(version, weights, self._await(files)), self._await(digest))
        self._budget.answered()
        return info

    def _remove_group(self) -> None:
        if self._group is not None:
            remove_placement_group(self._group)
        self._group = None

    def _move(self) -> None:
        """Gives up the placement group of a lost node and reserves another one.

        The lost group is removed: otherwise Ray retries it forever and burns a core.
        """
        ray.kill(self._actor)
        self._remove_group()
        self._group = self._reserve()
        needs_gpu = learner_gpus(self._config) > 0
        if self._group and not needs_gpu and not self._group.wait(PLACEMENT_WAIT_S):
            # Actors hold all CPUs that are left. The learner joins them without a reservation:
            # the operating system lets it go first.
            self._remove_group()
            self._num_cpus = 0.0

    def _count_death(self, error: Exception) -> None:
        left = end_dead_actor(self._actor, error, self._budget)
        self._bus.publish(ActorLost(None, self._incarnation, str(error), left))
        self._incarnation += 1

    def _await(self, ref: Ref, can_move: bool = False) -> Any:
        """Waits for an answer of the starting learner; looks at the stop request meanwhile.

        Raises:
            PlacementLost: its placement group is on no node, and it `can_move`.
            TimeoutError: it did not answer within `cluster.start_timeout_s`.
        """
        limit_s = self._config.cluster.start_timeout_s
        began = self._clock()
        while not ray.wait([ref], timeout=POLL_S)[0]:
            if self._should_stop():
                raise StopRequested
            waited_s = self._clock() - began
            is_late = waited_s > PLACEMENT_WAIT_S
            if can_move and self._group and is_late and not self._group.wait(1):
                raise PlacementLost
            if waited_s > limit_s:
                raise TimeoutError(f"no answer within {limit_s:g} s of its start")
        return ray.get(ref)


def rejected_rollouts(error: RayError, rollouts: Sequence[Ref]) -> dict[int, str]:
    """Returns which rollouts of a failed update cannot be used: index -> cause.

    Args:
        error: error of the update's call.
        rollouts: references of the update's rollouts.

    Raises:
        Exception: the learner's own exception, if it is not about rollouts.
    """
    cause = remote_cause(error)
    if isinstance(cause, RejectedRolloutsError):
        return cause.causes
    if isinstance(cause, ObjectLostError):
        lost = [i for i, ref in enumerate(rollouts) if ref.hex() == cause.object_ref_hex]
        return dict.fromkeys(lost or range(len(rollouts)), f"lost with its node: {cause}")
    if cause is error:
        raise error
    raise cause from error

"""The driver's end of the learner actor: starts it, hands it rollouts, brings it back.

Holds what the learner published last: packed weights and state as objects that the driver owns,
so that nothing of a finished update dies with the learner's process; copies of them are pulled to
the driver's node (`to_keep`), so that nothing dies with the learner's node either. References only,
no data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import (
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from keisei_ray.config.autosize import learner_gpus
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import ActorHandle, Ref, new_learner_actor, remote_cause
from keisei_ray.distributed.fleet import DeathBudget
from keisei_ray.errors import ClusterError, RejectedRolloutsError, UserError
from keisei_ray.telemetry.events import ActorLost, EventBus
from keisei_ray.telemetry.reports import ProcessInfo

POLL_S = 0.5
"""The longest that anything waits before it looks at the stop request again."""
DEATHS = (RayActorError, OutOfMemoryError)
"""What Ray reports of a call whose process is gone, or out of reach."""


PLACE_WAIT_S = 5.0
"""In which Ray places a learner, if there is room."""


class PlaceLost(Exception):
    """The learner's place is gone with its node."""


class StopRequested(Exception):
    """The run was asked to stop while it waited for the learner to start."""


@dataclass(frozen=True)
class Published:
    """One version of the learner; complete once its update has answered."""

    version: int
    weights: Ref
    """Packed, for the actors."""
    state: Ref
    """Files by name: all that a learner needs to go on from here."""


class LearnerHandle:
    """The run's learner, whichever process it is at the moment."""

    published: Published
    """The newest finished version; there is one from the first `launch` on."""
    digest: str
    """Of its weights."""

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
        bus: told of deaths.
        num_cpus: Ray's reservation.
        reserve: makes the learner's place; None: it has one already, or needs none.
        should_stop: asked while the learner starts.
        clock: monotonic seconds.
        """
        self._config = config
        self._bus = bus
        self._num_cpus = num_cpus
        self._reserve = reserve
        self._place: PlacementGroup | None = None
        self._far: list[Ref] = []
        self._should_stop = should_stop
        self._clock = clock
        self._actor: ActorHandle = None
        self._incarnation = 0
        limits = config.cluster
        self._budget = DeathBudget(
            "the learner", limits.max_actor_deaths, limits.death_window_s, clock
        )

    def launch(self, version: int, state: Mapping[str, bytes] | Ref | None) -> ProcessInfo:
        """Starts a learner, which publishes where it stands.

        Blocks until it has answered. It is tried again when its process dies, within its budget.

        Args:
            version: weights version that it starts from.
            state: files to continue from; None for a new network.

        Raises:
            ActorLostError: it died too often.
            ClusterError: it did not answer in time, or the state is lost.
            UserError: it refused the settings or the state.
            StopRequested: the run was asked to stop meanwhile.
        """
        can_move = self._incarnation > 0
        if not can_move:
            self._place = self._reserve()
        while True:
            where = PlacementGroupSchedulingStrategy(self._place) if self._place else None
            self._actor = new_learner_actor(
                self._config, num_cpus=self._num_cpus, scheduling_strategy=where
            )
            try:
                info: ProcessInfo = self._await(self._actor.start.remote(), can_move)
                if state is not None:
                    self._await(self._actor.restore.remote(state))
                digest, weights, files = self._actor.publish.options(num_returns=3).remote()
                self.digest = self._await(digest)
            except PlaceLost:
                self._move()
                can_move = False
                continue
            except DEATHS as error:
                self._bury(error)
                continue
            except ObjectLostError as error:
                raise ClusterError(
                    "the newest state was lost with the learner's node before another had a copy. "
                    "Go on from the newest checkpoint by --resume latest."
                ) from error
            except RayTaskError as error:
                raise remote_cause(error) from error
            self.published = Published(version, weights, files)
            self._far = [weights, files]
            self._budget.answered()
            return info

    def relaunch(self, error: RayError) -> None:
        """After a death: a new learner that goes on from the newest finished version.

        Raises:
            As `launch`.
        """
        self._bury(error)
        self.launch(self.published.version, self.published.state)

    def update(self, timestep: int, rollouts: Sequence[Ref]) -> tuple[Ref, Published]:
        """Asks for an update; returns at once.

        Returns:
            The reference that answers with an `UpdateReport`, and what will be published then:
            pass it to `adopt`.
        """
        report, weights, state = self._actor.update.options(num_returns=3).remote(
            timestep, *rollouts
        )
        return report, Published(self.published.version + 1, weights, state)

    def adopt(self, published: Published, digest: str) -> None:
        """The update behind `published` has finished."""
        self.published, self.digest = published, digest
        self._far = [published.weights, published.state]

    def to_keep(self) -> list[Ref]:
        """What the driver's node has no copy of yet; waiting for it with Ray makes one."""
        return self._far

    def keep(self, ref: Ref) -> bool:
        """Whether `ref`, which is ready, is one of them; it is here now."""
        is_one = ref in self._far
        self._far = [other for other in self._far if other != ref]
        return is_one

    def dismiss(self) -> None:
        """Ends the learner's process, whatever it is doing. What it published stays."""
        if self._actor is not None:
            ray.kill(self._actor)
        self._leave_place()

    def _leave_place(self) -> None:
        if self._place is not None:
            remove_placement_group(self._place)
        self._place = None

    def _move(self) -> None:
        """To another node, after its own is gone; the place goes too, which Ray would never stop
        trying to put elsewhere, with a whole core of its control service."""
        ray.kill(self._actor)
        self._leave_place()
        self._place = self._reserve()
        needs_gpu = learner_gpus(self._config) > 0
        if self._place and not needs_gpu and not self._place.wait(PLACE_WAIT_S):
            # Actors hold all CPUs that are left; among them the system lets the learner go first.
            self._leave_place()
            self._num_cpus = 0.0

    def _bury(self, error: RayError) -> None:
        """Counts a death. The process may only be out of reach: it must not keep its GPU."""
        ray.kill(self._actor)
        cause = remote_cause(error)
        if isinstance(cause, UserError):
            raise cause from error
        left = self._budget.spend(error)
        self._bus.publish(ActorLost(None, self._incarnation, str(error), left))
        self._incarnation += 1

    def _await(self, ref: Ref, can_move: bool = False) -> Any:
        """What the learner answers while it starts; looks at the stop request meanwhile.

        Raises:
            PlaceLost: its place is nowhere, and it `can_move`.
        """
        limit_s = self._config.cluster.start_timeout_s
        began = self._clock()
        while not ray.wait([ref], timeout=POLL_S)[0]:
            if self._should_stop():
                raise StopRequested
            waited_s = self._clock() - began
            if can_move and self._place and waited_s > PLACE_WAIT_S and not self._place.wait(1):
                raise PlaceLost
            if waited_s > limit_s:
                what = "GPU" if self._config.learner.device == "cuda" else "CPU"
                raise ClusterError(
                    f"the learner did not answer within {limit_s:g} s of its start. Is a node with "
                    f"a free {what} up? Raise cluster.start_timeout_s if the cluster is slow."
                )
        return ray.get(ref)


def rejected_rollouts(error: RayError, rollouts: Sequence[Ref]) -> dict[int, str]:
    """Which of an update's rollouts cannot be used: index -> cause.

    Raises:
        Exception: what the learner raised, if it was about something else.
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

"""The driver's handle on the learner: starts it, hands it rollouts, restarts it.

The learner is one actor, or several that make each update together (`learner.num_learners`): each
is given its share of the rollouts, learner 0 publishes, and an update has finished when all have
done their part. They live and die together: where one dies or does not answer, all are ended and
started again, by the rule for one.

An update has two parts. First it is made (`is_over`, `take_report`); then its version is packed and
travels to the driver's node (`take_version`), while the learner may make the next.

It holds what the learner published last. The state is in the driver's own memory, so that it is
lost with nothing that an update can outlive: not with the learner, its node, or Ray itself. The
packed weights are an object that the driver owns, with a copy on its node. An update has only
finished when both are here; the copy of the state takes 1 ms for the 4 MiB of a 4x64 network and 4
to 25 ms for the 35 MiB of a 10x128. If the learner dies, updates that were made and not published
are lost with it, and made again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from keisei_ray.config.autosize import learner_gpus
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import ActorHandle, Ref, new_learner_actor
from keisei_ray.distributed.ray_errors import remote_cause
from keisei_ray.distributed.supervision import (
    DEATHS,
    POLL_S,
    DeathBudget,
    end_dead_actor,
    end_process,
)
from keisei_ray.errors import CheckpointError, ClusterError, PeerLostError, RejectedRolloutsError
from keisei_ray.telemetry.events import ActorLost, EventBus
from keisei_ray.telemetry.reports import ProcessInfo, Publication, UpdateReport

PLACEMENT_WAIT_S = 5.0
"""Seconds within which Ray places a learner if there is room for it."""


PEER_WAIT_S = 5.0
"""Seconds that the reports of the other learners get once one of them has lost another: Ray knows
within these which of them has died, and of what."""


class PlacementLost(Exception):
    """A node that held the learner's placement group is gone."""


class StopRequested(Exception):
    """The run was asked to stop while it waited for the learner to start."""


class StateRefused(CheckpointError):
    """The learner has refused the state that it was to go on from; the message is the learner's.

    Other errors of its start are not about that state, also where they are a CheckpointError, as
    the network that `learner.kl_start_coef` pulls towards can cause one.
    """


class SeveralLearnersLost(Exception):
    """One of several learners has died, or cannot reach another one; its message says which.

    Attributes:
        cause: the error of that learner.
        rejected: rollouts of the update that others have refused: index -> cause.
    """

    def __init__(
        self, rank: int, cause: BaseException, rejected: Mapping[int, str] | None = None
    ) -> None:
        """Makes the error of learner `rank`."""
        super().__init__(f"learner {rank}: {cause}")
        self.cause = cause  # Where `remote_cause` looks.
        self.rejected = rejected or {}


LEARNER_LOST = (*DEATHS, ObjectLostError, SeveralLearnersLost)
"""Errors by which Ray reports that the learner is gone, or that its node is, and what it answered
with it. A `RayTaskError` is none of them, whatever else it is: the learner has raised it."""


@dataclass(frozen=True)
class LearnerVersion:
    """One finished version of the learner: its weights and its state."""

    version: int
    weights: Ref
    """Packed weights, for the actors."""
    state: Mapping[str, bytes]
    """Files by name: everything that a learner needs to go on from here."""


@dataclass(frozen=True)
class PublishingUnderWay:
    """References to the parts of a version that is being packed."""

    figures: Ref
    weights: Ref
    state: Ref


@dataclass
class UpdateUnderWay:
    """References to what an update will have made."""

    version: int
    """Version of the weights."""
    answers: tuple[Ref, ...]
    """Answers of all learners, by their rank, each when its part of the update is done."""
    shares: tuple[tuple[Ref, ...], ...]
    """The rollouts that each learner was given, by its rank."""
    waited_s: float
    """Seconds that the learner was idle before it."""
    missing: set[Ref]
    """Answers, then parts of the version, as long as the driver's node does not have them. Waiting
    for them with Ray makes it fetch them."""
    report: UpdateReport | None = None
    """Figures of the update, once it is made."""
    publishing: PublishingUnderWay | None = None
    """Packing of its version, from then on."""

    @property
    def is_packed(self) -> bool:
        """Whether the driver's node has all of its version."""
        return self.publishing is not None and not self.missing

    @property
    def deadline(self) -> Ref:
        """The reference whose answer is overdue where that of the update's part under way is."""
        return self.publishing.state if self.publishing else self.answers[0]


class LearnerHandle:
    """The run's learner, over all its incarnations."""

    published: LearnerVersion
    """The newest finished version; set by the first `launch`."""
    digest: str
    """Digest of the published weights."""
    _newest: int
    """Number of the newest version that has been made."""

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
        num_cpus: CPUs that Ray reserves for each learner.
        reserve: makes the placement group, with a bundle for each learner; None where they need
            none of their own.
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
        self._actors: list[ActorHandle] = []
        self._initial: bytes | None = None
        self._incarnation = 0
        self._budget = DeathBudget("the learner", config.cluster, clock)

    def launch(
        self, version: int, state: Mapping[str, bytes] | None, initial: bytes | None = None
    ) -> ProcessInfo:
        """Starts a learner, which publishes its weights and state.

        Blocks until the learner has answered. If its process dies it is restarted, within its
        budget.

        Args:
            version: weights version that it starts from.
            state: files to continue from; None for a new network.
            initial: model file of the network that a new one begins as, and that
                learner.kl_start_coef pulls towards; None: at random.

        Raises:
            ActorLostError: it died too often.
            ClusterError: the run's first learner did not answer in time.
            StateRefused: it refused the state.
            UserError: it refused the settings or `initial`, or has too little memory.
            StopRequested: the run was asked to stop meanwhile.
        """
        self._initial = initial
        can_move = self._incarnation > 0
        if not can_move:
            self._group = self._reserve()
        while True:
            try:
                return self._launch_once(version, state, initial, can_move)
            except PlacementLost:
                self._move()
                can_move = False
            except RayTaskError as error:
                cause = remote_cause(error)
                if not isinstance(cause, PeerLostError):
                    raise cause from error
                self._count_death(cause)
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
        self.launch(self.published.version, self.published.state, self._initial)

    def update(
        self, timestep: int, rollouts: Sequence[Ref], *, waited_s: float = 0.0
    ) -> UpdateUnderWay:
        """Asks for an update; returns at once. The update before it has been made.

        Args:
            timestep: the run's timestep before the update.
            rollouts: its packed rollouts.
            waited_s: see `UpdateUnderWay`.
        """
        number = len(self._actors)
        bounds = [rank * len(rollouts) // number for rank in range(number + 1)]
        shares = tuple(tuple(rollouts[start:stop]) for start, stop in pairwise(bounds))
        first, *followers = self._actors
        answers = (
            first.update.remote(timestep, *shares[0]),
            *(
                actor.follow.remote(timestep, *share)
                for actor, share in zip(followers, shares[1:], strict=True)
            ),
        )
        return UpdateUnderWay(
            self._newest + 1, answers, shares, waited_s=waited_s, missing=set(answers)
        )

    def is_over(self, update: UpdateUnderWay) -> bool:
        """Returns whether it is time to `take_report`.

        That is so when all learners have answered, and when one of several has failed: the others
        may then wait for that one forever.
        """
        return not update.missing or bool(len(update.answers) > 1 and _failures(update))

    def take_report(self, update: UpdateUnderWay) -> None:
        """Takes the report of an update that is over, and asks for its version.

        After an error there is no such version: the one before is still the newest.

        Raises:
            RayTaskError: the learner raised an exception.
            RejectedRolloutsError: some of several learners refused rollouts; all are named.
            Exception: another exception of one of several learners.
            LEARNER_LOST: it died; of several: see `SeveralLearnersLost`.
        """
        if len(update.answers) > 1:
            self._check_all(update)
        update.report = ray.get(update.answers[0])
        self._newest = update.version
        figures, weights, state = self._actors[0].publish.options(num_returns=3).remote()
        update.publishing = PublishingUnderWay(figures, weights, state)
        update.missing = {figures, weights, state}

    def take_version(self, update: UpdateUnderWay) -> UpdateReport:
        """Makes the version of an update the published one, once it `is_packed`.

        Returns:
            The update's report, complete.

        Raises:
            LEARNER_LOST: it died, or weights or state were lost with its node.
            Exception: another exception of the learner.
        """
        assert update.report is not None, "take_report comes first"
        assert update.publishing is not None, "take_report comes first"
        parts = update.publishing
        try:
            figures: Publication = ray.get(parts.figures)
            state: Mapping[str, bytes] = ray.get(parts.state)
            ray.get(parts.weights)  # Copies nothing, and raises if they were lost.
        except RayTaskError as error:
            raise remote_cause(error) from error
        self.published = LearnerVersion(update.version, parts.weights, state)
        self.digest = figures.weights_digest
        return replace(
            update.report,
            weights_bytes_wire=figures.weights_bytes_wire,
            publish_time_s=figures.publish_time_s,
        )

    def waits_for_room(self) -> bool:
        """Returns whether Ray has not placed the learner yet, in whose group it is to run."""
        return self._group is not None and not self._group.wait(0)

    def dismiss(self) -> None:
        """Ends the learner's process, whatever it is doing. LearnerVersion objects stay."""
        for actor in self._actors:
            ray.kill(actor)
        self._remove_group()

    def _launch_once(
        self,
        version: int,
        state: Mapping[str, bytes] | None,
        initial: bytes | None,
        can_move: bool,
    ) -> ProcessInfo:
        self._actors = [
            new_learner_actor(
                self._config,
                rank,
                num_cpus=self._num_cpus,
                scheduling_strategy=self._strategy(rank),
            )
            for rank in range(self._config.learner.num_learners)
        ]
        first, *followers = self._actors
        if followers:
            place = self._await(first.open_group.remote(), can_move)
            starts = [actor.start.remote(place) for actor in self._actors]
        else:
            starts = [first.start.remote()]
        info: ProcessInfo = self._await_all(starts, can_move)[0]
        if state is not None:
            self._restore(first, state)
        elif initial is not None:
            self._await(first.begin_as.remote(initial))
        if initial is not None and self._config.learner.kl_start_coef > 0:
            self._await_all([actor.pull_to.remote(initial) for actor in self._actors])
        self._await(first.snapshot.remote())
        figures, weights, files = first.publish.options(num_returns=3).remote()
        self._await(weights)
        newest = LearnerVersion(version, weights, self._await(files))
        # The followers' weights are those of the first also where a node computes others.
        self._await_all([actor.restore.remote(newest.state) for actor in followers])
        published: Publication = self._await(figures)
        self.published, self.digest = newest, published.weights_digest
        self._newest = version
        self._budget.answered()
        return info

    def _restore(self, learner: ActorHandle, state: Mapping[str, bytes]) -> None:
        """Has a new learner go on from a state.

        Raises:
            StateRefused: the learner refuses the state.
            RayError: it fails otherwise.
        """
        try:
            self._await(learner.restore.remote(state))
        except RayTaskError as error:
            cause = remote_cause(error)
            if isinstance(cause, CheckpointError):
                raise StateRefused(str(cause)) from error
            raise

    def _strategy(self, rank: int) -> PlacementGroupSchedulingStrategy | None:
        """The place of a learner: its bundle of the placement group."""
        if self._group is None:
            return None
        return PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=rank)

    def _check_all(self, update: UpdateUnderWay) -> None:
        """Raises what an update of several learners has failed with, if it has; see `take`.

        A death comes first: what the others have raised may follow from it. Where learners have
        refused rollouts and another one still waits for them in the update, it is lost as well.
        """
        failures = _failures(update)
        pending = [ref for rank, ref in enumerate(update.answers) if rank not in failures]
        while failures and pending and not _deaths(failures):
            ready, pending = ray.wait(pending, timeout=PEER_WAIT_S)
            if not ready:
                break
            failures = _failures(update)
        for rank, error in _deaths(failures).items():
            raise SeveralLearnersLost(rank, error) from error
        lost = {r: e for r, e in failures.items() if isinstance(remote_cause(e), PeerLostError)}
        causes: dict[int, str] = {}
        for rank in failures.keys() - lost.keys():
            start = sum(len(share) for share in update.shares[:rank])
            rejected = rejected_rollouts(failures[rank], update.shares[rank])
            causes |= {start + index: cause for index, cause in rejected.items()}
        if not failures:
            return
        rank = min(failures)
        if lost or pending:
            raise SeveralLearnersLost(rank, remote_cause(failures[rank]), causes)
        raise RejectedRolloutsError(causes)

    def _remove_group(self) -> None:
        if self._group is not None:
            remove_placement_group(self._group)
        self._group = None

    def _move(self) -> None:
        """Gives up the placement group of a lost node and reserves another one.

        The lost group is removed: otherwise Ray retries it forever and burns a core.
        """
        for actor in self._actors:
            ray.kill(actor)
        self._remove_group()
        self._group = self._reserve()
        needs_gpu = learner_gpus(self._config) > 0
        if self._group and not needs_gpu and not self._group.wait(PLACEMENT_WAIT_S):
            # Actors hold all CPUs that are left. The learner joins them without a reservation:
            # the operating system lets it go first.
            self._remove_group()
            self._num_cpus = 0.0

    def _count_death(self, error: Exception) -> None:
        first, *followers = self._actors
        for actor in followers:  # They would wait for the dead one.
            end_process(actor, error)
        left = end_dead_actor(first, error, self._budget)
        self._bus.publish(ActorLost(None, self._incarnation, str(error), left))
        self._incarnation += 1

    def _await(self, ref: Ref, can_move: bool = False) -> Any:
        """Waits for an answer of the starting learner, see `_await_all`."""
        return self._await_all([ref], can_move)[0]

    def _await_all(self, refs: Sequence[Ref], can_move: bool = False) -> list[Any]:
        """Waits for answers of the starting learners; looks at the stop request meanwhile.

        Raises:
            RayError: a learner has failed; the other answers may never come.
            PlacementLost: its placement group is on no node, and it `can_move`.
            TimeoutError: it did not answer within `cluster.start_timeout_s`.
        """
        limit_s = self._config.cluster.start_timeout_s
        began = self._clock()
        answers: dict[Ref, Any] = {}
        pending = list(refs)
        while pending:
            ready, pending = ray.wait(pending, timeout=POLL_S)
            answers |= {ref: ray.get(ref) for ref in ready}
            if ready:
                continue
            if self._should_stop():
                raise StopRequested
            waited_s = self._clock() - began
            is_late = waited_s > PLACEMENT_WAIT_S
            if can_move and self._group and is_late and not self._group.wait(1):
                raise PlacementLost
            if waited_s > limit_s:
                raise TimeoutError(f"no answer within {limit_s:g} s of its start")
        return [answers[ref] for ref in refs]


def _failures(update: UpdateUnderWay) -> dict[int, RayError]:
    """Returns the errors of the learners that have failed in an update by now, by their rank."""
    ready, _ = ray.wait(list(update.answers), num_returns=len(update.answers), timeout=0)
    failures: dict[int, RayError] = {}
    for rank, answer in enumerate(update.answers):
        if answer in ready:
            try:
                ray.get(answer)
            except RayError as error:
                failures[rank] = error
    return failures


def _deaths(failures: Mapping[int, RayError]) -> dict[int, RayError]:
    """Returns those of the failures that no learner has raised."""
    return {rank: e for rank, e in failures.items() if not isinstance(e, RayTaskError)}


def rejected_rollouts(
    error: RayError | RejectedRolloutsError, rollouts: Sequence[Ref]
) -> dict[int, str]:
    """Returns which rollouts of a failed update cannot be used: index -> cause.

    Args:
        error: error of the update's call, or of several learners' calls together.
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

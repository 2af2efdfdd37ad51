"""Supervision: the errors that are deaths, and whether an actor is started again.

One rule for self-play actors, learner and evaluator (`end_dead_actor`). When an actor has died,

1. its process is ended: it may only be out of reach, and must not keep its CPUs and GPU;
2. if the cause is a `UserError`, which a restart cannot put right, it is raised;
3. the death is counted, and `ActorLostError` is raised if the actor has died too often;
4. otherwise the actor is restarted as its next incarnation.

Too often means: more than `cluster.max_actor_deaths` times (3) within `cluster.death_window_s`
seconds (60), or more than that many times in a row without a successful start between (for the
evaluator: a finished match).

These differences between the actors are intended:

                      what counts as a death   a start too late   dying too often
    self-play actor   any RayError             is a death         ends the run
    learner           only DEATHS              ends the run *     ends the run
    evaluator         only DEATHS              see below          ends the evaluation, not the run

    * the first start, where settings or cluster are to blame; a later one is a death

Deaths are noticed in these places:

    self-play actor   Driver._take_start, Driver._take_rollout, Driver._replace_overdue
    learner           Driver._take_update, Driver._replace_overdue, LearnerHandle.launch
    evaluator         EvaluationHandle._take, EvaluationHandle._abandon

A self-play actor that raises has games in an unknown state, and a new one plays as well; so it is
replaced. The learner would raise the same again from the same state, and the evaluator's error is
about one match only; so an exception that they raise is not a death. Evaluation never ends a run: a
death of the evaluator whose cause is a `UserError` (its node lacks a package) is counted like any
other, since the next incarnation may run on another node.

Several learners are one actor for these rules: the death of one ends all, and so does the report
of one that it cannot reach another.

Nothing watches an actor between calls: a death while it is idle is noticed at its next call. A
rollout, an update or a match that takes too long is a death of all three: `deadlines.py` says how
long that is. Of the evaluator it includes the start.

Ray ends a process that does not react with SIGKILL, five seconds after `ray.kill` (Ray 2.60). One
whose answer is overdue is killed without that delay (`halted_process.py`).
"""

from collections import deque
from collections.abc import Callable

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from keisei_ray.config.sections import ClusterConfig
from keisei_ray.distributed.actors import ActorHandle
from keisei_ray.distributed.halted_process import kill_process
from keisei_ray.distributed.ray_errors import remote_cause
from keisei_ray.errors import ActorLostError, UserError

DEATHS = (RayActorError, OutOfMemoryError)
"""Errors by which Ray reports that the process of a call is gone or out of reach."""
POLL_S = 0.5
"""Longest time in seconds that a wait goes on before the stop request is looked at again."""


class DeathBudget:
    """The number of times that an actor may die.

    It may die `cluster.max_actor_deaths` times within `cluster.death_window_s` seconds. It may also
    die at most that many times in a row: a death counts as one in a row if the actor has not
    answered since the death before, however long ago that was. A start counts as an answer; of the
    evaluator, only a finished match does.
    """

    def __init__(self, what: str, limits: ClusterConfig, clock: Callable[[], float]) -> None:
        """Args:
        what: the actor, for the message.
        limits: settings that hold the two limits.
        clock: monotonic seconds.
        """
        self._what = what
        self._limit = limits.max_actor_deaths
        self._window_s = limits.death_window_s
        self._clock = clock
        self._deaths: deque[float] = deque()
        """Times of the deaths within the window."""
        self._in_a_row = 0

    def answered(self) -> None:
        """Notes that the actor is up: deaths in a row count from 0; those in the window stay."""
        self._in_a_row = 0

    def spend(self, cause: BaseException) -> int:
        """Counts a death.

        Returns:
            Further deaths after which the actor would be replaced again, if they came at once.

        Raises:
            ActorLostError: the actor has died too often; `cause` is chained.
        """
        now = self._clock()
        self._deaths.append(now)
        self._in_a_row += 1
        while now - self._deaths[0] > self._window_s:
            self._deaths.popleft()
        deaths = max(len(self._deaths), self._in_a_row)
        left = self._limit - deaths
        if left < 0:
            when = f"in {self._window_s:g} s" if deaths == len(self._deaths) else "in a row"
            raise ActorLostError(
                f"{self._what} died {deaths} times {when} (limit {self._limit}). "
                f"Last cause: {type(cause).__name__}: {cause}"
            ) from cause
        return left


def end_process(actor: ActorHandle, error: BaseException) -> None:
    """Ends the process of an actor, soon.

    Args:
        actor: its process may be dead already.
        error: what its death was noticed by; a TimeoutError if its answer is overdue.
    """
    if isinstance(error, TimeoutError):  # It may be halted.
        kill_process(actor)
    ray.kill(actor)


def end_dead_actor(
    actor: ActorHandle,
    error: BaseException,
    budget: DeathBudget,
    *,
    is_user_error_final: bool = True,
) -> int:
    """Ends what is left of an actor that has died, and counts the death.

    Args:
        actor: its process may still be alive.
        error: what its death was noticed by.
        budget: the actor's, over all its incarnations.
        is_user_error_final: whether a `UserError` is raised instead of being counted.

    Returns:
        Further deaths after which the actor would be replaced again, if they came at once. The
        caller starts the next incarnation.

    Raises:
        UserError: the cause is one that a restart cannot put right.
        ActorLostError: the actor has died too often.
    """
    end_process(actor, error)
    cause = remote_cause(error)
    if is_user_error_final and isinstance(cause, UserError):
        raise cause from error
    return budget.spend(cause)

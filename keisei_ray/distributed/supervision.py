"""Supervision: what counts as the death of an actor, and whether the actor may be restarted.

One rule for self-play actors, learner and evaluator (`end_dead_actor`). When an actor has died,

1. its process is ended: it may only be out of reach, and must not keep its CPUs and GPU;
2. a `UserError`, which a restart cannot put right, is raised;
3. the death is counted, and `ActorLostError` is raised if the actor's budget is spent;
4. otherwise the actor is restarted as its next incarnation.

Three differences between the actors are intended:

                      what counts as a death           a UserError       a spent budget
    self-play actor   every failed call, late start    ends the run      ends the run
    learner           DEATHS                           ends the run      ends the run
    evaluator         DEATHS                           counts as death   ends the evaluation

A self-play actor that raises has games in an unknown state, and a new one plays as well; so it is
replaced. The learner would raise the same again from the same state, and the evaluator's error is
about one match only; so an error that they raise is no reason to restart them. Evaluation never
ends a run: its `UserError` may be about one node, and the next incarnation may run on another.
"""

from collections import deque
from collections.abc import Callable

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from keisei_ray.config.sections import ClusterConfig
from keisei_ray.distributed.actors import ActorHandle
from keisei_ray.distributed.ray_errors import remote_cause
from keisei_ray.errors import ActorLostError, UserError

DEATHS = (RayActorError, OutOfMemoryError)
"""Errors by which Ray reports that the process of a call is gone or out of reach."""
POLL_S = 0.5
"""Longest time in seconds that a wait goes on before the stop request is looked at again."""


class DeathBudget:
    """The number of times that an actor may die.

    It may die `cluster.max_actor_deaths` times within `cluster.death_window_s` seconds, and as many
    times in a row without having answered, however long each start took.
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
        """The actor is up: earlier deaths count only within the window from now on."""
        self._in_a_row = 0

    def spend(self, cause: BaseException) -> int:
        """Counts a death.

        Returns:
            Deaths that are still allowed within the window.

        Raises:
            ActorLostError: the budget is spent; `cause` is chained.
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
        Restarts that are left; the caller starts the next incarnation.

    Raises:
        UserError: the cause is one that a restart cannot put right.
        ActorLostError: the budget is spent.
    """
    ray.kill(actor)
    cause = remote_cause(error)
    if is_user_error_final and isinstance(cause, UserError):
        raise cause from error
    return budget.spend(cause)

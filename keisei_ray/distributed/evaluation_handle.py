"""The driver's handle on the evaluator: matches of the newest weights, beside training.

Nothing here waits, except `finish` at the end of a run, and that for a bounded time. One match
is under way at a time; it ends when the evaluator answers, Ray reports its death, or its answer is
overdue. Of the weights that are to be evaluated while an evaluation is under way, only the newest
wait for its end. While matches have taken more than `evaluation.max_cpu_share` of the session's CPU
time, none begins; the first always may.
The weights are references to what the learner published. The driver opens them only to write them
to disk, so that a resumed run can play against them.
"""

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from ray.exceptions import RayError

from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import ActorHandle, Ref, new_evaluation_actor
from keisei_ray.distributed.deadlines import Deadlines
from keisei_ray.distributed.learner_handle import LearnerVersion
from keisei_ray.distributed.ray_errors import remote_cause
from keisei_ray.distributed.supervision import DEATHS, POLL_S, DeathBudget, end_dead_actor
from keisei_ray.errors import ActorLostError, UserError
from keisei_ray.evaluation.earlier_versions import (
    load_versions,
    next_opponents,
    numbers_to_keep,
    save_version,
)
from keisei_ray.evaluation.plan import PlannedMatch, plan_matches
from keisei_ray.telemetry.events import EvaluationFinished, EventBus, Level, Notice
from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger
from keisei_ray.telemetry.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Due:
    """Weights to be measured, and when in the run they were published."""

    timestep: int
    run_time_s: float
    version: int
    weights: Ref


@dataclass(frozen=True)
class _Earlier:
    """A version that was measured before, to play against."""

    version: int
    weights: Ref


class EvaluationHandle:
    """The run's evaluator, over all its incarnations. Does nothing if evaluation is off."""

    def __init__(
        self,
        config: Config,
        bus: EventBus,
        run_dir: Path,
        progress: Progress,
        *,
        num_cpus: float,
        clock: Callable[[], float],
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        bus: gets an event for each finished match and a notice of each failure.
        run_dir: directory of the run, which keeps the versions to play against.
        progress: counts at the start of the run.
        num_cpus: CPUs of the cluster, of which the matches may take a share.
        clock: monotonic seconds.
        """
        every = config.evaluation.interval_timesteps
        self._config = config
        self._bus = bus
        self._run_dir = run_dir
        self._clock = clock
        self._began_s = clock()
        self._allowed_cpus = config.evaluation.max_cpu_share * num_cpus
        self._cpu_time_s = 0.0
        """CPU time of all evaluators, as far as they have answered."""
        self._trigger = PeriodicTrigger(every, last=progress.timestep) if every else None
        self._first_version = progress.weights_version
        self._waiting: _Due | None = None
        self._measured: _Due | None = None
        self._queue: deque[PlannedMatch] = deque()
        self._under_way: tuple[PlannedMatch, Ref] | None = None
        """The match, and the reference that becomes ready with its result."""
        self._earlier: dict[int, _Earlier] | None = None
        """Versions by number of their evaluation; None until the run's files have been read."""
        self._opponents: dict[int, Ref] = {}
        """Packed weights of the earlier versions that the plan names."""
        self._scores: dict[tuple[str, bool], float] = {}
        """Newest score of this session by (opponent, whether the player finished mates)."""
        self._left_out: set[str] = set()
        """Opponents that cannot be played, such as a missing checkpoint."""
        self._has_said_late = False
        self._is_held_back = False
        """Whether the matches of the version that is measured have waited for their share."""
        self._actor: ActorHandle = None
        self._incarnation = 0
        self._budget = DeathBudget("the evaluator", config.cluster, clock)
        self._deadlines: Deadlines[Ref] = Deadlines(config.cluster.call_timeout_s, clock)

    @property
    def versions_under_way(self) -> frozenset[int]:
        """Weights versions that are being evaluated, or wait for it."""
        is_measuring = self._under_way is not None or bool(self._queue)
        due = (self._measured if is_measuring else None, self._waiting)
        return frozenset(d.version for d in due if d is not None)

    def poll(self, progress: Progress, published: LearnerVersion) -> None:
        """Takes the evaluator's answer, if there is one, and gives it the next match.

        Returns at once.

        Args:
            progress: the run's counts, now.
            published: the newest finished version.
        """
        if self._trigger is None:
            return
        if self._trigger.is_due(progress.timestep):
            is_late = self._waiting is not None and not self._is_held_back
            if is_late and not self._has_said_late:
                self._has_said_late = True
                self._say(
                    "evaluations take longer than evaluation.interval_timesteps = "
                    f"{self._trigger.every}: only the newest weights wait for their turn",
                    "INFO",
                )
            self._waiting = _Due(
                progress.timestep, progress.wall_time_s, published.version, published.weights
            )
        self._advance()

    def finish(self, should_stop: Callable[[], bool]) -> None:
        """Ends the evaluation at the end of a run, after waiting for what is under way or due.

        Waits at most `evaluation.finish_timeout_s`, for answers or the evaluator's death; a stop
        request ends the wait at once. The CPUs are free now, so no match is held back.
        """
        self._allowed_cpus = math.inf
        timeout_s = self._config.evaluation.finish_timeout_s
        deadline = self._clock() + timeout_s
        if not should_stop():
            self._advance()
        if self._under_way is not None and not should_stop():
            self._say(
                f"training is done; the matches of {self._names_left()} are played, for at most "
                f"{timeout_s:g} s (evaluation.finish_timeout_s)",
                "INFO",
            )
        while self._under_way is not None and not should_stop():
            left_s = deadline - self._clock()
            if left_s <= 0:
                break
            ray.wait([self._under_way[1]], timeout=min(POLL_S, left_s))
            self._advance()
        if names := self._names_left():
            if should_stop():
                self._say(f"the run is stopped: matches of {names} are left out", "INFO")
            else:
                self._say(
                    f"evaluation of {names} abandoned at the end of the run: matches that were not "
                    "finished do not count (evaluation.finish_timeout_s)"
                )
        self.dismiss()

    def _names_left(self) -> str:
        """Returns the versions whose matches are under way or due, e.g. `v3 and v4`; or ""."""
        return " and ".join(f"v{version}" for version in sorted(self.versions_under_way))

    def dismiss(self) -> None:
        """Ends the evaluator's process, whatever it is doing, and drops all planned matches."""
        self._trigger = self._waiting = self._under_way = None
        self._queue.clear()
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None

    def _advance(self) -> None:
        if self._under_way is not None:
            match, answer = self._under_way
            if ray.wait([answer], timeout=0)[0]:
                self._under_way = None
                self._take(match, answer)
            elif error := self._deadlines.overdue().get(answer):
                self._under_way = None
                self._abandon(match, answer, error)
            else:
                return
        if self._cpu_time_s > self._allowed_cpus * (self._clock() - self._began_s):
            self._is_held_back = True
            return
        if not self._queue and self._waiting is not None:
            self._measured, self._waiting = self._waiting, None
            self._is_held_back = False
            self._begin(self._measured)
        if self._queue:
            self._start(self._queue.popleft())

    def _take(self, match: PlannedMatch, answer: Ref) -> None:
        """Takes the result of a match, or its failure."""
        try:
            with self._deadlines.taking(answer):
                result, cpu_time_s = ray.get(answer)
        except DEATHS as error:
            self._queue.appendleft(match)
            self._replace_actor(error)
        except RayError as error:
            cause = remote_cause(error)
            logger.warning("%s against %s", match.player, match.opponent, exc_info=error)
            often = ""
            if isinstance(cause, UserError):
                self._left_out.add(match.opponent)
                self._queue = deque(m for m in self._queue if m.opponent != match.opponent)
                often = ", and so will all others against it"
            self._say(
                f"evaluation of {match.player} against {match.opponent} is left out{often}: "
                f"{type(cause).__name__}: {cause}",
            )
        else:
            self._budget.answered()
            self._cpu_time_s += cpu_time_s
            self._scores[match.opponent, match.finishing] = result.match.score
            self._bus.publish(EvaluationFinished(result))

    def _abandon(self, match: PlannedMatch, answer: Ref, error: TimeoutError) -> None:
        """Leaves out a match whose answer is overdue, with the evaluator that plays it."""
        self._deadlines.forget(answer)
        self._say(f"evaluation of {match.player} against {match.opponent} is left out: {error}")
        self._replace_actor(error)

    def _begin(self, due: _Due) -> None:
        """Plans the matches of these weights, and keeps them to be played by later ones."""
        if self._earlier is None:
            self._earlier = self._read_earlier()
        opponents = [self._earlier[number] for number in next_opponents(self._earlier)]
        self._opponents = {earlier.version: earlier.weights for earlier in opponents}
        plan = plan_matches(
            self._config.evaluation,
            run_seed=self._config.run.seed,
            timestep=due.timestep,
            run_time_s=due.run_time_s,
            weights_version=due.version,
            earlier_versions=list(self._opponents),
            scores=self._scores,
        )
        self._queue.extend(match for match in plan if match.opponent not in self._left_out)
        number = max(self._earlier, default=0) + 1
        self._earlier[number] = _Earlier(due.version, due.weights)
        keep = numbers_to_keep(self._earlier)
        self._earlier = {n: earlier for n, earlier in self._earlier.items() if n in keep}
        try:
            save_version(self._run_dir, number, memoryview(ray.get(due.weights)), keep)
        except (OSError, RayError) as error:
            self._say(f"v{due.version} is not kept as an opponent for a resumed run: {error}")

    def _read_earlier(self) -> dict[int, _Earlier]:
        """Reads the versions that a resumed run measured before; none in a fresh run."""
        try:
            saved = load_versions(self._run_dir, self._first_version)
        except OSError as error:
            self._say(f"earlier versions cannot be played, their files cannot be read: {error}")
            return {}
        return {
            s.number: _Earlier(s.version, ray.put(np.frombuffer(s.buffer, np.uint8))) for s in saved
        }

    def _start(self, match: PlannedMatch) -> None:
        assert self._measured is not None
        if self._actor is None:
            self._actor = new_evaluation_actor(self._config, self._incarnation)
            self._incarnation += 1
        opponent = None
        if match.opponent_version is not None:
            opponent = self._opponents[match.opponent_version]
        answer = self._actor.play.remote(match, self._measured.weights, opponent)
        self._under_way = match, answer
        is_earlier = match.opponent_version is not None
        against = "an earlier version" if is_earlier else match.opponent
        self._deadlines.asked(answer, f"play against {against}")

    def _replace_actor(self, error: Exception) -> None:
        """Makes room for the next evaluator after a death, or gives the evaluation up."""
        actor, self._actor = self._actor, None
        try:
            left = end_dead_actor(actor, error, self._budget, is_user_error_final=False)
        except ActorLostError as lost:
            self.dismiss()
            self._say(f"no more evaluations, training goes on: {lost}")
        else:
            self._say(f"evaluator lost, {left} restarts left: {error}")

    def _say(self, message: str, level: Level = "WARNING") -> None:
        self._bus.publish(Notice(message, level))

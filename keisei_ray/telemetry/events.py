"""Typed events of a run, and the bus that delivers them to subscribers.

The driver publishes; the terminal view, the JSON files, trackers and users' own callables
subscribe. An exception of a subscriber is logged and counted; the other subscribers still get the
event, and training goes on. A subscriber that may block has a thread and a bounded queue of its
own; events that find the queue full are counted. Closing is bounded in time on every thread and
system: no signals, a hanging `close` is left behind in a daemon thread.

The bus does not depend on what an event means.
"""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.telemetry.call_queue import CallQueue
from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.divergence import Divergence
from keisei_ray.telemetry.metrics import UpdateMetrics
from keisei_ray.telemetry.reports import EvaluationResult, Rating, Trace

logger = logging.getLogger(__name__)

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

WARNINGS_PER_SUBSCRIBER = 3
"""Failures of one subscriber that are warned of with their tracebacks. Further ones are counted and
get a line of level INFO, so that a broken subscriber cannot fill the log."""


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str] = "event"
    """Class name in snake case, e.g. "actor_ready"."""

    def __init_subclass__(cls) -> None:
        """Sets the kind of the subclass."""
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True)
class RunStarted(Event):
    """The configuration is final and the run directory exists; no actor has been started yet."""

    config: Config
    """Effective configuration: everything that depends on the hardware is decided."""
    run_dir: str
    resumed_from: str | None
    """Path of the resumed checkpoint, None for a fresh run."""
    cluster: Mapping[str, int | float | str]
    """Resources from Ray: e.g. num_nodes, num_cpus, num_gpus, gpu (a name), dashboard_url."""
    timestep: int = 0
    """Timestep at which this session begins: the checkpoint's, 0 for a fresh run."""


@dataclass(frozen=True)
class ActorReady(Event):
    """A self-play actor has built its games and its model, and answers calls."""

    actor_id: int
    incarnation: int
    pid: int
    node: str


@dataclass(frozen=True)
class ActorLost(Event):
    """An actor died, failed in a call or started too late, and is being replaced.

    The death that ends a run has no such event: `RunEnded` names it. Nor have deaths of the
    evaluator, which are notices.
    """

    actor_id: int | None
    """Id of the self-play actor; None for the learner."""
    incarnation: int
    cause: str
    """Remote error, traceback included where there is one."""
    restarts_left: int
    """Further deaths after which it would be replaced again, if they came at once."""


@dataclass(frozen=True)
class ClusterChanged(Event):
    """Nodes or CPUs have joined or left the cluster; the numbers are those from now on."""

    num_nodes: int
    num_cpus: int
    num_gpus: int
    num_actors: int
    """Self-play actors wanted."""
    num_with_room: int
    """Actors of num_actors that the CPUs have room for; the others wait."""
    rollouts_per_update: int
    """Rollouts of the next update."""


@dataclass(frozen=True)
class RolloutArrived(Event):
    """A rollout has been delivered: its report is accepted, and it waits for its update."""

    actor_id: int
    incarnation: int
    weights_version: int
    timesteps: int
    """Plies of the rollout (T * N); the run's `timestep` does not include them yet."""
    records: str = ""
    """Counts of its reader of records in its pass, in words; empty in self-play."""


@dataclass(frozen=True)
class RolloutRejected(Event):
    """A delivered rollout cannot be used and is not counted; the run goes on without it.

    It was delivered before, or lost with its node, or the learner could not read it: damaged, not a
    rollout, or written by a newer version of this program. A rollout that is too old is a bug of
    this program and ends the run (`PolicyLagError`).
    """

    actor_id: int
    cause: str


@dataclass(frozen=True)
class GameFinished(Event):
    """A game ended in a rollout that has just been consumed. LearnerVersion once per game."""

    game: FinishedGame
    timestep: int
    """Timestep of the run, that rollout included."""


@dataclass(frozen=True)
class UpdateFinished(Event):
    """The learner has done an update and its weights are published."""

    metrics: UpdateMetrics
    sample_board: str | None = None
    """Position of one game in play, as SFEN."""
    sample_last_move: str | None = None
    """Move that led to `sample_board`, in USI; None at the start of a game."""
    is_sample_over: bool = False
    """Whether `sample_board` is the end of a finished game, as where a run is watched by its
    files."""


@dataclass(frozen=True)
class UpdateUndone(Event):
    """An update made something infinite or not a number, and the learner undid all of it.

    Its plies count as consumed. It published the weights from before under a version of its own.
    """

    update: int
    """Number of the update in the run."""
    cause: str
    """Quantity that is not finite, and the place in the update."""
    learning_rate: float
    """Learning rate of the update."""
    is_rate_halved: bool
    """Whether the learning rate is halved from now on; see `UpdateGuard` of the learner."""


@dataclass(frozen=True)
class UpdateDiagnosed(Event):
    """The diagnostics of an update are known; follows its `UpdateFinished`."""

    diagnostics: Diagnostics
    traces: tuple[Trace, ...] = ()
    """Profiles of the update and of its rollouts, if any were taken."""
    divergence: Divergence | None = None
    """Divergence that this update has shown; None if there is none, or an earlier one goes on."""


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is complete and verified on disk."""

    path: str
    timestep: int


@dataclass(frozen=True)
class EvaluationFinished(Event):
    """A match of the background evaluation is over."""

    result: EvaluationResult


@dataclass(frozen=True)
class RatingsFitted(Event):
    """The Elo table over all results of the run was fitted anew, after a match or a resume.

    LearnerVersion by the subscriber that records the results, so it follows `EvaluationFinished`.
    """

    ratings: tuple[Rating, ...]
    """Players, strongest first; those without a rating last."""
    timestep: int
    """Timestep of the newest weights among the results."""


@dataclass(frozen=True)
class Notice(Event):
    """A message to the user about something that has no event of its own."""

    message: str
    level: Level = "INFO"


@dataclass(frozen=True)
class RunEnded(Event):
    """The last event of a run, after the last checkpoint."""

    reason: Literal["done", "interrupted", "failed"]
    timestep: int
    checkpoint: str | None
    wall_time_s: float
    """Time that the run took, over all resumes."""
    cause: str | None = None
    """Error of a run that failed, in one line."""
    run_dir: str | None = None
    """Directory of the run at its end, if it was moved or deleted since `RunStarted`."""


@dataclass(frozen=True)
class Subscriber:
    """A name and the functions that a bus calls for events and at the end."""

    name: str
    """Name for logs and counts of failures; unique on a bus."""
    handle: Callable[[Event], object]
    """Function called with each event, one at a time. Without a queue it is called in the
    publisher's thread, mostly the driver's or that of a subscriber that publishes, and must return
    at once."""
    close: Callable[[], object] | None = None
    """Function called once, in a daemon thread, when the bus closes."""
    flush: Callable[[float], object] | None = None
    """Function that waits, at most so many seconds, until what was handed over is written."""
    num_waiting: int | None = None
    """Number of events that may wait for this subscriber, in a queue with a thread that calls
    `handle`; further ones are dropped and counted. None: no queue."""


class EventBus:
    """Delivers each event to every subscriber, in the order of subscription.

    `publish` may be called from any thread, and from inside a subscriber: such an event is
    delivered after the current one has reached all subscribers, so that all see one order.
    """

    def __init__(self) -> None:
        self._subscribers: dict[str, Subscriber] = {}
        self._queues: dict[str, CallQueue] = {}
        self._failures: dict[str, int] = {}
        self._pending: deque[Event] = deque()
        self._lock = threading.RLock()
        self._is_delivering = False
        self._is_closed = False

    @property
    def failures(self) -> dict[str, int]:
        """Number of exceptions and missed deadlines by subscriber name, where there are any."""
        return dict(self._failures)

    def add(self, subscriber: Subscriber) -> None:
        """Adds a subscriber, and starts its thread if it has a queue.

        Raises:
            ValueError: the name is taken.
        """
        name = subscriber.name
        if name in self._subscribers:
            raise ValueError(f"event subscriber {name!r} exists already; choose another name.")
        self._subscribers[name] = subscriber
        if subscriber.num_waiting is not None:
            self._queues[name] = CallQueue(f"subscriber {name}", subscriber.num_waiting)

    def subscribe(
        self,
        name: str,
        handle: Callable[[Event], object],
        close: Callable[[], object] | None = None,
    ) -> None:
        """Adds a subscriber without a queue; see `add`."""
        self.add(Subscriber(name, handle, close))

    def publish(self, event: Event) -> None:
        """Delivers `event`: calls the subscribers without a queue, and queues it for the others.

        A subscriber's exception is logged with its traceback, counted in `failures`, and goes
        no further. KeyboardInterrupt passes through.

        Raises:
            RuntimeError: the bus is closed.
        """
        if self._is_closed:
            raise RuntimeError(f"{event.kind} published on a closed event bus; close it last.")
        with self._lock:
            self._pending.append(event)
            if self._is_delivering:
                return
            self._is_delivering = True
            try:
                while self._pending:
                    self._deliver(self._pending.popleft())
            finally:
                self._is_delivering = False

    def flush(self, timeout_s: float) -> None:
        """Waits until the subscribers with a `flush` have written what they were handed.

        Args:
            timeout_s: longest wait for each of them.
        """
        for subscriber in tuple(self._subscribers.values()):
            if subscriber.flush is not None:
                self._guard(subscriber.name, "flush", partial(subscriber.flush, timeout_s))

    def close(self, timeout_s: float) -> tuple[str, ...]:
        """Closes all subscribers at once, waiting at most `timeout_s` seconds in all.

        A subscriber with a queue first handles the events in it. Each is closed in a daemon thread
        of its own: one that hangs holds up neither the others nor the end of the process. An
        exception is logged and counted; so is a close that is not done in time. A second call does
        nothing.

        Args:
            timeout_s: seconds for all of them together, >= 0.

        Returns:
            Names of the subscribers that were not closed in time.
        """
        if self._is_closed:
            return ()
        self._is_closed = True
        deadline = time.monotonic() + timeout_s
        threads: list[tuple[str, threading.Thread]] = []
        for name, subscriber in self._subscribers.items():
            if subscriber.close is not None or name in self._queues:
                thread = threading.Thread(
                    target=self._close, args=(subscriber,), name=f"close-{name}", daemon=True
                )
                thread.start()
                threads.append((name, thread))
        late = []
        for name, thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                late.append(name)
                self._count_failure(name)
                logger.warning(
                    "subscriber %s did not close in %.1f s; left behind", name, timeout_s
                )
        for name, queue in self._queues.items():
            # In the queue of one that is late, the mark that `_close` waits for comes last.
            missed = queue.refused + (queue.waiting - 1 if name in late else 0)
            queue.close(0.0)
            if missed:
                logger.warning("subscriber %s missed %d events: it was too slow", name, missed)
        return tuple(late)

    def _close(self, subscriber: Subscriber) -> None:
        """Closes one subscriber once its queue is empty. The body of a thread."""
        queue = self._queues.get(subscriber.name)
        if queue is not None:
            queue.flush(None)
        if subscriber.close is not None:
            self._guard(subscriber.name, "close", subscriber.close)

    def _deliver(self, event: Event) -> None:
        for name, subscriber in tuple(self._subscribers.items()):
            call = partial(self._guard, name, event.kind, partial(subscriber.handle, event))
            queue = self._queues.get(name)
            if queue is None:
                call()
            elif not queue.put(call) and queue.refused == 1:
                self._pending.append(
                    Notice(
                        f"subscriber {name} is too slow or hangs: it misses events from now on. "
                        "Training does not wait for it",
                        "WARNING",
                    )
                )

    def _guard(self, name: str, what: str, call: Callable[[], object]) -> None:
        """Calls a subscriber; logs and counts an exception.

        Args:
            name: the subscriber's.
            what: the event's kind, or what else it is called for.
            call: the call, without arguments.
        """
        try:
            call()
        except Exception:  # no error of a subscriber may stop the run
            failures = self._count_failure(name)
            is_new = failures <= WARNINGS_PER_SUBSCRIBER
            logger.log(
                logging.WARNING if is_new else logging.INFO,
                "subscriber %s failed on %s (failure %d)",
                name,
                what,
                failures,
                exc_info=is_new,
            )

    def _count_failure(self, name: str) -> int:
        """Counts a failure of a subscriber and returns how many it has had."""
        with self._lock:
            self._failures[name] = self._failures.get(name, 0) + 1
            return self._failures[name]

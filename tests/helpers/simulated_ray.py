"""A Ray without processes: calls are answered, late, lost or never, in an order drawn at random.

`SimulatedRay` stands in for `ray` in the driver's process. Its actors are ordinary objects. Events
happen only inside `wait`: one after another, each drawn from a seeded generator.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ray.exceptions import ActorDiedError, RayError, RayTaskError

STEP_S = 0.05
"""Seconds between two things that happen."""


@dataclass(eq=False)
class SimulatedRef:
    """A reference to one result of a call."""

    number: int
    answer: Any = None
    """The result, or the error that the call ended with; None until then."""
    is_here: bool = False
    """Whether the driver's node has a copy of the answer."""

    @property
    def is_ready(self) -> bool:
        """Whether a wait for it ends."""
        return self.answer is not None and self.is_here

    def hex(self) -> str:
        """Returns its name, as Ray's references do."""
        return f"{self.number:056x}"


@dataclass(eq=False)
class SimulatedActor:
    """A process: it works on its calls one by one, while it is alive and not stopped."""

    world: "SimulatedRay"
    work: Any
    calls: list[tuple[str, tuple[Any, ...], list[SimulatedRef]]] = field(default_factory=list)
    is_alive: bool = True
    stopped_until: float = 0.0
    """Time by the world's clock from which it works (again); infinity: it never does."""

    def __getattr__(self, name: str) -> "SimulatedMethod":
        return SimulatedMethod(self, name)


@dataclass(frozen=True)
class SimulatedMethod:
    """A method of an actor, as Ray's caller sees it."""

    actor: SimulatedActor
    name: str
    num_returns: int = 1

    def options(self, *, num_returns: int) -> "SimulatedMethod":
        """Returns the method with another number of results."""
        return SimulatedMethod(self.actor, self.name, num_returns)

    def remote(self, *arguments: Any) -> Any:
        """Asks for a call; returns a reference for each result."""
        refs = [self.actor.world.new_ref() for _ in range(self.num_returns)]
        self.actor.calls.append((self.name, arguments, refs))
        if not self.actor.is_alive:
            self.actor.world.end(self.actor)
        return refs[0] if self.num_returns == 1 else refs


class SimulatedRay:
    """The part of Ray's interface that the driver uses, and the world behind it."""

    def __init__(self, random: Random) -> None:
        """Args:
        random: decides what happens.
        """
        self.random = random
        self.chances: dict[str, float] = {}
        """Probability that a process meets one of `_accidents`, at each step."""
        self.now = 0.0
        self.actors: list[SimulatedActor] = []
        self._num_refs = 0
        self._num_waits = 0
        self._elsewhere: list[SimulatedRef] = []
        """Results of which the driver's node has no copy."""

    def new_actor(self, work: object) -> SimulatedActor:
        """Returns a process that works by an object's methods."""
        self.actors.append(SimulatedActor(self, work))
        return self.actors[-1]

    def new_ref(self) -> SimulatedRef:
        """Returns a reference to what is not known yet."""
        self._num_refs += 1
        return SimulatedRef(self._num_refs)

    def end(self, actor: SimulatedActor) -> None:
        """Ends a process; its calls fail."""
        actor.is_alive = False
        for _, _, refs in actor.calls:
            for ref in refs:
                ref.answer, ref.is_here = ActorDiedError(), True
        actor.calls.clear()

    # ---- what the driver calls ----

    def wait(
        self, refs: list[SimulatedRef], *, num_returns: int = 1, timeout: float
    ) -> tuple[list[SimulatedRef], list[SimulatedRef]]:
        """Waits for references, while things happen; returns those that are ready and the rest."""
        assert refs, "Ray refuses to wait for nothing"
        assert len(set(refs)) == len(refs), "Ray refuses to wait for one reference twice"
        self._num_waits += 1
        assert self._num_waits < 5_000, "the run does not come to its end"
        ready = [ref for ref in refs if ref.is_ready]
        until = self.now + timeout
        while not ready and self.now < until:
            # Several things at a time, so that several references become ready at once.
            for _ in range(self.random.randint(1, 6)):
                self.happen()
            ready = [ref for ref in refs if ref.is_ready]
        self.random.shuffle(ready)
        ready = ready[:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref: SimulatedRef) -> Any:
        """Returns the answer of a reference that is ready."""
        assert ref.is_ready, "the driver would block"
        if isinstance(ref.answer, RayError):
            raise ref.answer
        return ref.answer

    def kill(self, actor: SimulatedActor) -> None:
        """Ends a process, also a stopped one."""
        self.end(actor)

    def sleep(self, seconds: float) -> None:
        """Lets things happen meanwhile."""
        self.now += seconds
        self.happen()

    def clock(self) -> float:
        """Returns the time."""
        return self.now

    # ---- what happens ----

    def happen(self) -> None:
        """Lets one thing happen: mostly a process finishes a call."""
        self.now += STEP_S
        for kind, change in self._accidents().items():
            if self.random.random() < self.chances.get(kind, 0.0) and (running := self._running()):
                change(self.random.choice(running))
        if busy := [actor for actor in self._running() if actor.calls]:
            actor = self.random.choice(busy)
            # A learner works on its first call to publish beside the first of its other calls.
            own = [i for i, call in enumerate(actor.calls) if call[0] == "publish"][:1]
            others = [i for i, call in enumerate(actor.calls) if call[0] != "publish"][:1]
            self._finish_call(actor, self.random.choice(own + others))
        if self._elsewhere and self.random.random() < 0.5:
            ref = self._elsewhere.pop(self.random.randrange(len(self._elsewhere)))
            ref.is_here = True

    def _running(self) -> list[SimulatedActor]:
        return [a for a in self.actors if a.is_alive and a.stopped_until <= self.now]

    def _accidents(self) -> dict[str, Callable[[SimulatedActor], None]]:
        def stop(actor: SimulatedActor) -> None:
            actor.stopped_until = math.inf

        def pause(actor: SimulatedActor) -> None:
            actor.stopped_until = self.now + self.random.uniform(0, 5)

        return {"die": self.end, "stop": stop, "pause": pause}

    def _finish_call(self, actor: SimulatedActor, index: int) -> None:
        name, arguments, refs = actor.calls.pop(index)
        values = [self._value(argument) for argument in arguments]
        lost = [value for value in values if isinstance(value, RayError)]
        try:
            if lost:
                raise lost[0]
            answer = getattr(actor.work, name)(*values)
        except Exception as error:  # noqa: BLE001  As an actor: the caller gets it.
            answer = [RayTaskError(name, "traceback", error)] * len(refs)
        else:
            answer = [answer] if len(refs) == 1 else answer
        for ref, value in zip(refs, answer, strict=True):
            ref.answer = "" if value is None else value
        refs[0].is_here = True
        self._elsewhere += refs[1:]

    def _value(self, argument: Any) -> Any:
        if not isinstance(argument, SimulatedRef):
            return argument
        assert argument.answer is not None, "an argument of a call is a result that will never come"
        return argument.answer

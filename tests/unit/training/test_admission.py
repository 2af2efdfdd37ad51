"""The driver's backpressure: the lag never exceeds its bound, however R changes. No Ray.

The driver's own `_ask_for_rollouts` and `_start_update` run against records of what they asked
for; rollouts arrive in any order, and the cluster changes at any time.
"""

import itertools
from types import SimpleNamespace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from keisei_ray.config.autosize import Sizes
from keisei_ray.training.driver import Arrived, Driver
from tests.helpers.tiny import tiny_config


class Remote:
    """An actor's `collect`: two references that nobody will ever fill."""

    def options(self, **_: object) -> "Remote":
        return self

    def remote(self, *_: object) -> tuple[object, object]:
        return object(), object()


class World:
    """A driver with the four things that its bookkeeping touches."""

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self.version = 0
        self.consumed: list[list[int]] = []
        """Versions of the rollouts of each update."""
        driver: Any = object.__new__(Driver)
        driver.config = tiny_config(
            schedule={"mode": "overlap", "max_policy_lag": lag, "rollouts_per_update": 2},
            run={"total_timesteps": 10**9},
        )
        driver.progress = SimpleNamespace(timestep=0)
        driver._watch = SimpleNamespace(sizes=None)
        driver._fleet = SimpleNamespace(take_idle=self.take_idle)
        driver._learner = SimpleNamespace(update=self.update, published=None)
        driver.pool = SimpleNamespace(next_mix=lambda *_: (None, ()))
        driver._in_play, driver._arrived, driver._updating = {}, [], {}
        driver._clock, driver._idle_since, driver._waited = (lambda: 0.0), 0.0, 0.0
        self.driver = driver
        self.numbers = itertools.count()
        self.publish()

    def take_idle(self, excluded: object) -> Any:
        """There is always another actor: only the bound holds back."""
        return SimpleNamespace(
            actor_id=next(self.numbers), incarnation=0, handle=SimpleNamespace(collect=Remote())
        )

    def update(self, timestep: int, rollouts: list[int]) -> tuple[object, object]:
        self.consumed.append(rollouts)
        return object(), object()

    def publish(self) -> None:
        self.driver._learner.published = SimpleNamespace(version=self.version, weights=None)

    def resize(self, rollouts: int) -> None:
        self.driver._watch.sizes = Sizes(1, 1, 1, rollouts, rollouts * (self.lag + 1))

    def arrive(self, which: int) -> None:
        """One of the rollouts in play is delivered; its "reference" is its version."""
        in_play = list(self.driver._in_play)
        if not in_play:
            return
        flight = self.driver._in_play.pop(in_play[which % len(in_play)])
        header = SimpleNamespace(actor_id=flight.member.actor_id, weights_version=flight.version)
        self.driver._arrived.append(
            Arrived(SimpleNamespace(header=header), flight.version)  # type: ignore[arg-type]
        )

    def finish(self) -> None:
        """The update under way is done."""
        if self.driver._updating:
            self.driver._updating.clear()
            self.version += 1
            self.publish()

    def turn(self) -> None:
        self.driver._ask_for_rollouts()
        self.driver._start_update()


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(1, 9),
    st.lists(
        st.one_of(
            st.tuples(st.just("arrive"), st.integers(0, 50)),
            st.tuples(st.just("resize"), st.integers(1, 9)),
            st.tuples(st.just("finish"), st.just(0)),
        ),
        max_size=120,
    ),
)
@example(0, 1, [("arrive", 0), ("resize", 2), ("arrive", 0), ("finish", 0), ("arrive", 0)])
def test_the_lag_stays_within_its_bound_however_the_updates_grow_and_shrink(
    lag: int, first: int, happenings: list[tuple[str, int]]
) -> None:
    world = World(lag)
    world.resize(first)
    world.turn()
    for what, number in happenings:
        before = len(world.consumed)
        if what == "arrive":
            world.arrive(number)
        elif what == "resize":
            world.resize(number)
        else:
            world.finish()
        world.turn()
        for versions in world.consumed[before:]:
            assert world.version - min(versions) <= lag
            assert len(versions) >= world.driver._watch.sizes.rollouts_per_update
    # Nothing is stuck: when everybody delivers, updates go on.
    updates = len(world.consumed)
    for _ in range(200):
        world.arrive(0)
        world.finish()
        world.turn()
    assert len(world.consumed) > updates


def test_an_update_that_shrank_takes_all_that_would_be_too_old_after_it() -> None:
    world = World(lag=1)
    world.resize(4)
    world.turn()
    for _ in range(8):
        world.arrive(0)
        world.turn()
    assert world.consumed == [[0, 0, 0, 0]]
    world.finish()
    world.resize(1)
    world.turn()
    # The four that are left were played with version 0, the update makes version 2.
    assert world.consumed[1:] == [[0, 0, 0, 0]]

"""Admission: the lag never exceeds its bound, however R changes and whatever arrives when."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keisei_ray.config.autosize import RunSizes
from keisei_ray.training.admission import Admission

PLIES = 10
"""Timesteps of a rollout."""
ENDLESS = 10**9
FINISHED = [("finish", 0), ("arrive", 0), ("finish", 0)]


@dataclass(frozen=True)
class Rollout:
    """In play and delivered alike."""

    actor_id: int
    weights_version: int


class World:
    """Endless actors, a learner and a cluster, held back by the rules of the admission only."""

    def __init__(self, lag: int, rollouts_per_update: int) -> None:
        self.lag = lag
        self.version = 0
        """Version of the published weights."""
        self.is_learning = False
        """Whether the learner makes the newest of the updates under way."""
        self.updates: list[list[Rollout]] = []
        """Rollouts of each update that was started."""
        self.admission: Admission[int, Rollout, Rollout] = Admission(
            max_lag=lag, timesteps_per_rollout=PLIES, is_one_of_each_actor=False
        )
        self.numbers = itertools.count()
        self.resize(rollouts_per_update)
        self.turn()

    def resize(self, rollouts_per_update: int) -> None:
        self.sizes = RunSizes(
            1, 1, 1, rollouts_per_update, max_unconsumed=rollouts_per_update * (self.lag + 1)
        )

    def num_unconsumed(self) -> int:
        return len(self.admission.in_play) + len(self.admission.delivered_or_updating())

    def turn(self) -> None:
        """Asks and updates as far as the rules allow, as one turn of the driver's loop does.

        The oldest of the delivered rollouts are consumed first.
        """
        while self.admission.may_ask(self.sizes, ENDLESS):
            number = next(self.numbers)
            self.admission.asked(number, Rollout(number, self.version))
            assert self.num_unconsumed() <= self.sizes.max_unconsumed
        if self.is_learning:
            return
        learned = self.version + len(self.admission.updates)
        started = self.admission.start_update(self.sizes, self.version)
        if started:
            self.is_learning = True
            self.updates.append(list(started))
            versions = [rollout.weights_version for rollout in started]
            assert learned - min(versions) <= self.lag
            assert len(started) >= self.sizes.rollouts_per_update
            assert all(r.weights_version >= max(versions) for r in self.admission.delivered)
            assert len(self.admission.updates) <= 2

    def arrive(self, which: int) -> None:
        """One of the rollouts in play is delivered."""
        keys = list(self.admission.in_play)
        if keys:
            self.admission.deliver(self.admission.take(keys[which % len(keys)]))

    def lose(self, which: int) -> None:
        """The actor of one of the rollouts in play dies."""
        keys = list(self.admission.in_play)
        if keys:
            self.admission.take(keys[which % len(keys)])

    def make(self) -> None:
        """The learner has made the newest update."""
        self.is_learning = False

    def publish(self) -> None:
        """The weights of the oldest update are here, if it has been made."""
        if len(self.admission.updates) > self.is_learning:
            self.admission.publish_update()
            self.version += 1

    def finish(self) -> None:
        """All updates are made and published."""
        self.make()
        while self.admission.updates:
            self.publish()

    def fail(self, num_rejected: int) -> None:
        """The update that the learner makes fails: some of its rollouts are damaged."""
        if self.is_learning:
            self.is_learning = False
            self.admission.put_back(self.admission.fail_update()[num_rejected:])

    def lose_learner(self) -> None:
        """The learner dies."""
        self.is_learning = False
        self.admission.put_all_back()


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(1, 9),
    st.lists(
        st.one_of(
            st.tuples(st.just("arrive"), st.integers(0, 50)),
            st.tuples(st.just("lose"), st.integers(0, 50)),
            st.tuples(st.just("resize"), st.integers(1, 9)),
            st.tuples(st.just("make"), st.just(0)),
            st.tuples(st.just("publish"), st.just(0)),
            st.tuples(st.just("finish"), st.just(0)),
            st.tuples(st.just("fail"), st.integers(0, 2)),
            st.tuples(st.just("lose learner"), st.just(0)),
        ),
        max_size=120,
    ),
)
@example(0, 1, [("arrive", 0), ("resize", 2), ("arrive", 0), ("finish", 0), ("arrive", 0)])
@example(1, 4, [("arrive", 0)] * 8 + [("resize", 1)] + [("finish", 0)] * 2)
@example(1, 2, [("arrive", 0)] * 4 + [("make", 0), ("make", 0), ("lose learner", 0)])
@example(3, 1, [("arrive", 0), ("make", 0)] * 4)
@example(1, 2, [("arrive", 0)] * 2 + [("resize", 1)] + [("arrive", 0), ("make", 0)] * 2 + FINISHED)
def test_the_lag_stays_within_its_bound_however_the_updates_grow_and_shrink(
    lag: int, first: int, happenings: list[tuple[str, int]]
) -> None:
    world = World(lag, first)
    for what, number in happenings:
        if what == "arrive":
            world.arrive(number)
        elif what == "lose":
            world.lose(number)
        elif what == "resize":
            world.resize(number)
        elif what == "make":
            world.make()
        elif what == "publish":
            world.publish()
        elif what == "finish":
            world.finish()
        elif what == "fail":
            world.fail(number)
        else:
            world.lose_learner()
        world.turn()
    # Nothing is stuck: when every actor delivers, updates go on.
    updates = len(world.updates)
    for _ in range(200):
        world.arrive(0)
        world.finish()
        world.turn()
    assert len(world.updates) > updates


@settings(deadline=None)
@given(st.integers(0, 3), st.integers(1, 9), st.lists(st.integers(0, 50), max_size=60))
def test_every_rollout_that_is_asked_for_is_consumed_once(
    lag: int, rollouts_per_update: int, arrivals: list[int]
) -> None:
    world = World(lag, rollouts_per_update)
    for which in arrivals:
        world.arrive(which)
        world.turn()
        world.finish()
        world.turn()
    consumed = [rollout for update in world.updates for rollout in update]
    kept = [*world.admission.delivered, *world.admission.in_play.values()]
    assert sorted(r.actor_id for r in [*consumed, *kept]) == list(range(len(consumed) + len(kept)))


def test_an_update_that_shrank_takes_all_that_would_be_too_old_after_it() -> None:
    world = World(1, rollouts_per_update=4)
    for _ in range(8):
        world.arrive(0)
        world.turn()
    assert [[r.weights_version for r in update] for update in world.updates] == [[0] * 4]
    world.finish()
    world.resize(1)
    world.turn()
    # The four that are left were played with version 0, the update makes version 2.
    assert [r.weights_version for r in world.updates[1]] == [0] * 4


def test_an_update_is_in_the_order_of_the_actors_whatever_the_order_of_delivery() -> None:
    world = World(0, rollouts_per_update=4)
    for which in (2, 0, 1, 0):
        world.arrive(which)
    world.turn()
    assert [[r.actor_id for r in update] for update in world.updates] == [[0, 1, 2, 3]]


def test_a_failed_update_is_tried_again_with_the_same_rollouts() -> None:
    world = World(1, rollouts_per_update=2)
    for _ in range(4):
        world.arrive(0)
    world.turn()
    assert [r.actor_id for r in world.admission.delivered_or_updating()] == [0, 1, 2, 3]
    world.fail(0)
    assert [r.actor_id for r in world.admission.delivered_or_updating()] == [0, 1, 2, 3]
    world.turn()
    assert world.updates[1] == world.updates[0]


def test_the_next_update_starts_while_the_last_one_is_published() -> None:
    world = World(1, rollouts_per_update=2)
    for _ in range(4):
        world.arrive(0)
    world.turn()
    world.make()
    world.turn()
    assert [[r.actor_id for r in update] for update in world.updates] == [[0, 1], [2, 3]]
    # A rollout that is asked for now would be played with weights that are two updates old.
    assert not world.admission.in_play
    world.resize(9)
    world.turn()
    assert not world.admission.in_play
    world.publish()
    world.turn()
    assert {r.weights_version for r in world.admission.in_play.values()} == {1}


def test_a_lost_learner_makes_updates_again_that_were_not_published() -> None:
    world = World(1, rollouts_per_update=2)
    for _ in range(4):
        world.arrive(0)
    world.turn()
    world.make()
    world.turn()
    world.lose_learner()
    assert [r.actor_id for r in world.admission.delivered] == [0, 1, 2, 3]
    world.turn()
    assert world.updates == [world.updates[0], world.updates[1], world.updates[0]]


def test_in_lockstep_an_actor_gives_one_rollout_to_each_update() -> None:
    admission: Admission[int, Rollout, Rollout] = Admission(
        max_lag=0, timesteps_per_rollout=PLIES, is_one_of_each_actor=True
    )
    sizes = RunSizes(1, 2, 2, 2, max_unconsumed=2)
    admission.asked(0, Rollout(0, 0))
    admission.deliver(admission.take(0))
    assert admission.may_ask(sizes, ENDLESS)
    assert admission.actors_not_to_ask() == {0}
    admission.asked(1, Rollout(1, 0))
    admission.deliver(admission.take(1))
    assert len(admission.start_update(sizes, 0)) == 2
    # The update under way makes the weights too old that a rollout would be played with now.
    assert not admission.may_ask(sizes, ENDLESS)
    admission.publish_update()
    assert admission.may_ask(sizes, ENDLESS)
    assert admission.actors_not_to_ask() == set()


def test_no_more_is_asked_for_than_the_last_update_needs() -> None:
    admission: Admission[int, Rollout, Rollout] = Admission(
        max_lag=3, timesteps_per_rollout=PLIES, is_one_of_each_actor=False
    )
    sizes = RunSizes(1, 9, 9, 2, max_unconsumed=8)
    num_asked = 0
    # One timestep more than an update has: the run needs a second one.
    while admission.may_ask(sizes, 2 * PLIES + 1):
        admission.asked(num_asked, Rollout(num_asked, 0))
        num_asked += 1
    assert num_asked == 4
    assert not admission.may_ask(sizes, 0)

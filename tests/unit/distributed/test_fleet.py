"""How many self-play actors there are, as the cluster grows and shrinks. No Ray is started."""

from types import SimpleNamespace

import pytest

from keisei_ray.config.autosize import RunSizes
from keisei_ray.config.schema import Config
from keisei_ray.distributed.fleet import ActorStart, Fleet, FleetActor
from keisei_ray.errors import ActorLostError
from tests.helpers.tiny import tiny_config


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeActor:
    """An actor without a process; `start` answers with a reference of its own."""

    class start:
        @staticmethod
        def remote() -> object:
            return object()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Actors that were ended."""
    ended: list[object] = []
    monkeypatch.setattr("keisei_ray.distributed.fleet.ray.kill", ended.append)
    monkeypatch.setattr(
        "keisei_ray.distributed.fleet.new_self_play_actor", lambda *_, **__: FakeActor()
    )
    return ended


def sizes(num_actors: int, *, num_placeable: int | None = None, num_cpus: int = 99) -> RunSizes:
    return RunSizes(
        num_cpus, num_actors, num_actors if num_placeable is None else num_placeable, 99, 99
    )


def new_fleet(clock: Clock | None = None, config: Config | None = None) -> Fleet:
    incarnations: dict[int, int] = {}

    def next_start(actor_id: int) -> ActorStart:
        incarnations[actor_id] = incarnations.get(actor_id, -1) + 1
        return ActorStart(incarnations[actor_id])

    return Fleet(
        config or tiny_config(),
        num_cpus_per_actor=1.0,
        next_start=next_start,
        clock=clock or Clock(),
    )


def start_all(fleet: Fleet) -> list[FleetActor]:
    """Starts the actors that may start; returns those that have answered, in order."""
    fleet.start_waiting()
    actors = []
    for ref in fleet.starting:
        actors.append(fleet.starting_actor(ref))
        fleet.started(ref)
    return actors


def collecting(fleet: Fleet, number: int) -> list[FleetActor]:
    taken = [fleet.take_idle(()) for _ in range(number)]
    assert None not in taken
    return [actor for actor in taken if actor]


def test_a_cluster_that_grows_gets_the_missing_actors(killed: list[object]) -> None:
    fleet = new_fleet()
    fleet.resize(sizes(2))
    assert [m.actor_id for m in start_all(fleet)] == [0, 1]
    fleet.resize(sizes(5))
    assert [m.actor_id for m in start_all(fleet)] == [2, 3, 4]
    assert fleet.num_alive == 5
    assert killed == []


def test_as_many_actors_start_at_once_as_there_are_cpus(killed: list[object]) -> None:
    fleet = new_fleet()
    fleet.resize(sizes(10, num_cpus=3))
    fleet.start_waiting()
    assert len(fleet.starting) == 3
    fleet.start_waiting()
    assert len(fleet.starting) == 3


def test_those_that_do_not_play_yet_leave_at_once(killed: list[object]) -> None:
    fleet = new_fleet()
    fleet.resize(sizes(4, num_cpus=3))
    fleet.start_waiting()
    first = fleet.starting[0]
    kept = fleet.starting_actor(first)
    fleet.started(first)
    fleet.resize(sizes(1))
    assert fleet.starting == []
    assert len(killed) == 2
    assert kept.handle not in killed
    fleet.start_waiting()
    assert (fleet.num_alive, fleet.starting) == (1, [])


def test_actors_that_died_with_their_node_cost_no_other_actor(killed: list[object]) -> None:
    """The cluster says first that CPUs are gone, each actor's call a moment later that it is."""
    fleet = new_fleet()
    fleet.resize(sizes(4))
    actors = start_all(fleet)
    playing = collecting(fleet, 3)
    fleet.resize(sizes(2))
    fleet.give_back(playing[0])
    for dead in playing[1:]:
        fleet.replace(dead, RuntimeError("its node has died"))
    fleet.resize(sizes(2))
    fleet.start_waiting()
    assert fleet.starting == []
    assert fleet.num_alive == 2
    assert {id(h) for h in killed} == {id(m.handle) for m in playing[1:]}
    assert actors[3].handle not in killed


def test_living_actors_that_are_too_many_leave_at_the_next_look(killed: list[object]) -> None:
    """So that the learner finds a CPU when its own node is gone."""
    fleet = new_fleet()
    fleet.resize(sizes(4))
    start_all(fleet)
    playing = collecting(fleet, 3)
    fleet.resize(sizes(2))
    assert killed == []
    fleet.resize(sizes(2))
    assert len(killed) == 1
    fleet.give_back(playing[0])
    assert len(killed) == 2
    fleet.give_back(playing[1])
    fleet.give_back(playing[2])
    assert len(killed) == 2
    assert fleet.num_alive == 2


def test_an_actor_that_leaves_and_comes_back_is_another_incarnation(killed: list[object]) -> None:
    fleet = new_fleet()
    fleet.resize(sizes(2))
    start_all(fleet)
    fleet.resize(sizes(1))
    fleet.resize(sizes(1))
    fleet.resize(sizes(2))
    assert [(m.actor_id, m.incarnation) for m in start_all(fleet)] == [(1, 1)]


def test_who_has_no_room_is_not_overdue_and_waits_for_nodes(killed: list[object]) -> None:
    clock = Clock()
    config = tiny_config(cluster={"start_timeout_s": 10})
    fleet = new_fleet(clock, config)
    fleet.resize(sizes(3))
    actors = start_all(fleet)
    dead = collecting(fleet, 1)[0]
    fleet.resize(sizes(3, num_placeable=2))
    fleet.replace(dead, RuntimeError("its node has died"))
    fleet.start_waiting()
    assert len(fleet.starting) == 1
    for clock.now in (100.0, 200.0):
        assert fleet.overdue() == []
    fleet.resize(sizes(3))
    clock.now = 209.0
    assert fleet.overdue() == []
    clock.now = 211.0
    (late,) = fleet.overdue()
    assert fleet.starting_actor(late).actor_id == actors[0].actor_id


def test_the_death_of_an_actor_leaves_those_that_start_alone(killed: list[object]) -> None:
    fleet = new_fleet()
    fleet.resize(sizes(2, num_cpus=1))
    first = start_all(fleet)[0]
    fleet.start_waiting()
    (starting,) = fleet.starting
    assert collecting(fleet, 1) == [first]
    fleet.replace(first, RuntimeError("died while it played"))
    assert (fleet.starting, fleet.num_alive) == ([starting], 0)
    fleet.started(starting)
    assert fleet.num_alive == 1


def test_an_actor_that_dies_too_often_ends_the_run(killed: list[object]) -> None:
    fleet = new_fleet(config=tiny_config(cluster={"max_actor_deaths": 1}))
    fleet.resize(sizes(1))
    start_all(fleet)
    assert fleet.replace(collecting(fleet, 1)[0], RuntimeError("once")) == 0
    start_all(fleet)
    with pytest.raises(ActorLostError, match="self-play actor 0 died 2 times"):
        fleet.replace(collecting(fleet, 1)[0], RuntimeError("twice"))


def test_an_actor_is_started_with_the_arguments_and_the_incarnation_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []

    def new(config: Config, actor_id: int, incarnation: int, *, num_cpus: float) -> SimpleNamespace:
        def remote(*arguments: object) -> None:
            started.append((actor_id, incarnation, arguments))

        return SimpleNamespace(start=SimpleNamespace(remote=remote))

    monkeypatch.setattr("keisei_ray.distributed.fleet.new_self_play_actor", new)
    fleet = Fleet(
        tiny_config(),
        num_cpus_per_actor=1.0,
        next_start=lambda actor_id: ActorStart(5, (b"state", "weights")),
        clock=Clock(),
    )
    fleet.resize(sizes(1))
    fleet.start_waiting()
    assert started == [(0, 5, (b"state", "weights"))]

"""Looks at a cluster that changes, and the sizes of the run on it. No Ray is started."""

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.cluster_watch import LOOK_S, ClusterWatch
from keisei_ray.telemetry.events import ClusterChanged, Event, EventBus


def cluster(num_cpus: int, *, num_nodes: int = 1, num_gpus: int = 0) -> Cluster:
    return Cluster("192.0.2.1:6379", num_nodes, num_cpus, num_gpus, 0, "")


def config(num_actors: int | str = "auto", **sections: dict[str, object]) -> Config:
    return Config.model_validate({"self_play": {"num_actors": num_actors}, **sections})


class ChangingCluster:
    """A cluster and a clock under the test's control."""

    def __init__(self, run: Config, num_cpus: int) -> None:
        self.now = 0.0
        self.cluster = cluster(num_cpus)
        self.events: list[Event] = []
        bus = EventBus()
        bus.subscribe("recorder", self.events.append)
        self.looks = 0
        self.watch = ClusterWatch(run, self.cluster, bus, clock=lambda: self.now, look=self.look)

    def look(self, before: Cluster) -> Cluster:
        self.looks += 1
        return self.cluster


def test_a_look_is_taken_every_few_seconds_and_a_change_is_told_once() -> None:
    world = ChangingCluster(resolve_auto(config(), 3, 0), 3)
    assert not world.watch.poll()
    assert world.looks == 0
    world.now = LOOK_S
    assert world.watch.poll()
    assert world.events == []
    world.cluster = cluster(11, num_nodes=2)
    assert not world.watch.poll()
    world.now = 2 * LOOK_S
    assert world.watch.poll()
    world.now = 3 * LOOK_S
    assert world.watch.poll()
    sizes = world.watch.sizes
    assert (sizes.num_actors, sizes.num_cpus) == (10, 11)
    assert world.events == [ClusterChanged(2, 11, 0, 10, 10, sizes.rollouts_per_update)]


def test_a_fixed_run_that_lost_a_node_says_how_many_have_room() -> None:
    world = ChangingCluster(resolve_auto(config(6), 7, 0), 7)
    world.cluster = cluster(4)
    world.now = LOOK_S
    world.watch.poll()
    (told,) = world.events
    assert isinstance(told, ClusterChanged)
    assert (told.num_actors, told.num_with_room) == (6, 3)

"""The size of a run on a cluster whose nodes come and go.

A node that comes gives an elastic run (`self_play.num_actors` auto) more actors and larger
updates; a node that goes takes its actors with it. A run with a fixed number of actors keeps asking
for all of them, so that an autoscaler sees what is missing; the event says how many have room.
"""

from collections.abc import Callable

from keisei_ray.config.autosize import RunSizes, actor_cpus, run_sizes
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, refreshed
from keisei_ray.telemetry.events import ClusterChanged, EventBus

LOOK_S = 2.0
"""Seconds between two looks; each asks Ray's control service twice, about a millisecond a call."""


class ClusterWatch:
    """The cluster as it was at the last look, and the sizes of the run on it."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        bus: EventBus,
        *,
        clock: Callable[[], float],
        look: Callable[[Cluster], Cluster] = refreshed,
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        cluster: the cluster as the run found it.
        bus: gets an event when nodes or CPUs have come or gone.
        clock: monotonic seconds.
        look: returns the same cluster as it is now.
        """
        self._config = config
        self._bus = bus
        self._clock = clock
        self._look = look
        self._looked_at = clock()
        self.cluster = cluster
        self.cpus_per_actor = actor_cpus(config, cluster.num_cpus)
        self.sizes = run_sizes(
            config, cluster.num_cpus, self.cpus_per_actor, num_gpus=cluster.num_gpus
        )

    def poll(self) -> bool:
        """Looks at the cluster, at most every `LOOK_S`. Returns whether it has looked."""
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        before, self.cluster = self.cluster, self._look(self.cluster)
        found = self.cluster
        if (found.num_nodes, found.num_cpus) == (before.num_nodes, before.num_cpus):
            return True
        self.sizes = run_sizes(
            self._config, found.num_cpus, self.cpus_per_actor, num_gpus=found.num_gpus
        )
        self._bus.publish(cluster_changed(found, self.sizes))
        return True


def cluster_changed(cluster: Cluster, sizes: RunSizes) -> ClusterChanged:
    """Returns the event that tells of a cluster and of the run's sizes on it."""
    return ClusterChanged(
        num_nodes=cluster.num_nodes,
        num_cpus=int(cluster.num_cpus),
        num_gpus=cluster.num_gpus,
        num_actors=sizes.num_actors,
        num_with_room=min(sizes.num_actors, sizes.num_placeable),
        rollouts_per_update=sizes.rollouts_per_update,
    )

"""How much plays at once, as the nodes of the cluster come and go.

A node that comes gives an elastic run (`self_play.num_actors` auto) more actors and larger
updates; one that goes takes its actors with it. A run of a fixed number keeps asking for all of
them, so that an autoscaler sees what is missing; here is said how many have room.
"""

import time
from collections.abc import Callable

from keisei_ray.config.autosize import RunSizes, actor_cpus, resolve_auto, run_sizes
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, ask_for_nodes, check_fits, look_again
from keisei_ray.errors import UserError
from keisei_ray.telemetry.events import ClusterChanged, EventBus

LOOK_S = 2.0
"""Between two looks; each asks Ray's control service twice, about a millisecond a call."""
WAIT_POLL_S = 1.0
"""Between two looks at a cluster that is too small to begin."""


def fit_to_cluster(
    config: Config,
    cluster: Cluster,
    *,
    say: Callable[[str], object],
    should_stop: Callable[[], bool],
) -> tuple[Config, Cluster]:
    """Decides what was left to the hardware, on a cluster that the run fits.

    A cluster that is too small is waited for, `cluster.wait_for_nodes_s` at most; an autoscaler is
    asked meanwhile for what the run would use.

    Args:
        config: as given.
        cluster: as found.
        say: told once that and for what the run waits.
        should_stop: asked while it waits.

    Raises:
        UserError: the run does not fit, or not in time: what was asked, what there is.
        KeyboardInterrupt: asked to stop.
    """
    wait_s = config.cluster.wait_for_nodes_s
    deadline = time.monotonic() + wait_s
    is_waiting = False
    try:
        while True:
            try:
                resolved = resolve_auto(config, cluster.num_cpus, cluster.num_gpus)
                check_fits(resolved, cluster)
                return resolved, cluster
            except UserError as error:
                if time.monotonic() >= deadline:
                    raise
                if not is_waiting:
                    say(f"waiting up to {wait_s:g} s for the cluster to grow: {error}")
                    ask_for_nodes(config)
                    is_waiting = True
            if should_stop():
                raise KeyboardInterrupt
            time.sleep(WAIT_POLL_S)
            cluster = look_again(cluster)
    finally:
        if is_waiting:
            ask_for_nodes(None)


class ClusterWatch:
    """The cluster as it was at the last look, and what the run is sized to on it."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        bus: EventBus,
        *,
        clock: Callable[[], float],
        look: Callable[[Cluster], Cluster] = look_again,
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        cluster: as the run found it.
        bus: told when nodes or CPUs have come or gone.
        clock: monotonic seconds.
        look: the same cluster, as it is now.
        """
        self._config = config
        self._bus = bus
        self._clock = clock
        self._look = look
        self._looked_at = clock()
        self.cluster = cluster
        self.cpus_per_actor = actor_cpus(config, cluster.num_cpus)
        self.sizes = run_sizes(config, cluster.num_cpus, self.cpus_per_actor)

    def poll(self) -> bool:
        """Looks, at most every `LOOK_S`; whether it has looked."""
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        before, self.cluster = self.cluster, self._look(self.cluster)
        found = self.cluster
        if (found.num_nodes, found.num_cpus) == (before.num_nodes, before.num_cpus):
            return True
        self.sizes = run_sizes(self._config, found.num_cpus, self.cpus_per_actor)
        self._bus.publish(cluster_changed(found, self.sizes))
        return True


def cluster_changed(cluster: Cluster, sizes: RunSizes) -> ClusterChanged:
    """The event that tells of a cluster and of what the run makes of it."""
    return ClusterChanged(
        num_nodes=cluster.num_nodes,
        num_cpus=int(cluster.num_cpus),
        num_gpus=cluster.num_gpus,
        num_actors=sizes.num_actors,
        num_with_room=min(sizes.num_actors, sizes.num_placeable),
        rollouts_per_update=sizes.rollouts_per_update,
    )

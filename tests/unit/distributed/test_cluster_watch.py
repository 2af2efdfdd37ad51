"""What a run makes of a cluster that changes: sizes, looks, waiting. No Ray is started."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.config.autosize import actor_cpus, resolve_auto, run_sizes
from keisei_ray.config.schema import Config
from keisei_ray.distributed import cluster_watch
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.cluster_watch import LOOK_S, ClusterWatch, fit_to_cluster
from keisei_ray.errors import ClusterError, ConfigError
from keisei_ray.telemetry.events import ClusterChanged, Event, EventBus


def cluster(num_cpus: int, *, num_nodes: int = 1, num_gpus: int = 0) -> Cluster:
    return Cluster("192.0.2.1:6379", num_nodes, num_cpus, num_gpus, 0, "")


def config(num_actors: int | str = "auto", **sections: dict[str, object]) -> Config:
    return Config.model_validate({"self_play": {"num_actors": num_actors}, **sections})


@pytest.mark.parametrize(("num_cpus", "actors"), [(2, 1), (3, 2), (17, 16)])
def test_an_elastic_run_has_an_actor_for_each_cpu_that_the_learner_leaves(
    num_cpus: int, actors: int
) -> None:
    elastic = resolve_auto(config(), num_cpus, 0)
    each = actor_cpus(elastic, num_cpus)
    found = run_sizes(elastic, num_cpus, each)
    assert (each, found.num_actors, found.num_placeable) == (1.0, actors, actors)


def test_one_cpu_is_shared_by_learner_and_actor() -> None:
    elastic = resolve_auto(config(), 1, 0)
    each = actor_cpus(elastic, 1)
    assert (each, run_sizes(elastic, 1, each).num_actors) == (0.5, 1)


def test_an_evaluator_that_reserves_cpus_leaves_fewer_actors() -> None:
    elastic = resolve_auto(config(evaluation={"interval_timesteps": 1000, "num_cpus": 1.0}), 8, 0)
    assert run_sizes(elastic, 8, actor_cpus(elastic, 8)).num_actors == 6


@given(st.integers(1, 64), st.integers(1, 200), st.integers(1, 64), st.integers(0, 3))
def test_within_the_lag_every_actor_that_has_room_can_play(
    first: int, num_actors: int, now: int, lag: int
) -> None:
    for asked in ("auto", num_actors):
        run = resolve_auto(config(asked, schedule={"max_policy_lag": lag}), first, 0)
        found = run_sizes(run, now, actor_cpus(run, first))
        assert found.max_unconsumed == found.rollouts_per_update * (lag + 1)
        if asked == "auto":
            assert found.max_unconsumed >= found.num_actors
            assert found.num_actors == found.num_placeable
        else:
            assert found.num_actors == num_actors
            # What was decided at the start stays.
            assert found.rollouts_per_update == run.schedule.rollouts_per_update
        if now == first:
            assert found.num_placeable >= found.num_actors


def test_what_is_decided_at_the_start_holds_for_one_actor_too() -> None:
    """The learner's threads must not exceed the rows of the smallest minibatch."""
    elastic = resolve_auto(config(learner={"num_minibatches": 2048}), 64, 0)
    assert elastic.schedule.rollouts_per_update is None
    assert elastic.learner.num_threads == 2
    assert resolve_auto(elastic, 2, 0) == elastic


def test_lockstep_needs_a_number() -> None:
    with pytest.raises(ValueError, match=r"num_actors = auto does not go with schedule\.mode"):
        config(schedule={"mode": "lockstep"})


@pytest.mark.parametrize("asked", ["all", 0, -1, True, 1.5])
def test_anything_but_auto_or_a_positive_number_is_refused(asked: object) -> None:
    with pytest.raises(ValueError, match="num_actors"):
        Config.model_validate({"self_play": {"num_actors": asked}})


class Sky:
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
    sky = Sky(resolve_auto(config(), 3, 0), 3)
    assert not sky.watch.poll()
    assert sky.looks == 0
    sky.now = LOOK_S
    assert sky.watch.poll()
    assert sky.events == []
    sky.cluster = cluster(11, num_nodes=2)
    assert not sky.watch.poll()
    sky.now = 2 * LOOK_S
    assert sky.watch.poll()
    sky.now = 3 * LOOK_S
    assert sky.watch.poll()
    sizes = sky.watch.sizes
    assert (sizes.num_actors, sizes.num_cpus) == (10, 11)
    assert sky.events == [ClusterChanged(2, 11, 0, 10, 10, sizes.rollouts_per_update)]


def test_a_fixed_run_that_lost_a_node_says_how_many_have_room() -> None:
    sky = Sky(resolve_auto(config(6), 7, 0), 7)
    sky.cluster = cluster(4)
    sky.now = LOOK_S
    sky.watch.poll()
    (told,) = sky.events
    assert isinstance(told, ClusterChanged)
    assert (told.num_actors, told.num_with_room) == (6, 3)


@pytest.fixture
def wishes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What an autoscaler was asked for."""
    asked: list[object] = []
    monkeypatch.setattr(cluster_watch, "ask_for_nodes", asked.append)
    monkeypatch.setattr(cluster_watch, "WAIT_POLL_S", 0.0)
    return asked


def test_a_run_that_fits_does_not_wait(wishes: list[object]) -> None:
    said: list[str] = []
    resolved, found = fit_to_cluster(
        config(2), cluster(4), say=said.append, should_stop=lambda: False
    )
    assert (resolved.learner.device, found.num_cpus, said, wishes) == ("cpu", 4, [], [])


@pytest.mark.parametrize(
    ("run", "small", "error", "message"),
    [
        (config(learner={"device": "cuda"}), cluster(4), ConfigError, "the cluster has no GPU"),
        (config(2), cluster(0), ClusterError, "offers no CPU, expected at least 1"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_at_once_unless_told_to_wait(
    wishes: list[object], run: Config, small: Cluster, error: type[Exception], message: str
) -> None:
    said: list[str] = []
    with pytest.raises(error, match=message) as raised:
        fit_to_cluster(run, small, say=said.append, should_stop=lambda: False)
    assert "cluster.wait_for_nodes_s" in str(raised.value)
    assert (said, wishes) == ([], [])


def test_a_cluster_that_grows_in_time_is_waited_for(
    wishes: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = iter([cluster(4), cluster(4), cluster(8, num_gpus=1)])
    monkeypatch.setattr(cluster_watch, "look_again", lambda _: next(growing))
    run = config(learner={"device": "cuda"}, cluster={"wait_for_nodes_s": 1000})
    said: list[str] = []
    resolved, found = fit_to_cluster(run, cluster(4), say=said.append, should_stop=lambda: False)
    assert (resolved.learner.amp, found.num_gpus) == ("bf16", 1)
    assert len(said) == 1
    assert said[0].startswith("waiting up to 1000 s for the cluster to grow: learner.device")
    # The autoscaler's wish is taken back: the actors themselves hold what they use.
    assert wishes == [run, None]


def test_waiting_ends_when_asked_to_stop(
    wishes: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_watch, "look_again", lambda found: found)
    run = config(2, cluster={"wait_for_nodes_s": 1000})
    with pytest.raises(KeyboardInterrupt):
        fit_to_cluster(run, cluster(0), say=lambda _: None, should_stop=lambda: True)
    assert wishes == [run, None]


def test_waiting_has_an_end(wishes: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_watch, "look_again", lambda found: found)
    run = config(2, cluster={"wait_for_nodes_s": 0.05})
    with pytest.raises(ClusterError, match="offers no CPU"):
        fit_to_cluster(run, cluster(0), say=lambda _: None, should_stop=lambda: False)
    assert wishes == [run, None]


@given(st.integers(1, 500), st.integers(1, 4))
def test_while_an_update_is_under_way_all_actors_can_play_the_next_rollouts(
    num_actors: int, lag: int
) -> None:
    run = resolve_auto(config(num_actors, schedule={"max_policy_lag": lag}), 999, 0)
    found = run_sizes(run, 999, 1.0)
    assert found.max_unconsumed - found.rollouts_per_update >= num_actors

"""Which runs fit on a cluster, and waiting for a cluster to grow. No Ray is started."""

import dataclasses

import pytest

from keisei_ray.config.autosize import actor_cpus, learner_cpus, resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.distributed import cluster_fit
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.cluster_fit import check_fits, check_fits_gpus, fit_to_cluster
from keisei_ray.errors import ClusterError, ConfigError
from tests.helpers.setting_values import make_config


def cluster(num_cpus: float, *, num_gpus: int = 0) -> Cluster:
    return Cluster("192.0.2.1:6379", 1, num_cpus, num_gpus, 0, "")


def config(num_actors: int | str = "auto", **sections: dict[str, object]) -> Config:
    return Config.model_validate({"self_play": {"num_actors": num_actors}, **sections})


def resolved_config(num_actors: int, **evaluation: object) -> Config:
    """Settings under which all actors are started."""
    overlapped = config(num_actors, schedule={"mode": "overlap"}, evaluation=evaluation)
    return resolve_auto(overlapped, 4, 0)


@pytest.mark.parametrize("num_cpus", [1, 2, 4, 16])
@pytest.mark.parametrize("num_actors", [1, 3, 32])
@pytest.mark.parametrize("reserved", [0.0, 0.25])
def test_learner_evaluator_and_all_actors_have_room(
    num_cpus: int, num_actors: int, reserved: float
) -> None:
    c = resolved_config(num_actors, interval_timesteps=1000, num_cpus=reserved)
    check_fits(c, cluster(num_cpus))
    each = actor_cpus(c, num_cpus)
    assert 0 < each <= 1
    assert num_actors * each + learner_cpus(c, num_cpus) + reserved <= num_cpus + 1e-9


@pytest.mark.parametrize("num_cpus", [0.1, 0.25, 0.5, 1.5])
def test_a_placement_group_may_be_part_of_a_cpu_where_a_cluster_may_not(num_cpus: float) -> None:
    c = resolved_config(3)
    check_fits(c, dataclasses.replace(cluster(num_cpus), is_fixed=True))
    assert 3 * actor_cpus(c, num_cpus) + learner_cpus(c, num_cpus) <= num_cpus + 1e-9
    if num_cpus < 1:
        with pytest.raises(ClusterError, match="offers no CPU"):
            check_fits(c, cluster(num_cpus))


def test_an_evaluator_that_is_off_reserves_nothing() -> None:
    off, on = (
        resolved_config(2, interval_timesteps=None, num_cpus=1.0),
        resolved_config(2, num_cpus=1.0),
    )
    assert actor_cpus(off, 3) == 1.0
    assert actor_cpus(on, 3) == 0.5
    check_fits(off, cluster(2))
    with pytest.raises(ClusterError, match=r"evaluation\.num_cpus = 1 leaves no part of the"):
        check_fits(on, cluster(2))


def test_parts_of_gpus_that_are_more_than_there_are_are_refused() -> None:
    play = {"device": "cuda", "num_actors": 4, "num_gpus": 0.2}
    run = resolve_auto(make_config(self_play=play), 8, 1)
    with pytest.raises(ClusterError, match=r"0\.2 for each of 4 actors .* are 1\.3 GPUs, .* has 1"):
        check_fits(run, cluster(8, num_gpus=1))
    check_fits(run, cluster(8, num_gpus=2))
    # Parts that were left open fit.
    check_fits(
        resolve_auto(make_config(self_play=play | {"num_gpus": None}), 8, 1),
        cluster(8, num_gpus=1),
    )


def test_an_autoscaler_is_asked_for_the_parts_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[dict[str, float]]] = []
    monkeypatch.setattr(cluster_fit, "request_resources", lambda *, bundles: asked.append(bundles))
    play = {"device": "cuda", "num_actors": 2, "num_gpus": 0.2}
    cluster_fit.request_nodes(make_config(self_play=play, learner={"device": "cuda"}))
    assert asked == [[{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 0.2}, {"CPU": 1, "GPU": 0.2}]]


def test_a_run_that_no_gpu_can_hold_is_refused() -> None:
    settings = make_config(
        model={"depth": 20, "width": 256},
        self_play={"device": "cuda", "num_actors": 4, "games_per_actor": 128},
        learner={"num_minibatches": 2},
    )
    run = resolve_auto(settings, 8, 1)
    there = cluster(8, num_gpus=1)
    message = r"need about \d+\.\d GiB .*20x256, .* of 8192 rows, 4 actors.*has 12\.0 GiB\. Use"
    with pytest.raises(ClusterError, match=message):
        check_fits_gpus(run, there, 12 * 2**30)
    check_fits_gpus(run, there, 80 * 2**30)
    check_fits_gpus(run, there, 0)  # Unknown.


def test_the_memory_of_gpus_is_looked_at_where_the_run_uses_one(
    requests: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def tiny(*, is_one_machine: bool) -> int:
        asked.append(is_one_machine)
        return 2**28

    monkeypatch.setattr(cluster_fit, "smallest_gpu_bytes", tiny)
    fit_to_cluster(config(2), cluster(4), say=print, should_stop=lambda: False)
    assert asked == []
    with pytest.raises(ClusterError, match=r"the smallest GPU has 0\.2 GiB"):
        fit_to_cluster(config(2), cluster(4, num_gpus=1), say=print, should_stop=lambda: False)
    assert asked == [False]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Resources that an autoscaler was asked for."""
    asked: list[object] = []
    monkeypatch.setattr(cluster_fit, "request_nodes", asked.append)
    monkeypatch.setattr(cluster_fit, "all_have_bf16", lambda *, is_one_machine: True)
    monkeypatch.setattr(cluster_fit, "smallest_gpu_bytes", lambda *, is_one_machine: 0)
    monkeypatch.setattr(cluster_fit, "POLL_S", 0.0)
    return asked


def test_a_run_that_fits_does_not_wait(requests: list[object]) -> None:
    said: list[str] = []
    resolved, found = fit_to_cluster(
        config(2), cluster(4), say=said.append, should_stop=lambda: False
    )
    assert (resolved.learner.device, found.num_cpus, said, requests) == ("cpu", 4, [], [])
    assert (resolved.self_play.amp, resolved.learner.amp) == ("bf16", "bf16")


@pytest.mark.parametrize(
    ("run", "small", "error", "message"),
    [
        (config(learner={"device": "cuda"}), cluster(4), ConfigError, "the cluster has no GPU"),
        (config(2), cluster(0), ClusterError, "offers no CPU, expected at least 1"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_at_once_unless_told_to_wait(
    requests: list[object], run: Config, small: Cluster, error: type[Exception], message: str
) -> None:
    said: list[str] = []
    with pytest.raises(error, match=message) as raised:
        fit_to_cluster(run, small, say=said.append, should_stop=lambda: False)
    assert "cluster.wait_for_nodes_s" in str(raised.value)
    assert (said, requests) == ([], [])


def test_a_cluster_that_grows_in_time_is_waited_for(
    requests: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = iter([cluster(4), cluster(4), cluster(8, num_gpus=1)])
    monkeypatch.setattr(cluster_fit, "refreshed", lambda _: next(growing))
    run = config(learner={"device": "cuda"}, cluster={"wait_for_nodes_s": 1000})
    said: list[str] = []
    resolved, found = fit_to_cluster(run, cluster(4), say=said.append, should_stop=lambda: False)
    assert (resolved.learner.amp, found.num_gpus) == ("bf16", 1)
    assert len(said) == 1
    assert said[0].startswith("waiting up to 1000 s for the cluster to grow: learner.device")
    # The request is taken back: the actors themselves hold what they use.
    assert requests == [run, None]


def test_waiting_ends_when_asked_to_stop(
    requests: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_fit, "refreshed", lambda found: found)
    run = config(2, cluster={"wait_for_nodes_s": 1000})
    with pytest.raises(KeyboardInterrupt):
        fit_to_cluster(run, cluster(0), say=lambda _: None, should_stop=lambda: True)
    assert requests == [run, None]


def test_waiting_has_an_end(requests: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_fit, "refreshed", lambda found: found)
    run = config(2, cluster={"wait_for_nodes_s": 0.05})
    with pytest.raises(ClusterError, match="offers no CPU"):
        fit_to_cluster(run, cluster(0), say=lambda _: None, should_stop=lambda: False)
    assert requests == [run, None]


def with_learners(number: int, **learner: object) -> Config:
    schedule = {"mode": "overlap", "rollouts_per_update": 8}
    return config(8, learner={"num_learners": number} | learner, schedule=schedule)


@pytest.mark.parametrize(
    ("run", "num_gpus", "error", "message"),
    [
        (
            with_learners(5),
            0,
            ClusterError,
            r"num_learners = 5 exceeds the cluster's 4 CPUs",
        ),
        (
            with_learners(3),
            2,
            ClusterError,
            r"= 3 with learner\.num_gpus = 1 each need 3 GPUs",
        ),
        (with_learners(2, num_gpus=2), 3, ClusterError, r"num_gpus = 2 each need 4 GPUs, the"),
        (with_learners(2, num_gpus=0.5), 2, ConfigError, r"num_gpus = 0\.5 does not go with"),
    ],
)
def test_learners_that_have_not_a_cpu_or_gpu_each_are_refused(
    run: Config, num_gpus: int, error: type[Exception], message: str
) -> None:
    found = cluster(4, num_gpus=num_gpus)
    with pytest.raises(error, match=message):
        check_fits(resolve_auto(run, 4, num_gpus), found)


@pytest.mark.parametrize(
    ("run", "num_cpus", "num_gpus"),
    [
        (with_learners(4), 4, 0),
        (with_learners(2), 4, 2),
        (with_learners(2, num_gpus=0.6), 2, 2),
        (with_learners(3), 16, 8),
    ],
)
def test_several_learners_leave_room_for_all_actors(
    run: Config, num_cpus: int, num_gpus: int
) -> None:
    found = cluster(num_cpus, num_gpus=num_gpus)
    run = resolve_auto(run, num_cpus, num_gpus)
    check_fits(run, found)
    learners = run.learner.num_learners * learner_cpus(run, num_cpus)
    actors = run.at_most_max_actors(8)
    assert actors * actor_cpus(run, num_cpus) + learners <= num_cpus + 1e-9


def test_an_autoscaler_is_asked_for_every_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(cluster_fit, "request_resources", lambda *, bundles: asked.extend(bundles))
    cluster_fit.request_nodes(with_learners(2, device="cuda"))
    assert asked == [{"CPU": 1, "GPU": 1}] * 2 + [{"CPU": 1}] * 8

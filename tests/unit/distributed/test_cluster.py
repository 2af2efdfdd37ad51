"""Connecting to a cluster, what a run reserves of it, which runs it refuses. No Ray is started."""

import pytest
import ray

from keisei_ray.config.autosize import actor_cpus, learner_cpus, resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.distributed import actors
from keisei_ray.distributed import cluster as cluster_module
from keisei_ray.distributed.cluster import Cluster, check_fits
from keisei_ray.errors import ClusterError


def cluster(num_cpus: int) -> Cluster:
    return Cluster("x", 1, num_cpus, 0, 0, "")


def config(num_actors: int, **evaluation: object) -> Config:
    given = Config.model_validate(
        {"self_play": {"num_actors": num_actors}, "evaluation": evaluation}
    )
    return resolve_auto(given, 4, 0)


@pytest.mark.parametrize("num_cpus", [1, 2, 4, 16])
@pytest.mark.parametrize("num_actors", [1, 3, 32])
@pytest.mark.parametrize("reserved", [0.0, 0.25])
def test_learner_evaluator_and_all_actors_have_room(
    num_cpus: int, num_actors: int, reserved: float
) -> None:
    c = config(num_actors, interval_timesteps=1000, num_cpus=reserved)
    check_fits(c, cluster(num_cpus))
    each = actor_cpus(c, num_cpus)
    assert 0 < each <= 1
    assert num_actors * each + learner_cpus(num_cpus) + reserved <= num_cpus + 1e-9


@pytest.mark.parametrize("num_cpus", [0.1, 0.25, 0.5, 1.5])
def test_a_share_may_be_part_of_a_cpu_where_a_cluster_may_not(num_cpus: float) -> None:
    c = config(3)
    share = Cluster("x", 1, num_cpus, 0, 0, "", is_fixed=True)
    check_fits(c, share)
    assert 3 * actor_cpus(c, num_cpus) + learner_cpus(num_cpus) <= num_cpus + 1e-9
    if num_cpus < 1:
        with pytest.raises(ClusterError, match="offers no CPU"):
            check_fits(c, Cluster("x", 1, num_cpus, 0, 0, ""))


@pytest.mark.parametrize(("device", "num_gpus"), [("cuda", 0.25), ("cpu", 0)])
def test_a_learner_reserves_its_part_of_a_gpu_only_where_it_uses_one(
    device: str, num_gpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    class Remote:
        """Stands for Ray, which has no GPU here to give."""

        def options(self, **options: object) -> "Remote":
            asked.update(options)
            return self

        def remote(self, *arguments: object) -> None:
            pass

    monkeypatch.setattr(ray, "remote", lambda shell: Remote())
    learner = {"device": device, "num_gpus": 0.25}
    actors.new_learner_actor(Config.model_validate({"learner": learner}), num_cpus=0.5)
    assert asked["num_cpus"] == 0.5
    assert asked["num_gpus"] == num_gpus


def test_an_evaluator_that_is_off_reserves_nothing() -> None:
    off, on = config(2, num_cpus=1.0), config(2, interval_timesteps=1000, num_cpus=1.0)
    assert actor_cpus(off, 3) == 1.0
    assert actor_cpus(on, 3) == 0.5
    check_fits(off, cluster(2))
    with pytest.raises(ClusterError, match=r"evaluation\.num_cpus = 1 leaves no part of the"):
        check_fits(on, cluster(2))


@pytest.mark.parametrize(
    ("raised", "advice"),
    [
        (Exception("The current node timed out during startup."), "overloaded: try again"),
        (RuntimeError("Failed to start the dashboard"), "dashboard_port"),
        (OSError("no space"), "run `ray stop`"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_whatever_ray_raises_at_its_start_is_one_line_with_advice(
    raised: Exception, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", refuse)
    # Other tests may have a cluster up in this process, which is to stay up.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with (
        pytest.raises(ClusterError, match=advice) as caught,
        cluster_module.connect(
            Config.model_validate({"cluster": {"address": "local"}}), environ={}
        ),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is raised

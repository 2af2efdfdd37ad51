"""Resources that actors reserve. No Ray is started."""

from typing import Any

import pytest
import ray

from keisei_ray.config.schema import Config
from keisei_ray.distributed import actors


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Options with which Ray was asked for an actor."""
    asked: dict[str, object] = {}

    class Remote:
        """Stands for Ray, which has no GPU here to give."""

        def options(self, **options: object) -> "Remote":
            asked.update(options)
            return self

        def remote(self, *arguments: object) -> None:
            pass

    def remote(shell: type | None = None, **groups: object) -> Any:
        return Remote() if shell else remote

    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray.util, "get_current_placement_group", lambda: None)
    return asked


@pytest.mark.parametrize(("device", "num_gpus"), [("cuda", 0.25), ("cpu", 0)])
def test_a_learner_reserves_its_part_of_a_gpu_only_where_it_uses_one(
    device: str, num_gpus: float, asked: dict[str, object]
) -> None:
    learner = {"device": device, "num_gpus": 0.25}
    actors.new_learner_actor(Config.model_validate({"learner": learner}), num_cpus=0.5)
    assert asked["num_cpus"] == 0.5
    assert asked["num_gpus"] == num_gpus


@pytest.mark.parametrize(("device", "num_gpus"), [("cuda", 0.125), ("cpu", 0)])
def test_a_self_play_actor_reserves_its_part_of_a_gpu_only_where_it_uses_one(
    device: str, num_gpus: float, asked: dict[str, object]
) -> None:
    play = {"device": device, "num_gpus": 0.125}
    actors.new_self_play_actor(Config.model_validate({"self_play": play}), 0, 0, num_cpus=0.5)
    assert asked["num_cpus"] == 0.5
    assert asked["num_gpus"] == num_gpus

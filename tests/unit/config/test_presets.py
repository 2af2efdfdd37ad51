"""Shipped configurations: each loads, and resolves on the hardware that it is for."""

import re
from pathlib import Path

import pytest

from keisei_ray.config.autosize import (
    actor_cpus,
    learner_gpus,
    resolve_auto,
    run_sizes,
    self_play_gpus,
)
from keisei_ray.config.memory import gpu_bytes
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config

HARDWARE = {"gpu": (8, 1), "multi-gpu": (32, 8)}
"""Name of a preset -> CPUs and GPUs that it is for; the others are tried with 16 and 1."""
PRESETS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_loads_and_resolves_on_its_hardware(path: Path) -> None:
    config = resolve_config(str(path), {}, [], {})
    assert config != Config()
    num_cpus, num_gpus = HARDWARE.get(path.stem, (16, 1))
    resolved = resolve_auto(config, num_cpus=num_cpus, num_gpus=num_gpus)
    assert resolved.timesteps_per_update <= config.run.total_timesteps
    for heading in ("# Purpose:", "# Hardware:", "# Time:", "# Result:"):
        assert heading in path.read_text(encoding="ascii")


def test_the_presets_are_those_that_were_promised() -> None:
    assert {path.stem for path in PRESETS} >= {
        "debug",
        "laptop",
        "workstation",
        "gpu",
        "multi-gpu",
        "cluster",
    }


@pytest.mark.parametrize("name", ["gpu", "multi-gpu"])
def test_a_preset_for_gpus_uses_them_and_fits(name: str) -> None:
    """All actors are placed, learners have equal shares, a GPU of the named size suffices."""
    path = next(path for path in PRESETS if path.stem == name)
    config = resolve_config(str(path), {}, [], {})
    num_cpus, num_gpus = HARDWARE[name]
    resolved = resolve_auto(config, num_cpus, num_gpus)
    assert resolved.self_play.device == resolved.learner.device == "cuda"
    sizes = run_sizes(resolved, num_cpus, actor_cpus(resolved, num_cpus), num_gpus=num_gpus)
    assert sizes.num_placeable >= sizes.num_actors == config.self_play.num_actors
    assert sizes.rollouts_per_update % resolved.learner.num_learners == 0
    in_use = resolved.learner.num_learners * learner_gpus(resolved)
    in_use += sizes.num_actors * self_play_gpus(resolved)
    assert 0.9 * num_gpus <= in_use <= num_gpus
    gigabytes = int(re.findall(r"GPUs? (?:with|of) (\d+) GB", path.read_text())[0])
    assert gpu_bytes(resolved, sizes.num_actors) < 0.9 * gigabytes * 10**9

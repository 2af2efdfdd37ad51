"""Shipped configurations: each loads, and resolves on the hardware that it is for."""

from pathlib import Path

import pytest

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config

PRESETS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_loads_and_resolves_on_its_hardware(path: Path) -> None:
    config = resolve_config(str(path), {}, [], {})
    assert config != Config()
    resolved = resolve_auto(config, num_cpus=16, num_gpus=1)
    assert resolved.timesteps_per_update <= config.run.total_timesteps
    for heading in ("# Purpose:", "# Hardware:", "# Time:", "# Result:"):
        assert heading in path.read_text(encoding="ascii")


def test_the_presets_are_those_that_were_promised() -> None:
    assert {path.stem for path in PRESETS} >= {
        "debug",
        "laptop",
        "workstation",
        "gpu",
        "cluster",
    }

"""A small sweep file, from which tests make others by changing parts."""

from pathlib import Path
from typing import Any

import yaml

from keisei_ray.tune.sweep_file import Sweep, load_sweep_file

SMALL: dict[str, Any] = {
    "metric": {"name": "policy_loss", "mode": "min"},
    "settings": {"run": {"total_timesteps": 1000}},
    "space": {"learner.learning_rate": {"loguniform": [1e-4, 1e-2]}},
}


def sweep_of(folder: Path, *overrides: str, **parts: Any) -> Sweep:
    """Returns the sweep of a file that differs from `SMALL` in some parts."""
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL | parts), encoding="utf-8")
    return load_sweep_file(str(path), {}, overrides, {})

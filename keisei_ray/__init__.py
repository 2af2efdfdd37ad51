"""Keisei Ray: self-play reinforcement learning for Shogi on Ray.

The library are the names in `__all__`; docs/library.md is the guide. Each is imported when it is
first used: importing this package loads neither torch nor Ray.
"""

import importlib
from typing import TYPE_CHECKING

from keisei_ray import errors

if TYPE_CHECKING:
    from keisei_ray.library.player import Evaluation, NetworkPlayer, load
    from keisei_ray.library.runs import RunRecords, Table, read_run
    from keisei_ray.library.training import train

__version__ = "0.1.0"
"""Version of the package. pyproject.toml reads it from here, so that a checkout that is not
installed knows it too."""

__all__ = [
    "Evaluation",
    "NetworkPlayer",
    "RunRecords",
    "Table",
    "__version__",
    "errors",
    "load",
    "read_run",
    "train",
]

_MODULES = {
    "Evaluation": "player",
    "NetworkPlayer": "player",
    "load": "player",
    "RunRecords": "runs",
    "Table": "runs",
    "read_run": "runs",
    "train": "training",
}
"""Name -> the module of `keisei_ray.library` that has it."""


def __getattr__(name: str) -> object:
    """Imports a name of the library when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.library.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

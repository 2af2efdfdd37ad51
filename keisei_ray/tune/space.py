"""Search space of a sweep: settings by their dotted names, each with a distribution.

    choice: [a, b, ...]          one of them
    grid: [a, b, ...]            each of them, in every combination with the other grids
    uniform: [low, high]         quniform: [low, high, q], rounded to a multiple of q
    loguniform: [low, high]      qloguniform: [low, high, q]
    randint: [low, high]         an integer, `high` excluded; lograndint likewise
    qrandint: [low, high, q]     a multiple of q, `high` included

Names and limits are those of `ray.tune`. The space is validated before anything starts: every
combination that a trial can draw must be a valid configuration.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune

from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from keisei_ray.tune.sweep_file import Sweep

LISTS = ("choice", "grid")
RANGES: dict[str, Callable[..., Any]] = {
    "uniform": tune.uniform,
    "quniform": tune.quniform,
    "loguniform": tune.loguniform,
    "qloguniform": tune.qloguniform,
    "randint": tune.randint,
    "lograndint": tune.lograndint,
    "qrandint": tune.qrandint,
}
NOT_SEARCHED = ("run.run_dir", "run.resume", "tracking.view")
"""Settings that the sweep itself sets, like the whole section `cluster`."""
MAX_COMBINATIONS = 256
"""Maximum number of combinations of extreme values that are all validated; of a larger space this
many random combinations are."""


@dataclass(frozen=True)
class Dimension:
    """One setting and its distribution."""

    key: str
    """Dotted name of the setting."""
    kind: str
    """Name of the distribution."""
    values: tuple[Any, ...]
    """Values of a choice or a grid; numbers of a range."""

    @property
    def is_list(self) -> bool:
        """Whether the values are all that can be drawn."""
        return self.kind in LISTS

    def domain(self) -> Any:
        """Returns the distribution for `param_space` of a Tuner."""
        if self.kind == "grid":
            return tune.grid_search(list(self.values))
        if self.kind == "choice":
            return tune.choice(list(self.values))
        return RANGES[self.kind](*self.values)

    def mutation(self) -> Any:
        """Returns the distribution for PBT, which moves along a list from neighbor to neighbor."""
        return list(self.values) if self.is_list else self.domain()

    def extremes(self) -> tuple[Any, ...]:
        """Returns the values that are validated: all of a list, the ends of a range."""
        if self.is_list:
            return self.values
        low, high = self.values[:2]
        return (low, high - 1 if self.kind in ("randint", "lograndint") else high)

    def clamp(self, value: Any) -> Any:
        """Returns the nearest value that can be drawn; PBT may multiply beyond a range's ends."""
        if self.is_list:
            return value
        low, high = self.extremes()
        if self.kind.startswith("q"):
            step = self.values[2]
            value = round(value / step) * step
        return min(max(value, low), high)


def dimensions(sweep: Sweep) -> list[Dimension]:
    """Returns the search space of a sweep.

    Raises:
        ConfigError: a distribution is unknown or its numbers do not fit it. Whether keys and
            values fit the settings is checked by `check_space`.
    """
    if not sweep.file.space:
        raise ConfigError(f"{sweep.source}: space is empty, expected at least one setting.")
    found = [_dimension(sweep.source, key, what) for key, what in sweep.file.space.items()]
    method = sweep.file.search.method
    for d in found:
        if d.key in NOT_SEARCHED or d.key.startswith("cluster."):
            raise ConfigError(
                f"{sweep.source}: {d.key} cannot be searched: it is the sweep's to set. Leave it "
                "out of `space`."
            )
        if method == "grid" and d.kind != "grid":
            raise ConfigError(
                f"{sweep.source}: {d.key} is a {d.kind}, but search.method = grid takes only grid. "
                "List its values as a grid, or search by random or optuna."
            )
        is_pbt = sweep.file.scheduler.kind == "pbt"
        if d.kind == "grid" and (method == "optuna" or is_pbt):
            drawer = "scheduler.kind = pbt" if is_pbt else "search.method = optuna"
            raise ConfigError(
                f"{sweep.source}: {d.key} is a grid, which {drawer} cannot draw from. Use choice."
            )
    return found


def _dimension(source: str, key: str, what: Mapping[str, Any]) -> Dimension:
    kinds = (*LISTS, *RANGES)
    if len(what) != 1 or next(iter(what)) not in kinds:
        raise ConfigError(
            f"{source}: {key} = {dict(what)!r}, expected one of {', '.join(kinds)} with a list."
        )
    kind, values = next(iter(what.items()))
    where = f"{source}: {key} = {{{kind}: {values!r}}}"
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}, expected a list of values.")
    if kind not in LISTS:
        _check_range(where, kind, values)
    return Dimension(key, kind, tuple(values))


def _check_range(where: str, kind: str, values: Sequence[Any]) -> None:
    """Raises ConfigError where these numbers do not make a range."""
    names = ["low", "high", "q"] if kind.startswith("q") else ["low", "high"]
    is_int = kind.endswith("randint")
    allowed = int if is_int else (int, float)
    if len(values) != len(names) or any(
        isinstance(v, bool) or not isinstance(v, allowed) for v in values
    ):
        numbers = "integers" if is_int else "numbers"
        raise ConfigError(f"{where}, expected {kind}: [{', '.join(names)}], {numbers}.")
    low, high = values[:2]
    if not low < high:
        raise ConfigError(f"{where}: low must be less than high.")
    if "log" in kind and low <= 0:
        raise ConfigError(f"{where}: low must be above 0 for a logarithm.")
    if len(values) == 3:
        step = values[2]
        if step <= 0 or any(not math.isclose(v / step, round(v / step)) for v in (low, high)):
            raise ConfigError(f"{where}: q must be above 0, and low and high multiples of it.")


def dotted_settings(config: Config) -> dict[str, Any]:
    """Returns a whole configuration by dotted names of settings."""
    tree = config.model_dump(mode="json")
    return {f"{section}.{key}": v for section, keys in tree.items() for key, v in keys.items()}


def trial_config(
    base: Mapping[str, Any], chosen: Mapping[str, Any], source: str = "sweep"
) -> Config:
    """Returns the configuration of a trial: the base with the settings that were chosen.

    Args:
        base: result of `dotted_settings`.
        chosen: dotted name -> value.
        source: name of the sweep file, for messages.

    Raises:
        ConfigError: as for `resolve_config`.
    """
    return resolve_config(None, {}, [], {}, {**base, **chosen}, sweep_source=source)


def samples(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Yields combinations of extreme values.

    These are all of them, or, in a large space, each value once and random combinations.
    """
    keys = [d.key for d in space]
    choices = [d.extremes() for d in space]
    if math.prod(len(c) for c in choices) <= MAX_COMBINATIONS:
        yield from (dict(zip(keys, values, strict=True)) for values in itertools.product(*choices))
        return
    first = {d.key: c[0] for d, c in zip(space, choices, strict=True)}
    for dimension, values in zip(space, choices, strict=True):
        yield from (first | {dimension.key: value} for value in values)
    draw = random.Random(0)
    for _ in range(MAX_COMBINATIONS):
        yield {key: draw.choice(c) for key, c in zip(keys, choices, strict=True)}


def check_space(sweep: Sweep, space: Sequence[Dimension]) -> Iterator[Config]:
    """Yields the configurations of `samples`, each validated.

    Raises:
        ConfigError: a key is unknown, a value is out of its limits, or values do not fit together;
            the resolver's message, with the sweep file as source.
    """
    base = dotted_settings(sweep.base)
    for chosen in samples(space):
        yield trial_config(base, chosen, sweep.source)

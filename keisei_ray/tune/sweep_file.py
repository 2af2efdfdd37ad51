"""The sweep file: what is searched, how, and over which base configuration.

    metric: {name: evaluation/bare/greedy, mode: max}
    config: ../quickstart.yaml          # relative to the sweep file
    settings:                           # over it, like any configuration file
      run: {total_timesteps: 300_000}
    space:                              # dotted name -> distribution, see `space.py`
      learner.learning_rate: {loguniform: [1.0e-4, 5.0e-3]}
    search: {method: random, num_samples: 8}
    scheduler: {kind: asha, grace_timesteps: 50_000}
    trial: {num_cpus: 1}

The base is resolved as for any run: the file, the environment, `settings`, `--set`.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from keisei_ray.config.resolver import load_config_json, resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import Fraction, Section
from keisei_ray.config.yaml12 import load_yaml
from keisei_ray.errors import ConfigError


class MetricConfig(Section):
    """What is optimised."""

    name: str
    """A name of metrics.jsonl, `diagnostics/...`, `evaluation/bare/greedy`, `elo/bare`: those of
    TensorBoard and W&B."""
    mode: Literal["max", "min"] = "max"
    """Whether more is better."""


class SearchConfig(Section):
    """Where the settings of the next trial come from."""

    method: Literal["random", "grid", "optuna"] = "random"
    """random: independent draws. grid: every combination, once. optuna: its TPE sampler, from
    the results so far."""
    num_samples: PositiveInt = 1
    """Trials; of `random`, for each combination of the `grid` entries, if there are any."""
    seed: NonNegativeInt = 1
    """Of the draws. Every trial has the base's run.seed."""
    max_concurrent: PositiveInt | None = None
    """Trials at a time; null: as many as fit."""


class SchedulerConfig(Section):
    """Which trials are stopped early, or go on from another's weights."""

    kind: Literal["none", "asha", "pbt"] = "none"
    """asha: the worse are stopped at each rung. pbt: the worst go on from a good one's checkpoint
    with its settings, mutated."""
    grace_timesteps: PositiveInt = 50_000
    """asha: the first rung; nothing is stopped before."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """asha: one in so many goes beyond a rung; rungs are this factor apart."""
    interval_timesteps: PositiveInt = 50_000
    """pbt: how often a trial is compared with the others."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """pbt: share of trials that are replaced, and that are good enough to go on from."""
    resample_probability: Fraction = 0.25
    """pbt: how often a setting is drawn anew instead of changed by a fifth or to a neighbour."""


class TrialConfig(Section):
    """What each trial gets."""

    num_cpus: PositiveFloat = 1.0
    """CPUs of Ray for learner, actors and evaluator together; may be a fraction. A GPU comes on
    top, learner.num_gpus of it, where the learner's device is cuda, or auto and there is one."""
    max_failures: NonNegativeInt = 2
    """How often a trial that fails goes on from its newest checkpoint."""


class SweepFile(Section):
    """A sweep file, validated."""

    metric: MetricConfig
    """What is optimised."""
    config: str | None = None
    """Base configuration file, relative to the sweep file; null: the defaults."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings over it, nested or dotted."""
    space: dict[str, dict[str, Any]]
    """Dotted name of a setting -> its distribution."""
    search: SearchConfig = SearchConfig()
    """Where the settings of the next trial come from."""
    scheduler: SchedulerConfig = SchedulerConfig()
    """Which trials end early."""
    trial: TrialConfig = TrialConfig()
    """What each trial gets."""


@dataclass(frozen=True)
class Sweep:
    """A sweep file with the base configuration that it is over."""

    source: str
    """Name of the file, for messages."""
    file: SweepFile
    base: Config

    def to_json(self) -> str:
        """For `from_json`."""
        tree = {
            "source": self.source,
            "sweep": self.file.model_dump(mode="json"),
            "base": self.base.model_dump(mode="json"),
        }
        return json.dumps(tree, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> "Sweep":
        """What `to_json` wrote.

        Raises:
            ConfigError: `text`, of the file `source`, is something else.
        """
        try:
            tree = json.loads(text)
            file = SweepFile.model_validate(tree["sweep"])
            return cls(tree["source"], file, load_config_json(json.dumps(tree["base"]), source))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{source}: not what a sweep of this version saved. Begin a new sweep."
            ) from error


def load_sweep_file(
    path: str,
    environ: Mapping[str, str],
    overrides: Sequence[str],
    flags: Mapping[str, Any],
) -> Sweep:
    """Reads a sweep file and resolves its base.

    Args:
        path: YAML.
        environ: environment variables, as for `resolve_config`; so `overrides` and `flags`.
        overrides: `section.key=value` texts over the file's `settings`.
        flags: dotted key -> value over those.

    Raises:
        ConfigError: one line: the file cannot be read, a key is unknown or mistyped, the base is
            not valid, or sets what is searched or what is the sweep's to set.
    """
    file = _parse(path)
    config = str(Path(path).parent / file.config) if file.config else None
    base = resolve_config(config, environ, overrides, flags, file.settings, sweep_source=path)
    for key in ("run_dir", "resume"):
        if getattr(base.run, key) is not None:
            raise ConfigError(
                f"run.{key} = {getattr(base.run, key)!r}, but each trial of a sweep has a "
                "directory of its own. Leave it out; the flag --run-dir names the sweep's."
            )
    given = {*_dotted(file.settings), *(text.partition("=")[0].strip() for text in overrides)}
    if twice := sorted(given & set(file.space)):
        raise ConfigError(
            f"{path}: {twice[0]} is searched by `space` and also given a value. Leave one out."
        )
    return Sweep(path, file, base)


def _dotted(tree: Mapping[str, Any]) -> set[str]:
    inner = {f"{a}.{b}" for a, below in tree.items() if isinstance(below, dict) for b in below}
    return inner | set(tree)


def _parse(path: str) -> SweepFile:
    try:
        tree = load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the sweep file: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: a {type(tree).__name__}, expected a sweep file with metric, space and others "
            "(see configs/tune/)."
        )
    try:
        return SweepFile.model_validate(tree)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = [str(part) for part in detail["loc"]]
        key = ".".join(where)
        if detail["type"] == "missing":
            raise ConfigError(f"{path}: {key} is missing, expected in every sweep file.") from error
        if detail["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where[-1], _keys_beside(where), 1, 0.0)[0]
            raise ConfigError(f"{path}: unknown key {key!r}. Did you mean {near!r}?") from error
        raise ConfigError(f"{path}: {key} = {detail['input']!r}: {detail['msg']}.") from error


def _keys_beside(where: Sequence[str]) -> list[str]:
    """What could stand in place of the last part of a path into the sweep file."""
    model: Any = SweepFile
    for part in where[:-1]:
        model = model.model_fields[part].annotation
    return list(model.model_fields)

"""Sweep file: what is searched, how, and over which base configuration.

    metric: {name: evaluation/bare/greedy, mode: max}
    config: ../quickstart.yaml          # relative to the sweep file
    settings:                           # override it, like any configuration file
      run: {total_timesteps: 300_000}
    space:                              # dotted name -> distribution, see `space.py`
      learner.learning_rate: {loguniform: [1.0e-4, 5.0e-3]}
    search: {method: random, num_samples: 8}
    scheduler: {kind: asha, grace_timesteps: 50_000}
    trial: {num_cpus: 1}

The base is resolved as for any run: the file, the environment, `settings`, `--set`. Only the
background evaluation has other defaults: it is off, since trials share the cores that the sweep was
given; where the sweep switches it on, its matches do not wait for `evaluation.max_cpu_share`, and
all trials meet the same opponents, by whose scores they may be compared.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from keisei_ray.config.json_text import check_unicode, parse_json
from keisei_ray.config.resolver import load_config_json, resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import Fraction, Section
from keisei_ray.config.yaml12 import load_yaml
from keisei_ray.errors import ConfigError

TRIAL_DEFAULTS: Final = {
    "evaluation.interval_timesteps": None,
    "evaluation.max_cpu_share": 1.0,
    "evaluation.adapt_opponents": False,
}
"""Defaults of a trial that are not those of a run."""


class MetricConfig(Section):
    """Metric that is optimized."""

    name: str
    """Name of the metric as in TensorBoard and W&B: a name of metrics.jsonl without its group,
    `diagnostics/...`, `evaluation/bare/greedy`, `elo/bare`."""
    mode: Literal["max", "min"] = "max"
    """max: more is better; min: less is better."""


class SearchConfig(Section):
    """Source of the next trial's settings."""

    method: Literal["random", "grid", "optuna"] = "random"
    """random: independent draws. grid: every combination, once. optuna: its TPE sampler, from
    the results so far."""
    num_samples: PositiveInt = 1
    """Number of trials; with random, for each combination of the `grid` entries, if any."""
    seed: NonNegativeInt = 1
    """Seed of the draws. Every trial has the base's run.seed."""
    max_concurrent: PositiveInt | None = None
    """Maximum number of trials at a time; null: as many as fit."""


class SchedulerConfig(Section):
    """Scheduler: which trials are stopped early, or go on from another trial's weights."""

    kind: Literal["none", "asha", "pbt"] = "none"
    """asha: the worse trials are stopped at each rung. pbt: the worst trials go on from a good
    trial's checkpoint, with its settings mutated."""
    grace_timesteps: PositiveInt = 50_000
    """asha: the first rung; no trial is stopped before it."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """asha: one in this many trials goes beyond a rung; rungs are this factor apart."""
    interval_timesteps: PositiveInt = 50_000
    """pbt: timesteps between two comparisons of a trial with the others."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """pbt: fraction of trials that are replaced, and of those that are good enough to copy."""
    resample_probability: Fraction = 0.25
    """pbt: probability that a setting is drawn again, not changed by a fifth or to a neighbor."""


class TrialConfig(Section):
    """Resources of each trial."""

    num_cpus: PositiveFloat = 1.0
    """Ray CPUs for learners, actors and evaluator together; may be a fraction. In addition the
    trial gets learner.num_gpus of a GPU for each learner where its device is cuda, or auto and
    there is one, and self_play.num_gpus for each actor where that device is cuda."""
    max_failures: NonNegativeInt = 2
    """Number of times that a failed trial is continued from its newest checkpoint."""


class SweepFile(Section):
    """A sweep file, validated."""

    metric: MetricConfig
    """Metric that is optimized."""
    config: str | None = None
    """Base configuration file, relative to the sweep file; null: the defaults."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that override it, nested or dotted."""
    space: dict[str, dict[str, Any]]
    """Dotted name of a setting -> its distribution."""
    search: SearchConfig = SearchConfig()
    """Source of the next trial's settings."""
    scheduler: SchedulerConfig = SchedulerConfig()
    """Which trials end early."""
    trial: TrialConfig = TrialConfig()
    """Resources of each trial."""


@dataclass(frozen=True)
class Sweep:
    """A sweep file with its base configuration."""

    source: str
    """Name of the file, for messages."""
    file: SweepFile
    base: Config

    def to_json(self) -> str:
        """Returns the sweep as text for `from_json`."""
        tree = {
            "source": self.source,
            "sweep": self.file.model_dump(mode="json"),
            "base": self.base.model_dump(mode="json"),
        }
        return json.dumps(tree, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> "Sweep":
        """Returns the sweep of a text that `to_json` wrote.

        Raises:
            ConfigError: `text`, from the file `source`, is something else.
        """
        try:
            tree = parse_json(text)
            check_unicode(tree)
            file = SweepFile.model_validate(tree["sweep"])
            base = load_config_json(json.dumps(tree["base"]), source)
            return cls(str(tree["source"]), file, base)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{source}: not written by a sweep of this version. Begin a new sweep."
            ) from error


def load_sweep_file(
    path: str,
    environ: Mapping[str, str],
    overrides: Sequence[str],
    flags: Mapping[str, Any],
) -> Sweep:
    """Reads a sweep file and resolves its base.

    Args:
        path: a YAML file.
        environ: environment variables, as for `resolve_config`.
        overrides: `section.key=value` texts that override the file's `settings`.
        flags: dotted key -> value; overrides both.

    Raises:
        ConfigError: the file cannot be read, a key is unknown or mistyped, the base is not valid,
            or it sets a key that is searched or that the sweep itself sets.
    """
    file = _parse(path)
    config = str(Path(path).parent / file.config) if file.config else None
    base = resolve_config(
        config, environ, overrides, flags, file.settings, sweep_source=path, defaults=TRIAL_DEFAULTS
    )
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
        raise ConfigError(
            f"{path}: {key} = {shortened(detail['input'])}: {detail['msg']}."
        ) from error


def _keys_beside(where: Sequence[str]) -> list[str]:
    """Returns the valid keys at the place of the last part of a path into the sweep file."""
    model: Any = SweepFile
    for part in where[:-1]:
        model = model.model_fields[part].annotation
    return list(model.model_fields)

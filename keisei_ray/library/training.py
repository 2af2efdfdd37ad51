"""A training run for programs of one's own, as `run.py train` makes it."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.training.run_start import settings_to_resume_with
from keisei_ray.training.session import Outcome
from keisei_ray.training.session import train as run_session


def train(
    config: Config | Mapping[str, Any] | str | Path, *, console: Console | None = None
) -> Outcome:
    """Trains a run to its end. Blocks; starts Ray, or joins the cluster of `cluster.address`.

    An interrupt (Ctrl-C, or that of a notebook) saves the run and returns; outside the main thread
    there is none.

    Args:
        config: the settings. A mapping holds any of them, by section, `{"run": {"seed": 3}}`, or
            with dotted keys; a path is that of a YAML file. With both, environment variables
            `KEISEI_...` count as for `run.py`: over a file, under a mapping. A mapping that
            resumes (`run.resume`) starts from the settings that the run was saved with. A `Config`
            is used as it is.
        console: where the view is drawn; None: standard output. `tracking.view=none` is silent.

    Returns:
        How the run ended: its reason ("done" or "interrupted"), timestep, directory, and newest
        checkpoint.

    Raises:
        UserError: a setting, directory, checkpoint or cluster that cannot be used.
        KeiseiError: a failure during training; what was learnt has been saved.
    """
    console = console or Console()
    say = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    return run_session(_resolved(config, say), console)


def _resolved(
    config: Config | Mapping[str, Any] | str | Path,
    say: Callable[[str], object] = lambda text: None,
) -> Config:
    """Returns the settings as `run.py train` would have them.

    Args:
        config: as for `train`.
        say: called with a sentence about what is being waited for.
    """
    if isinstance(config, Config):
        return config
    if not isinstance(config, Mapping):
        return resolve_config(str(config), os.environ, [], {})
    given = resolve_config(None, os.environ, [], {}, config, "config")
    if given.run.resume is None:
        return given
    with settings_to_resume_with(given.run.run_dir, given.run.resume, say) as file:
        return resolve_config(file, os.environ, [], {}, config, "config")

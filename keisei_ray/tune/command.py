"""The `tune` command: a sweep from its file to its results, or the rest of one that was stopped.

SWEEP_DIR/sweep.json           the sweep file and its base configuration, as the sweep began
SWEEP_DIR/TRIAL/               a trial's run directory, with all files of a run
SWEEP_DIR/run.log              the log of Ray Tune
SWEEP_DIR/results.json         all trials, best first
SWEEP_DIR/best.yaml            the best trial's configuration, for `run.py --config`
other files                    Ray Tune's own state, from which --resume continues
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import connect
from keisei_ray.errors import ConfigError, RunDirError
from keisei_ray.invocation import program
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.result_file import check_result_file, write_result_file
from keisei_ray.storage.run_dirs import (
    RUNS_DIR,
    make_new_run_dir,
    newest_run_dir,
    refuse_job_directory,
)
from keisei_ray.storage.run_layout import BEST_CONFIG_FILE, SWEEP_FILE
from keisei_ray.storage.run_lock import run_lock
from keisei_ray.tracking import logs
from keisei_ray.training.run_start import with_named_initial
from keisei_ray.training.stop_request import StopRequest, stopping_on_signals
from keisei_ray.training.trust import foreign_owner
from keisei_ray.tune import results as results_file
from keisei_ray.tune.sweep import check_sweep, run_sweep
from keisei_ray.tune.sweep_file import Sweep, load_sweep_file


@dataclass(frozen=True)
class TuneOptions:
    """Options of the command line."""

    config: str | None
    """Path of the sweep file; None for a resume."""
    overrides: Sequence[str]
    """`--set` texts that change the base configuration."""
    run_dir: str | None
    """Directory of the sweep; None: a new one, or the newest one for a resume."""
    is_resumed: bool
    """Whether a sweep that was stopped is continued."""
    address: str | None
    """Address of a Ray cluster to join."""
    json: str | None
    """Another file that the results are written to."""
    is_trusted: bool = False
    """Whether the sweep of another user may be resumed."""


def run(options: TuneOptions, environ: Mapping[str, str], console: Console) -> bool:
    """Runs or resumes a sweep and shows its results. Blocks.

    Returns:
        True if the sweep reached its end, False if it was interrupted and can be resumed.

    Raises:
        UserError: the sweep file, the directory or the cluster cannot be used; nothing has been
            started or overwritten.
        KeiseiError: no trial has a result.
    """
    check_result_file(options.json)
    sweep, chosen = _resumed(options, environ) if options.is_resumed else _new(options, environ)
    check_sweep(sweep)
    sweep_dir = chosen or _new_sweep_dir()
    stop = StopRequest()
    with (
        _prepared(sweep_dir, sweep, console, is_resumed=options.is_resumed),
        logs.configure(sweep_dir, sweep.base.tracking.log_level, Console(quiet=True)),
        connect(_connection(sweep.base, options), environ) as cluster,
        stopping_on_signals(stop),  # After Ray, which sets its own handlers.
    ):
        console.print(f"sweep in {sweep_dir}", soft_wrap=True, highlight=False, markup=False)
        results = run_sweep(
            sweep,
            sweep_dir,
            cluster,
            console,
            should_stop=lambda: stop.is_set,
            is_resumed=options.is_resumed,
        )
    results_file.save(sweep, sweep_dir, results)
    write_result_file(options.json, results_file.as_json(sweep, results))
    results_file.show(sweep, results, console)
    if stop.is_set:
        _say(console, f"interrupted; continue by {resume_command(sweep_dir)}")
        return False
    results_file.check_any_score(sweep, results, sweep_dir)
    _say(console, f"best: {best_command(sweep_dir)}")
    return True


def resume_command(sweep_dir: Path) -> str:
    """Returns the command that continues a sweep, for a shell."""
    return f"{program()} tune --resume --run-dir {shlex.quote(str(sweep_dir))}"


def best_command(sweep_dir: Path) -> str:
    """Returns the command that trains with the best settings of a sweep, for a shell."""
    return f"{program()} --config {shlex.quote(str(sweep_dir / BEST_CONFIG_FILE))}"


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _new(options: TuneOptions, environ: Mapping[str, str]) -> tuple[Sweep, Path | None]:
    """Returns a sweep that begins, and its directory; None: one that is named after the time."""
    if options.config is None:
        raise ConfigError(
            "tune needs --config FILE, a sweep file (see configs/tune/), or --resume."
        )
    flags = {"cluster.address": options.address}
    sweep = load_sweep_file(options.config, environ, options.overrides, flags)
    # All trials, and all their parts, begin with one network.
    sweep = replace(sweep, base=with_named_initial(sweep.base))
    if options.run_dir is not None:
        refuse_job_directory(options.run_dir)
        return sweep, Path(options.run_dir)
    return sweep, None


def _new_sweep_dir() -> Path:
    try:
        return make_new_run_dir(prefix="tune-")
    except OSError as error:
        raise _unwritable(error.filename, error) from error


def _resumed(options: TuneOptions, environ: Mapping[str, str]) -> tuple[Sweep, Path]:
    """Returns the saved sweep; a sweep file that is also given must say the same."""
    found = Path(options.run_dir) if options.run_dir else newest_run_dir([SWEEP_FILE])
    if found is None:
        raise ConfigError(f"there is no sweep under {RUNS_DIR}/ to resume. Give --run-dir DIR.")
    path = found / SWEEP_FILE
    owner = foreign_owner([found, *found.glob("*")])
    if owner is not None and not options.is_trusted:
        raise RunDirError(
            f"{owner}, and a resume would unpickle Ray Tune's state in {found}, which can run any "
            "program. Expected a sweep of your own. Add --trust if you trust its owner."
        )
    try:
        sweep = Sweep.from_json(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except OSError as error:
        raise RunDirError(
            f"{found} has no sweep to resume: {SWEEP_FILE}: {error.strerror}. Give another "
            "--run-dir, or begin a sweep without --resume."
        ) from error
    if options.config is None and options.overrides:
        raise ConfigError(
            "--resume continues a sweep with its own settings; leave --set out, or begin a new one."
        )
    if options.config is not None:
        given = load_sweep_file(options.config, environ, options.overrides, {})
        if (given.file, given.base) != (sweep.file, sweep.base):
            raise ConfigError(
                f"{options.config} is not the sweep in {found} (see {path}), which can only be "
                "continued unchanged. Resume without --config and --set, or begin a new one in "
                "another --run-dir."
            )
    if not tune.Tuner.can_restore(str(found.resolve())):
        raise RunDirError(
            f"{found} has nothing to resume: the sweep was ended before its state was first saved. "
            "Begin it anew in another --run-dir."
        )
    return sweep, found


def _connection(base: Config, options: TuneOptions) -> Config:
    """Returns the configuration for the connection: a sweep may be resumed on another cluster."""
    if options.address is None or not options.is_resumed:
        return base
    values: dict[str, Any] = base.model_dump()
    values["cluster"] |= {
        "address": options.address,
        "num_cpus": None,
        "num_gpus": None,
        "object_store_bytes": None,
    }
    return Config.model_validate(values)


@contextmanager
def _prepared(
    sweep_dir: Path, sweep: Sweep, console: Console, *, is_resumed: bool
) -> Iterator[None]:
    """Makes and locks the sweep's directory before anything is started.

    Raises:
        RunDirError: the directory is not empty, cannot be written, or another process runs the
            sweep in it.
    """
    try:
        is_taken = not is_resumed and sweep_dir.exists() and any(sweep_dir.iterdir())
        sweep_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(sweep_dir, error) from error
    if is_taken:
        raise RunDirError(
            f"{sweep_dir} is not empty. Continue the sweep in it by --resume, or choose another "
            "--run-dir."
        )
    with run_lock(sweep_dir, say=lambda text: _say(console, text)):
        if not is_resumed:
            try:
                write_atomically(sweep_dir / SWEEP_FILE, sweep.to_json().encode())
            except OSError as error:
                raise _unwritable(sweep_dir, error) from error
        yield


def _unwritable(sweep_dir: Path | str, error: OSError) -> RunDirError:
    return RunDirError(
        f"{sweep_dir} cannot be written: {error.strerror or error}. Choose another --run-dir."
    )

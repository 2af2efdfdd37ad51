"""A sweep as Ray Tune runs it: searcher, scheduler, trials, and the state for a resume.

Tune keeps its state, pickled, in the sweep's directory beside the trials' run directories. A resume
unpickles it: resume only sweeps that you trust.
"""

import contextlib
import logging
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search.basic_variant import BasicVariantGenerator
from rich.console import Console

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import ClusterError, ConfigError, installing
from keisei_ray.tune.callback import SweepCallback
from keisei_ray.tune.results import TrialResult, results_of
from keisei_ray.tune.space import Dimension, check_space, dimensions, dotted_settings, trial_config
from keisei_ray.tune.sweep_file import Sweep
from keisei_ray.tune.trial import bundles, check_trial_fits, trainable
from keisei_ray.tune.trial_metrics import TIME, check_metric

NUM_CHECKPOINTS = 2
"""Number of a trial's checkpoints that Tune keeps."""
NUM_CHECKPOINTS_PBT = 10
"""Number of those that it keeps for PBT beyond the ones between two comparisons of a trial: another
trial needs some time to start from one of them."""
ENVIRONMENT = {
    # The run directories have all results; Tune would write them again, as CSV and JSON.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # No output by Tune: `SweepCallback` prints the lines.
    "RAY_AIR_NEW_OUTPUT": "0",
    # The command handles SIGINT and SIGTERM, see `SweepCallback`.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Relative paths in settings start from the directory in which the command was given.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Seconds between saves of the sweep's state.
    "TUNE_GLOBAL_CHECKPOINT_S": "5",
    # Tune saves its state whenever a trial has saved `num_to_keep` times. That is intended.
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def check_sweep(sweep: Sweep) -> list[Dimension]:
    """Validates everything that can be validated without Ray, before anything is started.

    Returns:
        The search space.

    Raises:
        UserError: one line about the space, the metric, the scheduler or a trial.
    """
    space = dimensions(sweep)
    file, source = sweep.file, sweep.source
    for config in check_space(sweep, space):
        check_metric(file.metric.name, config, source)
        check_trial_fits(config, file.trial.num_cpus)
        total = config.run.total_timesteps
        if file.scheduler.kind == "asha" and file.scheduler.grace_timesteps >= total:
            raise ConfigError(
                f"{source}: scheduler.grace_timesteps = {file.scheduler.grace_timesteps} is not "
                f"less than run.total_timesteps = {total}: no trial would be stopped."
            )
    if file.scheduler.kind == "pbt":
        _check_pbt(sweep, space)
    if file.search.method == "optuna":
        _import_optuna()
    return space


def _check_pbt(sweep: Sweep, space: Sequence[Dimension]) -> None:
    source, scheduler = sweep.source, sweep.file.scheduler
    if sweep.file.search.method != "random":
        raise ConfigError(
            f"{source}: scheduler.kind = pbt draws by itself, but search.method = "
            f"{sweep.file.search.method}. Use random."
        )
    if models := [d.key for d in space if d.key.startswith("model.")]:
        raise ConfigError(
            f"{source}: {models[0]} cannot be searched with scheduler.kind = pbt: trials go on "
            "from each other's weights, which are of one architecture. Use asha."
        )
    saved = sweep.base.checkpoint.interval_timesteps
    if saved > scheduler.interval_timesteps:
        raise ConfigError(
            f"{source}: checkpoint.interval_timesteps = {saved} exceeds "
            f"scheduler.interval_timesteps = {scheduler.interval_timesteps}: trials would go on "
            "from old weights. Use at most that, in `settings`."
        )
    if sweep.file.search.num_samples < 2:
        raise ConfigError(
            f"{source}: search.num_samples = {sweep.file.search.num_samples}, but scheduler.kind = "
            "pbt needs a population. Use at least 2."
        )


def _import_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"search.method = optuna, but optuna cannot be imported: {error}. Install it by "
            f"{installing('tune')}, or search by random."
        ) from error


def run_sweep(
    sweep: Sweep,
    sweep_dir: Path,
    cluster: Cluster,
    console: Console,
    *,
    should_stop: Callable[[], bool],
    is_resumed: bool,
) -> list[TrialResult]:
    """Runs a sweep to its end or until asked to stop. Blocks. Call it in the main thread.

    A trial that fails is tried again; one that fails too often does not end the others.

    Args:
        sweep: a sweep that `check_sweep` has accepted.
        sweep_dir: existing directory; for a resume with the state of the sweep.
        cluster: the cluster on which Ray is up.
        console: gets a line for each thing that happens to a trial.
        should_stop: True ends the sweep in such a way that it can be resumed.
        is_resumed: whether finished trials stay and the others go on from their newest
            checkpoints.

    Returns:
        All trials, best first.

    Raises:
        ClusterError: the cluster has too few CPUs or GPUs for a trial.
    """
    space = dimensions(sweep)
    asks = _check_cluster_has_room(sweep, cluster)
    metric = sweep.file.metric
    train = trainable(sweep.base, metric=metric.name, num_cpus=sweep.file.trial.num_cpus)
    callback = SweepCallback(
        metric.name,
        console,
        should_stop,
        sweep.base.run.total_timesteps,
        asks=None if cluster.is_started_here else asks,
    )
    # The schedulers draw from the global random generators.
    random.seed(sweep.file.search.seed)
    np.random.seed(sweep.file.search.seed)
    with _environment():
        if is_resumed:
            tuner = tune.Tuner.restore(
                str(sweep_dir.resolve()), train, resume_errored=True, param_space=_domains(space)
            )
            # The callback that Tune saved has neither console nor stop request.
            assert tuner._local_tuner is not None
            tuner._local_tuner.get_run_config().callbacks = [callback]
        else:
            tuner = _new_tuner(sweep, sweep_dir, train, space, callback)
        tuner.fit()
    return results_of(sweep, callback.trials, callback.unfinished)


def _new_tuner(
    sweep: Sweep,
    sweep_dir: Path,
    train: Callable[..., None],
    space: list[Dimension],
    callback: SweepCallback,
) -> Any:
    file = sweep.file
    return tune.Tuner(
        train,
        param_space=_domains(space),
        tune_config=tune.TuneConfig(
            metric=file.metric.name,
            mode=file.metric.mode,
            num_samples=file.search.num_samples,
            search_alg=_searcher(sweep),
            scheduler=_scheduler(sweep, space),
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=sweep_dir.resolve().name,
            storage_path=str(sweep_dir.resolve().parent),
            callbacks=[callback],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=file.trial.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=num_checkpoints(sweep)),
        ),
    )


def num_checkpoints(sweep: Sweep) -> int:
    """Returns how many of a trial's checkpoints Tune keeps.

    PBT copies the one of a trial's last comparison, at any time until its next one.
    """
    scheduler = sweep.file.scheduler
    if scheduler.kind != "pbt":
        return NUM_CHECKPOINTS
    every = sweep.base.checkpoint.interval_timesteps
    return NUM_CHECKPOINTS_PBT + math.ceil(scheduler.interval_timesteps / every)


def _domains(space: Sequence[Dimension]) -> dict[str, Any]:
    return {d.key: d.domain() for d in space}


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)


def _searcher(sweep: Sweep) -> Any:
    search = sweep.file.search
    if search.method != "optuna":
        return BasicVariantGenerator(
            random_state=search.seed, max_concurrent=search.max_concurrent or 0
        )
    import optuna
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searcher = OptunaSearch(seed=search.seed)
    if search.max_concurrent is None:
        return searcher
    return ConcurrencyLimiter(searcher, search.max_concurrent)


def _scheduler(sweep: Sweep, space: Sequence[Dimension]) -> TrialScheduler:
    s = sweep.file.scheduler
    if s.kind == "asha":
        return AsyncHyperBandScheduler(
            time_attr=TIME,
            max_t=sweep.base.run.total_timesteps,
            grace_period=s.grace_timesteps,
            reduction_factor=s.reduction_factor,
            # A trial at its end must end by itself, after it has saved its last checkpoint.
            stop_last_trials=False,
        )
    if s.kind == "pbt":
        return PopulationBasedTraining(
            time_attr=TIME,
            perturbation_interval=s.interval_timesteps,
            quantile_fraction=s.quantile,
            resample_probability=s.resample_probability,
            hyperparam_mutations={d.key: d.mutation() for d in space},
            custom_explore_fn=_clamped({d.key: d for d in space}),
        )
    return FIFOScheduler()


def _clamped(space: dict[str, Dimension]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def clamp(chosen: dict[str, Any]) -> dict[str, Any]:
        return {key: space[key].clamp(value) for key, value in chosen.items()}

    return clamp


def _check_cluster_has_room(sweep: Sweep, cluster: Cluster) -> str:
    """Raises ClusterError if the cluster is too small for a trial: Tune would wait forever.

    Returns:
        A clause with what a trial asks for.
    """
    base = dotted_settings(sweep.base)
    first = {d.key: d.extremes()[0] for d in dimensions(sweep)}
    has_gpu = cluster.num_gpus > 0
    needed = bundles(trial_config(base, first), sweep.file.trial.num_cpus, has_gpu=has_gpu)
    offered = ray.cluster_resources()
    learner = sweep.base.learner
    settings = {
        "CPU": f"trial.num_cpus = {sweep.file.trial.num_cpus:g}",
        "GPU": f"learner.device = {learner.device}, learner.num_learners = {learner.num_learners}",
    }
    totals = {name: sum(bundle.get(name, 0.0) for bundle in needed) for name in settings}
    for name, total in totals.items():
        there = offered.get(name, 0.0)
        if total > there + 1e-6:
            less = f"trial.num_cpus of at most {there:g}" if name == "CPU" else "learner.device=cpu"
            raise ClusterError(
                f"{sweep.source}: a trial needs {total:g} {name}s ({settings[name]}), the cluster "
                f"has {there:g}. Use {less}, or join a larger cluster."
            )
    return "a trial asks for " + " and ".join(f"{n:g} {name}s" for name, n in totals.items() if n)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Sets the environment variables of Tune that the user has not set, and removes them again."""
    # Tune warns about its missing CSV files, once for each trial.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            # It proposes to reuse actors; a trial starts in seconds, so that would gain little.
            warnings.filterwarnings("ignore", "Consider boosting PBT performance", UserWarning)
            yield
    finally:
        for name in added:
            del os.environ[name]

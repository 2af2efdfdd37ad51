"""One training run as a person starts it: directory, logging, cluster, driver, last words.

Puts the pieces together and takes them apart again on every way out; decides nothing that the
driver or the configuration should.
"""

import contextlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from pydantic import ValidationError
from rich.console import Console

from keisei_ray.config.autosize import actor_cpus, run_sizes
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.distributed.cluster import Cluster, connect
from keisei_ray.distributed.cluster_watch import cluster_changed, fit_to_cluster
from keisei_ray.errors import CheckpointError, RunDirError, UserError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.remote.remote_resume import use_local_copy
from keisei_ray.storage.run_dirs import holds_run, new_run_dir, refuse_job_directory, runs_dir
from keisei_ray.storage.run_dirs import newest_run_dir as newest_of
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, CONFIG_FILE, PROGRESS_FILE, WRITABLE_FILE
from keisei_ray.storage.superseded import set_newer_aside
from keisei_ray.telemetry.events import EventBus, Notice, RunEnded, RunStarted, Subscriber
from keisei_ray.tracking import logs
from keisei_ray.tracking.background_upload import uploading
from keisei_ray.tracking.profile_files import ProfileFiles
from keisei_ray.tracking.ray_metrics import RayMetrics
from keisei_ray.tracking.subscribers import build_subscribers, check_trackers
from keisei_ray.training.driver import Driver


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    reason: str
    """Either "done" or "interrupted"."""
    timestep: int
    run_dir: Path
    checkpoint: Path | None


class StopRequest:
    """The first signal asks the run to stop and save; the second stops it where it is.

    Neither logs nor prints: a signal can come in the middle of a write.
    """

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True


def train(
    config: Config,
    console: Console,
    *,
    cluster: Cluster | None = None,
    subscribers: Sequence[Subscriber] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Trains until `run.total_timesteps` or an interrupt, and saves.

    Args:
        config: as the person gave it; what is left to the hardware is decided here.
        console: where the view draws.
        cluster: what this process, connected to Ray already, may use of it. None: connect to Ray
            for the length of the run.
        subscribers: further subscribers, told after the others.
        should_stop: asked by the driver between any two things it does, in this thread; True
            ends the run after saving.

    Raises:
        UserError: a setting, directory, checkpoint or cluster that cannot be used; nothing has
            been overwritten.
        KeiseiError: a failure during training; what was learnt has been saved.
    """
    check_trackers(config.tracking)
    taken: list[str] = []
    skipped: list[str] = []
    config, remote = use_local_copy(config, taken.append, skipped.append)
    resume = find_resume(config, skipped)
    run_dir = choose_run_dir(config, resume)
    stop = StopRequest()
    bus = EventBus()
    with (
        prepared_run_dir(run_dir, resume),
        logs.configure(
            run_dir,
            config.tracking.log_level,
            console,
            is_showing_events=config.tracking.view == "none",
        ),
        contextlib.nullcontext(cluster) if cluster else connect(config, run_dir=run_dir) as joined,
        _signals(stop),  # After Ray, which sets handlers of its own.
        uploading(remote, bus, config.checkpoint, resume.timestep if resume else None, console),
    ):
        config, cluster = fit_to_cluster(
            config,
            joined,
            say=partial(console.print, soft_wrap=True, highlight=False, markup=False),
            should_stop=lambda: stop.is_set,
        )
        config = config.model_copy(
            update={"run": config.run.model_copy(update={"run_dir": str(remote or run_dir)})}
        )
        driver = Driver(
            config,
            cluster,
            bus,
            run_dir,
            resume=resume,
            should_stop=lambda: stop.is_set or should_stop(),
        )
        try:
            for subscriber in (
                *configured_subscribers(config, run_dir, bus, resume, console),
                *subscribers,
            ):
                bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
            _write(run_dir / CONFIG_FILE, config.model_dump_json(indent=2))
            bus.publish(
                RunStarted(
                    config=config,
                    run_dir=str(run_dir),
                    resumed_from=str(resume.path) if resume else None,
                    cluster=cluster.describe(),
                    timestep=driver.progress.timestep,
                )
            )
            if cluster.other is not None:
                bus.publish(
                    Notice(
                        f"a Ray cluster runs here at {cluster.other}; this run has started its "
                        f"own. To use that one: --address {cluster.other}"
                    )
                )
            for message in taken:
                bus.publish(Notice(message))
            for message in skipped:
                bus.publish(Notice(message, "WARNING"))
            if resume is not None:
                set_newer_aside(
                    run_dir / CHECKPOINTS_DIR,
                    resume.timestep,
                    on_renamed=lambda name, new_name: bus.publish(
                        Notice(f"checkpoint {name} is now {new_name}: the run goes on before it")
                    ),
                )
            _say_who_plays(config, cluster, bus)
            with _announced_end(driver, bus, stop):
                driver.run()
        finally:
            bus.close(config.tracking.close_timeout_s)
    return Outcome(
        "interrupted" if stop.is_set else "done",
        driver.progress.timestep,
        run_dir,
        driver.last_checkpoint,
    )


def configured_subscribers(
    config: Config, run_dir: Path, bus: EventBus, resume: Checkpoint | None, console: Console
) -> tuple[Subscriber, ...]:
    """Everybody who is told of the run's events; see `build_subscribers` for errors.

    Ray's metrics and the profile stand apart from the others: they need a running Ray.
    """
    resumed_timestep = resume.timestep if resume else None
    built = build_subscribers(
        config, run_dir, bus, resumed_timestep=resumed_timestep, console=console
    )
    if config.profile.updates:
        profile = ProfileFiles(run_dir)
        built = (*built, Subscriber("profile", profile.handle, profile.close))
    if not config.tracking.ray_metrics:
        return built
    exported = RayMetrics(run_dir.resolve().name)
    return (*built, Subscriber("ray metrics", exported.handle, exported.close))


def find_resume(config: Config, skipped: list[str]) -> Checkpoint | None:
    """The checkpoint that `run.resume` names, verified, or None for a fresh run.

    Args:
        config: names it, and the model it must be of.
        skipped: gets a sentence for each newer checkpoint that `latest` passed over.

    Raises:
        CheckpointError: there is none, it is damaged, or of another architecture.
    """
    wanted = config.run.resume
    if wanted is None:
        return None
    if wanted == "latest":
        run_dir = Path(config.run.run_dir) if config.run.run_dir else newest_run_dir()
        found = checkpoint.find_latest(
            run_dir / CHECKPOINTS_DIR,
            on_skip=lambda path, cause: skipped.append(f"checkpoint {path} skipped: {cause}"),
        )
        if found is None:
            raise CheckpointError(
                f"--resume latest: {run_dir / CHECKPOINTS_DIR} has no intact checkpoint "
                f"({len(skipped)} damaged). Give the run's directory with --run-dir, or start a "
                "fresh run without --resume."
            )
    else:
        found = checkpoint.load(Path(wanted))
    for name in (PROGRESS_FILE, CONFIG_FILE):
        if name not in found.files:
            raise CheckpointError(f"{found.path} has no {name}: not a training checkpoint.")
    try:
        saved = ModelConfig.model_validate_json(str(found.info.get("model")))
    except ValidationError as error:
        raise CheckpointError(
            f"{found.path}: its manifest does not say which model it is of: "
            f"{error.errors()[0]['msg']}. Resume from another checkpoint."
        ) from error
    if saved != config.model:
        keys = [k for k, v in saved.model_dump().items() if v != getattr(config.model, k)]
        now = ", ".join(f"model.{k} = {getattr(config.model, k)}" for k in keys)
        then = ", ".join(f"{getattr(saved, k)}" for k in keys)
        raise CheckpointError(
            f"{found.path} is of another architecture: {now}, the checkpoint has {then}. "
            "Resume with the model it was trained with, or start a fresh run."
        )
    return found


def newest_run_dir() -> Path:
    """The run under `runs_dir()` that was started last.

    Raises:
        CheckpointError: there is no run.
    """
    newest = newest_of([CONFIG_FILE])
    if newest is None:
        raise CheckpointError(
            f"there is no run under {runs_dir()}/ to resume. Give its directory with --run-dir."
        )
    return newest


def choose_run_dir(config: Config, resume: Checkpoint | None) -> Path:
    """`run.run_dir`; else the resumed checkpoint's run; else a new one named after the time.

    Raises:
        RunDirError: it lies where Ray may delete it.
    """
    if config.run.run_dir:
        refuse_job_directory(config.run.run_dir)
        return Path(config.run.run_dir)
    if resume is not None and resume.path.parent.name == CHECKPOINTS_DIR:
        return resume.path.parent.parent
    return new_run_dir()


@contextlib.contextmanager
def prepared_run_dir(run_dir: Path, resume: Checkpoint | None) -> Iterator[None]:
    """Makes the directory, or refuses it before anything is started.

    If the run is refused later on, before it began, a directory made here is removed again.

    Raises:
        RunDirError: it holds a run that is not being resumed, or cannot be written.
    """
    is_resumed = resume is not None and resume.path.resolve().is_relative_to(run_dir.resolve())
    if not is_resumed and holds_run(run_dir):
        raise RunDirError(
            f"{run_dir} already holds a run. Go on with it by --resume latest, or choose another "
            "--run-dir."
        )
    is_new = not run_dir.exists()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / WRITABLE_FILE
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise RunDirError(
            f"{run_dir} cannot be written: {error.strerror or error}. Choose another --run-dir."
        ) from error
    try:
        yield
    except (UserError, KeyboardInterrupt):
        if is_new and not (run_dir / CONFIG_FILE).exists():
            shutil.rmtree(run_dir, ignore_errors=True)
        raise


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise RunDirError(f"{path} cannot be written: {error.strerror or error}.") from error


def _say_who_plays(config: Config, cluster: Cluster, bus: EventBus) -> None:
    """How many actors there are where that is left to the cluster, or if only some play at once."""
    sizes = run_sizes(config, cluster.num_cpus, actor_cpus(config, cluster.num_cpus))
    if config.self_play.num_actors == "auto":
        bus.publish(cluster_changed(cluster, sizes))
    elif sizes.num_actors > sizes.max_unconsumed:
        bus.publish(
            Notice(
                f"{sizes.max_unconsumed} of {sizes.num_actors} actors play at a time, in turns "
                f"(rollouts_per_update {sizes.rollouts_per_update} x (max_policy_lag "
                f"{config.effective_max_lag} + 1))"
            )
        )


@contextlib.contextmanager
def _announced_end(driver: Driver, bus: EventBus, stop: StopRequest) -> Iterator[None]:
    """Publishes how the run ended, whatever way it took."""
    reason, cause = "failed", None
    try:
        yield
        reason = "interrupted" if stop.is_set else "done"
    except KeyboardInterrupt:
        reason = "interrupted"
        raise
    except BaseException as error:
        cause = f"{type(error).__name__}: {error}"
        raise
    finally:
        path = driver.last_checkpoint
        bus.publish(
            RunEnded(
                reason=reason,  # type: ignore[arg-type]
                timestep=driver.progress.timestep,
                checkpoint=str(path) if path else None,
                wall_time_s=driver.progress.wall_time_s,
                cause=cause,
            )
        )


@contextlib.contextmanager
def _signals(stop: StopRequest) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a stop; the former handlers come back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows handlers in the main thread only; a caller's thread has its own way.
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

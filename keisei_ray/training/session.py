"""One training run as a user starts it: directory, log, cluster, driver, and how it ended.

Puts the parts together and takes them apart again however the run ends. Decides nothing that the
driver or the configuration should decide.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from keisei_ray.config.autosize import (
    actor_cpus,
    choose_schedule,
    choose_self_play_device,
    run_sizes,
)
from keisei_ray.config.batch_sizes import tuned
from keisei_ray.config.processor import has_bf16
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, connect
from keisei_ray.distributed.cluster_fit import check_fits, fit_to_cluster
from keisei_ray.distributed.cluster_room import RoomNotice
from keisei_ray.distributed.cluster_watch import cluster_changed
from keisei_ray.distributed.gpu_sharing import describe_missing_mps
from keisei_ray.distributed.node_rates import rates_here
from keisei_ray.distributed.ray_connection import RayConnection
from keisei_ray.distributed.spilling import telling_of_spilling
from keisei_ray.errors import RefusedStateError, RunDirError, TakenOverError
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.counted_records import missing_records
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, CONFIG_FILE
from keisei_ray.storage.run_lock import RunLock
from keisei_ray.storage.superseded import set_newer_aside
from keisei_ray.telemetry.events import EventBus, Notice, RunEnded, RunStarted, Subscriber
from keisei_ray.tracking import logs
from keisei_ray.tracking.background_upload import BackgroundUpload, uploading
from keisei_ray.tracking.late_notice import publish_or_log
from keisei_ray.tracking.profile_files import ProfileFiles
from keisei_ray.tracking.ray_metrics import RayMetrics
from keisei_ray.tracking.run_file_queue import AT_ONCE, RunFileQueue, Writing, run_file_queue
from keisei_ray.tracking.subscribers import EVENTS_WAITING, build_subscribers, check_trackers
from keisei_ray.training.driver import Driver
from keisei_ray.training.driver_thread import run_driver
from keisei_ray.training.resumed_settings import notices
from keisei_ray.training.run_start import RunStart, claimed_start
from keisei_ray.training.standby import Standby
from keisei_ray.training.stop_request import StopRequest, stopping_on_signals

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    reason: str
    """Either "done" or "interrupted"."""
    timestep: int
    run_dir: Path
    checkpoint: Path | None
    """The newest checkpoint; None if there is none."""
    signum: int | None = None
    """Signal that interrupted it; None if none did."""


def train(
    config: Config,
    console: Console,
    *,
    force: bool = False,
    lock: RunLock | None = None,
    cluster: Cluster | None = None,
    subscribers: Sequence[Subscriber] = (),
    should_stop: Callable[[], bool] = lambda: False,
    waits_for_saving: bool = False,
    is_trusted: bool = False,
) -> Outcome:
    """Trains until `run.total_timesteps` or an interrupt, and saves.

    Args:
        config: settings as given; what is left to the hardware is decided here.
        console: where the view draws.
        force: whether to take the run over from a process that holds it on another machine and
            gives no sign of life. A process that is alive is never taken over from.
        lock: the lock on the run's directory, if the caller holds it.
        cluster: what this process, connected to Ray already, may use of it. None: connect to Ray
            for the length of the run.
        subscribers: further subscribers, which get each event after the others.
        should_stop: called by the driver between any two things it does, in the driver's thread;
            True ends the run after saving.
        waits_for_saving: whether training waits until each checkpoint is on the disk.
        is_trusted: whether a resume may run the programs that the settings of another user's run
            name, see `training/trust.py`.

    Raises:
        UserError: a setting, directory, checkpoint or cluster that cannot be used, or another
            process trains there; nothing has been overwritten.
        TakenOverError: another process has taken the run over; nothing has been saved since.
        KeiseiError: a failure during training; what was learnt has been saved.
    """
    check_trackers(config.tracking)
    refused: dict[int, str] = {}
    while True:
        try:
            return _train(
                config, console, force, lock, cluster, subscribers, should_stop, is_trusted,
                waits_for_saving, refused,
            )  # fmt: skip
        except RefusedStateError as error:
            if config.run.resume != "latest" or error.timestep in refused:
                raise
            refused[error.timestep] = str(error)


def _train(
    config: Config,
    console: Console,
    force: bool,
    lock: RunLock | None,
    cluster: Cluster | None,
    subscribers: Sequence[Subscriber],
    should_stop: Callable[[], bool],
    is_trusted: bool,
    waits_for_saving: bool,
    refused: Mapping[int, str],
) -> Outcome:
    """Trains from the checkpoint that is named, or from the newest that has not been `refused`."""
    stop = StopRequest()
    bus = EventBus()
    with (
        claimed_start(
            config,
            force=force,
            is_trusted=is_trusted,
            lock=lock,
            refused=refused,
            say=_printed_by(console),
        ) as start,
        run_file_queue(bus.publish) as files,
        logs.configure(
            start.run_dir,
            config.tracking.log_level,
            console,
            is_showing_events=config.tracking.view == "none",
            files=files,
        ),
        _standing_by(start, bus, files, is_wanted=cluster is None) as standby,
        _connected(start, cluster) as found,
        stopping_on_signals(stop),  # After Ray, which sets handlers of its own.
        uploading(start.remote, bus, config.checkpoint, start.resumed_timestep, console) as upload,
    ):
        resolved, cluster = _resolve(start, found, console, stop)
        resolved, tuning = _tune_batch(start, resolved, cluster, console)
        driver = Driver(
            resolved,
            cluster,
            bus,
            start.run_dir,
            resume=start.resume,
            initial=start.initial,
            should_stop=lambda: (
                _is_asked_to_stop(start.lock, found.connection, files, stop) or should_stop()
            ),
            check_place=start.lock.check_place,
            waits_for_saving=waits_for_saving,
            standby=standby,
            room=_room_notice(cluster, bus),
        )
        try:
            own, set_aside = _own_subscribers(start, resolved, bus, console, files, upload)
            for subscriber in (*own, *subscribers):
                bus.add(subscriber)
            _begin(driver, start, cluster, (*tuning, *set_aside))
            with (
                _announced_end(driver, stop, files, start.run_dir),
                start.lock.explaining_errors(),
                found.connection.explaining_errors(),
                telling_of_spilling(
                    lambda text: publish_or_log(bus.publish, Notice(text, "WARNING"), logger)
                ),
            ):
                run_driver(driver, found.connection, stop)
        finally:
            bus.close(config.tracking.close_timeout_s)
    return Outcome(
        "interrupted" if stop.is_set else "done",
        driver.progress.timestep,
        driver.saver.run_dir,
        driver.saver.last_checkpoint,
        stop.signum,
    )


def configured_subscribers(
    config: Config,
    run_dir: Path,
    bus: EventBus,
    resume: Checkpoint | None,
    console: Console,
    files: Writing = AT_ONCE,
    before_cut: Callable[[], object] = lambda: None,
) -> tuple[Subscriber, ...]:
    """Makes the subscribers that the settings ask for.

    Those of `build_subscribers`, which see for arguments and errors, and two that need a running
    Ray: Ray's metrics and the profile.
    """
    resumed_timestep = resume.timestep if resume else None
    built = build_subscribers(
        config,
        run_dir,
        bus,
        resumed_timestep=resumed_timestep,
        console=console,
        files=files,
        before_cut=before_cut,
    )
    if config.profile.updates:
        profile = ProfileFiles(run_dir)
        built = (
            *built,
            Subscriber("profile", profile.handle, profile.close, num_waiting=EVENTS_WAITING),
        )
    if not config.tracking.ray_metrics:
        return built
    exported = RayMetrics(run_dir.resolve().name)
    return (*built, Subscriber("ray metrics", exported.handle, exported.close))


def _own_subscribers(
    start: RunStart,
    config: Config,
    bus: EventBus,
    console: Console,
    files: RunFileQueue,
    upload: BackgroundUpload | None,
) -> tuple[tuple[Subscriber, ...], list[Notice]]:
    """Makes the run's own subscribers; sets newer checkpoints aside before records are cut.

    So a start that ends in between leaves no newest checkpoint whose records are gone. Where there
    is a subscriber that cannot be made, no checkpoint is set aside.

    Args:
        start: where the run starts.
        config: the effective settings.
        bus: the run's.
        console: where the view draws.
        files: has the run's records written.
        upload: of the run to its URI, where newer checkpoints are set aside too; None: it has none.

    Returns:
        The subscribers, and a notice for each checkpoint that was set aside.
    """
    told: list[Notice] = []

    def tell(name: str, new_name: str) -> None:
        told.append(Notice(f"checkpoint {name} is now {new_name}: the run goes on before it"))

    def set_aside() -> None:
        if upload is not None:  # First: if the URI does not answer, nothing changes here.
            upload.set_newer_aside(config.checkpoint.upload_timeout_s)
        if start.resume is not None:
            set_newer_aside(start.run_dir / CHECKPOINTS_DIR, start.resume.timestep, tell)

    try:
        own = configured_subscribers(
            config, start.run_dir, bus, start.resume, console, files, set_aside
        )
    except RunDirError:
        for notice in told:  # There is no subscriber that could be told.
            logger.warning("%s", notice.message)
        raise
    return own, told


def _printed_by(console: Console) -> Callable[[str], object]:
    return partial(console.print, soft_wrap=True, highlight=False, markup=False)


def _is_asked_to_stop(
    lock: RunLock, connection: RayConnection, files: RunFileQueue, stop: StopRequest
) -> bool:
    """Returns whether the user has asked.

    Raises:
        TakenOverError: another process writes to the run now.
        RunDirLostError: the run's directory was moved or deleted.
        ClusterError: Ray is gone.
        RunDirError: too many records wait for room on the disk.
        KeyboardInterrupt: the user has asked for the second time.
    """
    if stop.is_final:
        raise KeyboardInterrupt
    lock.check()
    connection.check()
    files.check()
    return stop.is_set


def _connected(
    start: RunStart, cluster: Cluster | None
) -> contextlib.AbstractContextManager[Cluster]:
    if cluster is not None:
        return contextlib.nullcontext(cluster)
    return connect(start.config, run_dir=start.run_dir)


@contextlib.contextmanager
def _standing_by(
    start: RunStart, bus: EventBus, files: RunFileQueue, *, is_wanted: bool
) -> Iterator[Standby | None]:
    """Provides what saves the run in the block if this process is killed; None if nothing does.

    Args:
        start: the run.
        bus: its bus.
        files: its records.
        is_wanted: whether this process is the run's own: a trial of a sweep goes on elsewhere.
    """
    if not (is_wanted and start.config.checkpoint.standby and os.name == "posix"):
        yield None
        return
    standby = Standby(
        start.run_dir,
        start.config.checkpoint,
        start.lock,
        name=str(start.remote or start.run_dir),
        resumed_timestep=start.resumed_timestep or 0,
        flush=files.flush,
        say=lambda text: publish_or_log(bus.publish, Notice(text, "WARNING"), logger),
    )
    try:
        yield standby
    finally:
        standby.close()


def _room_notice(cluster: Cluster, bus: EventBus) -> RoomNotice | None:
    """Makes what says that the run waits for room; None on a cluster of its own."""
    if not cluster.may_grow:
        return None
    return RoomNotice(lambda text: bus.publish(Notice(text)), clock=time.monotonic)


def _resolve(
    start: RunStart, cluster: Cluster, console: Console, stop: StopRequest
) -> tuple[Config, Cluster]:
    """Decides what is left to the hardware; waits for the cluster to grow if it is too small.

    Returns:
        The effective settings and the cluster as it is now.
    """
    resolved, cluster = fit_to_cluster(
        start.config,
        cluster,
        say=_printed_by(console),
        should_stop=lambda: stop.is_set,
    )
    run_dir = str(start.remote or start.run_dir)
    run = resolved.run.model_copy(update={"run_dir": run_dir})
    return resolved.model_copy(update={"run": run}), cluster


def _tune_batch(
    start: RunStart, config: Config, cluster: Cluster, console: Console
) -> tuple[Config, Sequence[Notice]]:
    """Chooses the sizes of batches by a measurement, if the settings of a fresh run say so.

    A resumed run keeps those that it has: its games are in play.

    Returns:
        The effective settings, and what is to be said.
    """
    if not config.schedule.tune_batch or start.resume is not None:
        return config, ()
    _printed_by(console)("measuring how fast batches of several sizes are (schedule.tune_batch)")
    config, told = tuned(config, rates_here(config))
    check_fits(config, cluster)
    return config, (Notice(told),)


def _begin(driver: Driver, start: RunStart, cluster: Cluster, made: Sequence[Notice]) -> None:
    """Writes the effective settings and publishes the first events.

    Args:
        driver: has not run yet.
        start: where the run starts.
        cluster: what it runs on.
        made: what there is to say about the start besides `start.notices`.
    """
    config, bus = driver.config, driver.bus
    _write(start.run_dir / CONFIG_FILE, config.model_dump_json(indent=2))
    bus.publish(
        RunStarted(
            config=config,
            run_dir=str(start.run_dir),
            resumed_from=str(start.resume.path) if start.resume else None,
            cluster=cluster.describe(),
            timestep=driver.progress.timestep,
        )
    )
    if cluster.other_address is not None:
        bus.publish(
            Notice(
                f"a Ray cluster runs here at {cluster.other_address}; this run has started "
                f"its own. To use that one: --address {cluster.other_address}"
            )
        )
    for notice in (*start.notices, *made):
        bus.publish(notice)
    if start.resume is not None:
        for notice in notices(start.resume, start.former_config, config):
            bus.publish(notice)
        if start.resume.path.resolve().is_relative_to(start.run_dir.resolve()):
            done = driver.progress
            for missing in missing_records(start.run_dir, done.timestep, done.games_total):
                bus.publish(Notice(missing, "WARNING"))
    _publish_sizes(start.config, config, cluster, bus)
    _warn_of_slow_precision(config, cluster, bus)
    _tell_of_missing_mps(config, cluster, bus)


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise RunDirError(f"{path} cannot be written: {error.strerror or error}.") from error


def _publish_sizes(given: Config, config: Config, cluster: Cluster, bus: EventBus) -> None:
    """Publishes the number of actors if not all that were asked for play, or the cluster decides.

    Args:
        given: settings before the choices that are left to the hardware.
        config: the effective settings.
    """
    if given.schedule.mode == "auto":
        choice = choose_schedule(
            given, cluster.num_cpus, cluster.num_gpus, may_grow=cluster.may_grow
        )
        bus.publish(Notice(f"schedule: {choice.mode}, because {choice.reason}"))
    if given.self_play.device == "auto" and cluster.num_gpus > 0:
        device = choose_self_play_device(given, cluster.num_gpus)
        bus.publish(Notice(f"self-play: {device.device}, because {device.reason}"))
    sizes = run_sizes(
        config,
        cluster.num_cpus,
        actor_cpus(config, cluster.num_cpus),
        num_gpus=cluster.num_gpus,
    )
    if config.self_play.num_actors == "auto":
        bus.publish(cluster_changed(cluster, sizes))
    elif sizes.num_actors < config.self_play.num_actors:
        bus.publish(
            Notice(
                f"{sizes.num_actors} of {config.self_play.num_actors} actors are started "
                f"(schedule.max_actors {config.schedule.max_actors})"
            )
        )
    elif sizes.num_actors > sizes.max_unconsumed:
        bus.publish(
            Notice(
                f"{sizes.max_unconsumed} of {sizes.num_actors} actors play at a time, in turns "
                f"(rollouts_per_update {sizes.rollouts_per_update} x (max_policy_lag "
                f"{config.effective_max_lag} + 1))"
            )
        )


def _warn_of_slow_precision(config: Config, cluster: Cluster, bus: EventBus) -> None:
    """Publishes a warning if this machine's processor has to imitate the run's precision."""
    keys = [
        f"{section}.amp"
        for section, is_on_cpus in (
            ("self_play", config.self_play.device != "cuda"),
            ("learner", config.learner.device == "cpu"),
        )
        if is_on_cpus and getattr(config, section).amp == "bf16"
    ]
    if keys and cluster.is_started_here and not has_bf16():
        settings = " ".join(f"--set {key}=off" for key in keys)
        bus.publish(
            Notice(
                f"{' and '.join(keys)} = bf16, and this processor has no instructions for it: "
                f"several times slower than float32. To change that: {settings}",
                "WARNING",
            )
        )


def _tell_of_missing_mps(config: Config, cluster: Cluster, bus: EventBus) -> None:
    """Publishes that MPS would make the run faster, where Ray's processes have this environment."""
    if cluster.is_started_here and (told := describe_missing_mps(config, os.environ)):
        bus.publish(Notice(told))


@contextlib.contextmanager
def _announced_end(
    driver: Driver, stop: StopRequest, files: RunFileQueue, run_dir: Path
) -> Iterator[None]:
    """Publishes how the run in the block ended, also if it failed, once its records are written.

    A run that another process has taken over has not ended, and its records are that process's.
    """
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
        path, place = driver.saver.last_checkpoint, driver.saver.run_dir
        if isinstance(sys.exception(), TakenOverError):
            files.give_up()
        else:
            try:
                files.finish(driver.config.tracking.close_timeout_s)
            finally:
                driver.bus.publish(
                    RunEnded(
                        reason=reason,  # type: ignore[arg-type]
                        timestep=driver.progress.timestep,
                        checkpoint=str(path) if path else None,
                        wall_time_s=driver.progress.wall_time_s,
                        cause=cause,
                        run_dir=str(place) if place != run_dir else None,
                    )
                )

"""Builds the subscribers that a configuration asks for: records, views, trackers, users' own."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import TrackingConfig
from keisei_ray.config.subscriber_entries import name_and_settings
from keisei_ray.errors import ConfigError, installing
from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
    TENSORBOARD_DIR,
)
from keisei_ray.telemetry.events import EventBus, Subscriber
from keisei_ray.tracking import recorders
from keisei_ray.tracking.collapse_alarm import CollapseAlarm
from keisei_ray.tracking.divergence_alarm import DivergenceAlarm
from keisei_ray.tracking.evaluation_recorder import EvaluationRecorder
from keisei_ray.tracking.logs import log_event
from keisei_ray.tracking.plugins import load_subscriber
from keisei_ray.tracking.run_file_queue import AT_ONCE, Writing
from keisei_ray.tracking.terminal.lines import LinesView
from keisei_ray.tracking.terminal.live import LiveView
from keisei_ray.tracking.wandb.client import RealClient, load_wandb
from keisei_ray.tracking.wandb.tracker import WandbTracker

if TYPE_CHECKING:
    from keisei_ray.tracking.tensorboard import TensorBoardWriter

EVENTS_WAITING: Final = 10_000
"""Events that may wait for a subscriber that can block: minutes of a run. They are shared by all
subscribers."""
WANDB_CLOSE_FRACTION: Final = 0.8
"""Fraction of `tracking.close_timeout_s` that W&B gets to close. The rest is left for the report on
what is missing there."""

ViewName = Literal["rich", "lines", "none"]


def choose_view(view: Literal["auto", "rich", "lines", "none"], console: Console) -> ViewName:
    """Decides what `tracking.view = auto` means: rich on a terminal that can move its cursor."""
    if view != "auto":
        return view
    return "rich" if console.is_terminal and not console.is_dumb_terminal else "lines"


def check_trackers(tracking: TrackingConfig) -> None:
    """Refuses a tracker that could not work, before anything is started.

    Raises:
        TrackerError: the tracker is not installed, or not logged in.
    """
    if tracking.wandb != "off":
        load_wandb(tracking)


def build_subscribers(
    config: Config,
    run_dir: Path,
    bus: EventBus,
    *,
    resumed_timestep: int | None,
    console: Console,
    files: Writing = AT_ONCE,
    before_cut: Callable[[], object] = lambda: None,
) -> tuple[Subscriber, ...]:
    """Builds the subscribers of a run. They are to be put on the bus in this order.

    Args:
        config: effective configuration.
        run_dir: existing directory of the run.
        bus: the bus they will be on, for those that publish in turn.
        resumed_timestep: the resumed checkpoint's timestep; None for a fresh run.
        console: where the view draws; the console that was given to `logs.configure`.
        files: has the run's records written.
        before_cut: called when nothing is left to be refused, before the records of a resumed run
            are cut. What it raises is raised.

    Raises:
        ConfigError: a user's subscriber (`tracking.subscribers`) or TensorBoard cannot be loaded.
        RunDirError: a file cannot be written, or belongs to another run.
        TrackerError: a tracker is not installed, or not logged in.
    """
    # What can be refused comes first: a resumed run's files must not have been touched by then.
    tensorboard_writer = _tensorboard_writer_class() if config.tracking.tensorboard else None
    users_own = [
        (name_and_settings(entry)[0], load_subscriber(entry))
        for entry in config.tracking.subscribers
    ]

    before_cut()
    built = [Subscriber("log", log_event), *_recorders(run_dir, bus, resumed_timestep, files)]
    if tensorboard_writer is not None:
        writer = tensorboard_writer(run_dir, resumed_timestep, time.time)
        built.append(
            Subscriber(TENSORBOARD_DIR, writer.handle, writer.close, num_waiting=EVENTS_WAITING)
        )
    view = choose_view(config.tracking.view, console)
    if view != "none":
        shown = (LiveView if view == "rich" else LinesView)(console, time.monotonic)
        built.append(Subscriber("view", shown.handle, shown.close))
    built += [
        Subscriber(name, call, getattr(call, "close", None), num_waiting=EVENTS_WAITING)
        for name, call in users_own
    ]
    if config.tracking.wandb != "off":
        built.append(_wandb_subscriber(config.tracking, run_dir, bus))
    return tuple(built)


def _recorders(
    run_dir: Path, bus: EventBus, resumed_timestep: int | None, files: Writing
) -> list[Subscriber]:
    """Builds the writers of the run directory's records, and the alarms on what they hold."""
    metrics = recorders.metrics_recorder(run_dir, resumed_timestep, files)
    games = recorders.games_recorder(run_dir, resumed_timestep, files)
    diagnostics = recorders.diagnostics_recorder(run_dir, resumed_timestep, files)
    evaluations = EvaluationRecorder(run_dir, resumed_timestep, bus.publish, files)
    events = recorders.events_recorder(run_dir, resumed_timestep, time.time, files)
    divergence = DivergenceAlarm(bus.publish, run_dir / CHECKPOINTS_DIR)
    return [
        Subscriber(METRICS_FILE, metrics.handle, metrics.close),
        Subscriber(GAMES_FILE, games.handle, games.close),
        Subscriber("collapse alarm", CollapseAlarm(bus.publish).handle),
        Subscriber("divergence alarm", divergence.handle),
        Subscriber(DIAGNOSTICS_FILE, diagnostics.handle, diagnostics.close),
        Subscriber(EVALUATIONS_FILE, evaluations.handle, evaluations.close),
        Subscriber(EVENTS_FILE, events.handle, events.close, flush=files.flush),
    ]


def _tensorboard_writer_class() -> "type[TensorBoardWriter]":
    """Imports the optional package `tensorboard`, only where the configuration asks for it."""
    try:
        from keisei_ray.tracking.tensorboard import TensorBoardWriter
    except ImportError as error:
        raise ConfigError(
            "tracking.tensorboard = true, but the package tensorboard cannot be imported: "
            f"{error}. Install it by {installing('tensorboard')}, or leave the setting out."
        ) from error
    return TensorBoardWriter


def _wandb_subscriber(tracking: TrackingConfig, run_dir: Path, bus: EventBus) -> Subscriber:
    timeout_s = tracking.close_timeout_s * WANDB_CLOSE_FRACTION
    client = RealClient(load_wandb(tracking), tracking, run_dir, timeout_s)
    tracker = WandbTracker(client, bus.publish, close_timeout_s=timeout_s)
    return Subscriber("wandb", tracker.handle, tracker.close)

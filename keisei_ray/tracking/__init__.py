"""Subscribers to a run's events: what is shown, what is recorded, and users' own callables.

Everything here reads events and never steers the run. The driver asks for the subscribers of a
configuration and puts them on its bus; `logs.configure` wraps the whole run.
"""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import TrackingConfig
from keisei_ray.errors import ConfigError
from keisei_ray.storage.run_layout import (
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
    TENSORBOARD_DIR,
)
from keisei_ray.telemetry.events import Event, EventBus, Subscriber
from keisei_ray.tracking.collapse_alarm import CollapseAlarm
from keisei_ray.tracking.evaluations_file import EvaluationsFile
from keisei_ray.tracking.jsonl import DiagnosticsFile, EventsFile, GamesFile, MetricsFile
from keisei_ray.tracking.logs import log_event
from keisei_ray.tracking.terminal.lines import LinesView
from keisei_ray.tracking.terminal.live import TerminalView
from keisei_ray.tracking.wandb.client import RealClient, load_wandb

if TYPE_CHECKING:
    from keisei_ray.tracking.tensorboard import EventFiles

WANDB_SHARE_OF_CLOSE = 0.8
"""Of `tracking.close_timeout_s`, so that it can still say what is missing."""

ViewName = Literal["rich", "lines", "none"]


def choose_view(view: Literal["auto", "rich", "lines", "none"], console: Console) -> ViewName:
    """`tracking.view` with "auto" decided: rich on a terminal that can move its cursor."""
    if view != "auto":
        return view
    return "rich" if console.is_terminal and not console.is_dumb_terminal else "lines"


def check_trackers(tracking: TrackingConfig) -> None:
    """Refuses, before anything is started, a tracker that could not work.

    Raises:
        TrackerError: it is not installed, or not logged in.
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
) -> tuple[Subscriber, ...]:
    """The subscribers of a run, recorders first; each is to be put on the bus as it is.

    Args:
        config: effective configuration.
        run_dir: existing directory of the run.
        bus: the one they will be on, for those that publish in turn.
        resumed_timestep: the resumed checkpoint's timestep; None for a fresh run.
        console: where the view draws; the one given to `logs.configure`.

    Raises:
        ConfigError: an entry of `tracking.subscribers`, or TensorBoard, cannot be had.
        RunDirError: a file cannot be written, or belongs to another run.
        TrackerError: a tracker is not installed, or not logged in.
    """
    event_files = _event_files_class() if config.tracking.tensorboard else None
    guests = [(path, load_subscriber(path)) for path in config.tracking.subscribers]
    metrics = MetricsFile(run_dir, resumed_timestep)
    games = GamesFile(run_dir, resumed_timestep)
    diagnostics = DiagnosticsFile(run_dir, resumed_timestep)
    evaluations = EvaluationsFile(run_dir, resumed_timestep, bus.publish)
    events = EventsFile(run_dir, resumed_timestep, time.time)
    built = [
        Subscriber("log", log_event),
        Subscriber(METRICS_FILE, metrics.handle, metrics.close),
        Subscriber(GAMES_FILE, games.handle, games.close),
        Subscriber("collapse alarm", CollapseAlarm(bus.publish).handle),
        Subscriber(DIAGNOSTICS_FILE, diagnostics.handle, diagnostics.close),
        Subscriber(EVALUATIONS_FILE, evaluations.handle, evaluations.close),
        Subscriber(EVENTS_FILE, events.handle, events.close),
    ]
    if event_files is not None:
        files = event_files(run_dir, resumed_timestep, time.time)
        built.append(Subscriber(TENSORBOARD_DIR, files.handle, files.close))
    view = choose_view(config.tracking.view, console)
    if view != "none":
        shown = (TerminalView if view == "rich" else LinesView)(console, time.monotonic)
        built.append(Subscriber("view", shown.handle, shown.close))
    built += [Subscriber(path, guest, getattr(guest, "close", None)) for path, guest in guests]
    if config.tracking.wandb != "off":
        built.append(_wandb_subscriber(config.tracking, run_dir, bus))
    return tuple(built)


def _event_files_class() -> "type[EventFiles]":
    """`tensorboard` is an extra: it is imported only where it is asked for."""
    try:
        from keisei_ray.tracking.tensorboard import EventFiles
    except ImportError as error:
        raise ConfigError(
            "tracking.tensorboard = true, but the package tensorboard cannot be imported: "
            f"{error}. Install it with `pip install tensorboard`, or leave the setting out."
        ) from error
    return EventFiles


def _wandb_subscriber(tracking: TrackingConfig, run_dir: Path, bus: EventBus) -> Subscriber:
    # Of the extra `wandb`, like wandb itself: not to be had where it is not installed.
    from keisei_ray.tracking.wandb.tracker import WandbTracker

    timeout_s = tracking.close_timeout_s * WANDB_SHARE_OF_CLOSE
    client = RealClient(load_wandb(tracking), tracking, run_dir, timeout_s)
    tracker = WandbTracker(client, bus.publish, close_timeout_s=timeout_s)
    return Subscriber("wandb", tracker.handle, tracker.close)


def load_subscriber(path: str) -> Callable[[Event], object]:
    """Import a user's subscriber.

    Args:
        path: "package.module:name". The name is a callable that takes an event, or a class
            that makes one when called with nothing. If the callable has a `close` attribute,
            that is called at the end of the run.

    Raises:
        ConfigError: the form is wrong, the module or name does not exist, or it is not
            callable. Other errors of importing or making it pass through.
    """
    where = f"tracking.subscribers entry {path!r}"
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{where} has no module and name, expected 'package.module:callable'.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{where} cannot be imported: {error}. Is it installed?") from error
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise ConfigError(f"{where}: {module_name} has no {name!r}. Check the name.") from error
    guest = found() if isinstance(found, type) else found
    if not callable(guest):
        raise ConfigError(f"{where} is a {type(guest).__name__}, expected something callable.")
    return cast("Callable[[Event], object]", guest)

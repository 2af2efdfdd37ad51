"""The only module that calls the wandb library; one function imports it.

`WandbClient` defines what the tracker needs of Weights & Biases, `RealClient` does it. Only wandb
deals with the API key (WANDB_API_KEY, or `wandb login`): it is neither read nor written here.
"""

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from keisei_ray.config.sections import TrackingConfig
from keisei_ray.errors import TrackerError, installing
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.manifest import read_manifest
from keisei_ray.storage.run_layout import MANIFEST_FILE, WANDB_RUN_ID_FILE
from keisei_ray.tracking.wandb.session_file import last_timestep

Record = Mapping[str, object]

INIT_TIMEOUT_S: Final = 60.0
MAX_ALERT_TITLE: Final = 63
"""Longest title that W&B accepts, in characters."""
FLUSH_S: Final = 1.0
"""Seconds after which wandb has written a record to its file: a `kill -9` loses no more of it."""
UPLOAD_TIMEOUT_S: Final = 900
"""Time without an answer of the server after which the upload of a checkpoint counts as failed."""


@dataclass(frozen=True)
class Table:
    """Rows to be shown as a table."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


class WandbClient(Protocol):
    """One W&B run. Every method may block and may raise any exception."""

    def start(self, settings: Mapping[str, object]) -> str | None:
        """Begins or resumes the run; returns the address of its page, if it has one."""

    def former_timestep(self) -> int | None:
        """Returns the timestep of the last record of the session before; None without any.

        To be called before `start`.
        """

    def log(self, record: Record) -> None:
        """Adds a record of numbers; `timestep` is one of them, the x-axis of all charts."""

    def log_table(self, name: str, table: Table, timestep: int) -> None:
        """Shows a table."""

    def alert(self, title: str, text: str, *, is_error: bool) -> None:
        """Reports a warning or an error. Alerts of one title are sent once a minute at most.

        Args:
            title: at most MAX_ALERT_TITLE characters.
            text: the whole message.
            is_error: whether it is an error, else a warning.
        """

    def upload(self, checkpoint: Path, timestep: int) -> None:
        """Uploads a checkpoint's files. Blocks until the server has them.

        Raises:
            CheckpointError, OSError: the checkpoint does not exist, or no longer.
        """

    def finish(self, exit_code: int) -> None:
        """Ends the run. Blocks until everything is uploaded."""

    def abandon(self) -> None:
        """Ends wandb's processes after a `finish` that did not return; none may outlive the run."""


def load_wandb(tracking: TrackingConfig) -> Any:
    """Returns the wandb module if a run can begin with it. Does not use the network.

    Raises:
        TrackerError: wandb is not installed, or has no usable API key in online mode.
    """
    try:
        import wandb
    except ImportError as error:
        raise TrackerError(
            f"tracking.wandb = {tracking.wandb!r}, but wandb cannot be imported ({error}). Install "
            f"it by {installing('wandb')}, or use tracking.wandb=off."
        ) from error
    if tracking.wandb == "online":
        wandb.setup(wandb.Settings(silent=True))
        try:
            is_logged_in = wandb.login(prompt=False, verify=False)
        except wandb.Error as error:  # Its message names the source of the key, not the key.
            raise TrackerError(
                f"tracking.wandb = 'online', but wandb refuses its API key: {error} "
                "Run 'wandb login --relogin', or use tracking.wandb=offline."
            ) from error
        if not is_logged_in:
            raise TrackerError(
                "tracking.wandb = 'online', but wandb has no API key. Run 'wandb login' or set "
                "WANDB_API_KEY (and leave out WANDB_MODE), or use tracking.wandb=offline."
            )
    return wandb


class RealClient:
    """`WandbClient` that uses the wandb library."""

    def __init__(self, wandb: Any, tracking: TrackingConfig, run_dir: Path, timeout_s: float):
        """Keeps the arguments; the W&B run begins with `start`.

        Args:
            wandb: the module.
            tracking: mode, project and names of the run.
            run_dir: keeps the run's id, and wandb's files in `wandb/`.
            timeout_s: the longest that `finish` may wait for uploads.
        """
        self._wandb = wandb
        self._tracking = tracking
        self._run_dir = run_dir
        self._timeout_s = timeout_s
        self._run: Any = None

    def start(self, settings: Mapping[str, object]) -> str | None:
        """See `WandbClient`. A resumed run keeps its id."""
        tracking = self._tracking
        is_resumed = (self._run_dir / WANDB_RUN_ID_FILE).exists()
        self._run = self._wandb.init(
            mode=tracking.wandb,
            project=tracking.wandb_project,
            entity=tracking.wandb_entity,
            group=tracking.wandb_group,
            # A run that was renamed on its page keeps that name when it is resumed.
            name=tracking.wandb_name or (None if is_resumed else self._run_dir.name),
            tags=list(tracking.wandb_tags),
            config=dict(settings),
            allow_val_change=True,  # A resumed run may have other settings.
            dir=str(self._run_dir),
            id=run_id(self._run_dir),
            resume="allow" if is_resumed and tracking.wandb == "online" else None,
            reinit="create_new",
            settings=self._wandb.Settings(
                silent=True,  # The terminal is the view's.
                console="off",
                init_timeout=INIT_TIMEOUT_S,
                finish_timeout=self._timeout_s,
                x_transaction_log_flush_interval=FLUSH_S,
            ),
        )
        self._run.define_metric("timestep")
        self._run.define_metric("*", step_metric="timestep")
        return str(self._run.url) if tracking.wandb == "online" else None

    def former_timestep(self) -> int | None:
        """See `WandbClient`. Reads wandb's own file: what of it the server has is not known."""
        return last_timestep(self._run_dir)

    def log(self, record: Record) -> None:
        """See `WandbClient`."""
        self._run.log(dict(record))

    def log_table(self, name: str, table: Table, timestep: int) -> None:
        """See `WandbClient`."""
        rows = self._wandb.Table(
            columns=list(table.columns), data=[list(row) for row in table.rows]
        )
        self._run.log({name: rows, "timestep": timestep})

    def alert(self, title: str, text: str, *, is_error: bool) -> None:
        """See `WandbClient`."""
        self._run.alert(title=title, text=text, level="ERROR" if is_error else "WARN")

    def upload(self, checkpoint: Path, timestep: int) -> None:
        """See `WandbClient`. Offline, the files are copied for a later `wandb sync`."""
        names = [MANIFEST_FILE, *read_manifest(checkpoint)["files"]]
        artifact = self._wandb.Artifact(
            f"checkpoint-{self._run.id}", type="checkpoint", metadata={"timestep": timestep}
        )
        for name in names:
            # Copied: pruning may remove the checkpoint while it is being uploaded.
            artifact.add_file(str(checkpoint / name), name=name, skip_cache=True)
        logged = self._run.log_artifact(artifact, aliases=["latest", f"step-{timestep}"])
        if self._tracking.wandb == "online":
            logged.wait(timeout=UPLOAD_TIMEOUT_S)

    def finish(self, exit_code: int) -> None:
        """See `WandbClient`."""
        self._run.finish(exit_code=exit_code)

    def abandon(self) -> None:
        """See `WandbClient`. Kills wandb's service: its exit hook waits for it, without a limit.

        Files that it has written stay in the run directory, for `wandb sync`.
        """
        import psutil

        for child in psutil.Process().children():
            if child.name().startswith("wandb-core"):
                child.kill()


def run_id(run_dir: Path) -> str:
    """Returns the id of the directory's W&B run; chooses and writes it the first time.

    The agent of a W&B sweep has chosen it already (WANDB_RUN_ID).

    Raises:
        OSError: the id cannot be written.
    """
    path = run_dir / WANDB_RUN_ID_FILE
    if path.exists() and re.fullmatch(r"[\w-]{1,64}", text := path.read_text().strip(), re.ASCII):
        return text
    new = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    write_atomically(path, f"{new}\n".encode())
    return new

"""Where a run starts: the checkpoint that it resumes, if any, and its directory.

Everything here is decided, or refused, before Ray is asked.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError, RunDirError, UserError
from keisei_ray.storage import checkpoint, run_dirs
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.remote.remote_resume import use_local_copy
from keisei_ray.storage.remote.remote_run import RemoteRun
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, CONFIG_FILE, PROGRESS_FILE, WRITABLE_FILE
from keisei_ray.telemetry.events import Notice


@dataclass(frozen=True)
class RunStart:
    """A run before its first event."""

    config: Config
    """Settings as given, with local paths instead of URIs."""
    run_dir: Path
    """Local directory of the run."""
    remote: RemoteRun | None
    """Where the run is kept besides; None if it is on this machine only."""
    resume: Checkpoint | None
    """Checkpoint to continue from; None for a fresh run."""
    notices: tuple[Notice, ...]
    """Copies that were made, checkpoints that were passed over; to be published."""

    @property
    def resumed_timestep(self) -> int | None:
        """Timestep that the run continues from; None for a fresh run."""
        return self.resume.timestep if self.resume else None


def find_start(config: Config) -> RunStart:
    """Finds the checkpoint to resume and the directory of a run. Writes no file of a run.

    Args:
        config: settings as given.

    Raises:
        UserError: the checkpoint, the directory or a URI cannot be used.
    """
    copied: list[str] = []
    skipped: list[str] = []
    local, remote = use_local_copy(config, copied.append, skipped.append)
    resume = find_resume(local, skipped)
    return RunStart(
        local,
        choose_run_dir(local, resume),
        remote,
        resume,
        (*map(Notice, copied), *(Notice(message, "WARNING") for message in skipped)),
    )


def find_resume(config: Config, skipped: list[str]) -> Checkpoint | None:
    """Loads the checkpoint that `run.resume` names, verified.

    Args:
        config: names the checkpoint, and the model that it must be of.
        skipped: gets a sentence for each newer checkpoint that `latest` passed over.

    Returns:
        The checkpoint, or None for a fresh run.

    Raises:
        CheckpointError: there is none, it is damaged, or of another architecture.
    """
    if config.run.resume is None:
        return None
    if config.run.resume == "latest":
        found = _latest(Path(config.run.run_dir or newest_run_dir()) / CHECKPOINTS_DIR, skipped)
    else:
        found = checkpoint.load(Path(config.run.resume))
    for name in (PROGRESS_FILE, CONFIG_FILE):
        if name not in found.files:
            raise CheckpointError(f"{found.path} has no {name}: not a training checkpoint.")
    _check_model(found, config.model)
    return found


def _latest(checkpoints_dir: Path, skipped: list[str]) -> Checkpoint:
    found = checkpoint.find_latest(
        checkpoints_dir,
        on_skip=lambda path, cause: skipped.append(f"checkpoint {path} skipped: {cause}"),
    )
    if found is None:
        raise CheckpointError(
            f"--resume latest: {checkpoints_dir} has no intact checkpoint "
            f"({len(skipped)} damaged). Give the run's directory with --run-dir, or start a "
            "fresh run without --resume."
        )
    return found


def _check_model(found: Checkpoint, model: ModelConfig) -> None:
    """Refuses a checkpoint of another architecture than the settings ask for."""
    try:
        saved = ModelConfig.model_validate_json(str(found.info.get("model")))
    except ValidationError as error:
        raise CheckpointError(
            f"{found.path}: its manifest does not say which model it is of: "
            f"{error.errors()[0]['msg']}. Resume from another checkpoint."
        ) from error
    if saved != model:
        keys = [k for k, v in saved.model_dump().items() if v != getattr(model, k)]
        now = ", ".join(f"model.{k} = {getattr(model, k)}" for k in keys)
        then = ", ".join(f"{getattr(saved, k)}" for k in keys)
        raise CheckpointError(
            f"{found.path} is of another architecture: {now}, the checkpoint has {then}. "
            "Resume with the model it was trained with, or start a fresh run."
        )


def newest_run_dir() -> Path:
    """Returns the directory of the run under `runs_dir()` that was started last.

    Raises:
        CheckpointError: there is no run.
    """
    newest = run_dirs.newest_run_dir([CONFIG_FILE])
    if newest is None:
        raise CheckpointError(
            f"there is no run under {run_dirs.runs_dir()}/ to resume. Give its directory with "
            "--run-dir."
        )
    return newest


def choose_run_dir(config: Config, resume: Checkpoint | None) -> Path:
    """Returns the run's directory.

    It is `run.run_dir`, else that of the resumed checkpoint's run, else a new one that is named
    after the time.

    Raises:
        RunDirError: it lies where Ray may delete it.
    """
    if config.run.run_dir:
        run_dirs.refuse_job_directory(config.run.run_dir)
        return Path(config.run.run_dir)
    if resume is not None and resume.path.parent.name == CHECKPOINTS_DIR:
        return resume.path.parent.parent
    return run_dirs.new_run_dir()


@contextlib.contextmanager
def prepared_run_dir(run_dir: Path, resume: Checkpoint | None) -> Iterator[None]:
    """Makes the run's directory, or refuses it, before anything is started.

    If the run is refused in the block before its settings have been written, a directory made here
    is removed again.

    Raises:
        RunDirError: it holds a run that is not being resumed, or cannot be written.
    """
    is_resumed = resume is not None and resume.path.resolve().is_relative_to(run_dir.resolve())
    if not is_resumed and run_dirs.holds_run(run_dir):
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

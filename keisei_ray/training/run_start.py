"""Where a run starts: its directory, locked, and the checkpoint that it resumes, if any.

Everything here is decided, or refused, before Ray is asked. Nothing in a run directory or at a URI
is changed before this process is its only writer.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from keisei_ray.config.json_text import read_json
from keisei_ray.config.saved_model_section import read_model_section
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import (
    CheckpointError,
    ConfigError,
    RunDirError,
    RunDirLostError,
    UserError,
)
from keisei_ray.network.finite_weights import check_weights
from keisei_ray.network.growing import check_growth
from keisei_ray.network.saved_checkpoint import LATEST, open_checkpoint
from keisei_ray.storage import checkpoint, run_dirs
from keisei_ray.storage.checkpoint import HEALTHY, Checkpoint
from keisei_ray.storage.manifest import read_manifest
from keisei_ray.storage.remote.filesystem import Storage, is_uri
from keisei_ray.storage.remote.remote_lock import remote_lock
from keisei_ray.storage.remote.remote_resume import saved_config, use_local_copy
from keisei_ray.storage.remote.remote_run import RemoteRun, local_copy
from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    EVENTS_FILE,
    MODEL_FILE,
    PROGRESS_FILE,
)
from keisei_ray.storage.run_lock import RunLock, run_lock, wait_until_saved
from keisei_ray.telemetry.events import Notice
from keisei_ray.training.resumed_settings import check_length
from keisei_ray.training.trust import check_trusted


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
    lock: RunLock
    """The right to write to the directory; to be checked while the run goes on."""
    initial: Checkpoint | None
    """Checkpoint whose network the run began with; None: a new network, or a resumed run that needs
    it no more."""
    former_config: bytes | None
    """Content of `config.json` in the directory, before this start writes it; empty if it is lost.
    None: no session has begun there before."""

    @property
    def resumed_timestep(self) -> int | None:
        """Timestep that the run continues from; None for a fresh run."""
        return self.resume.timestep if self.resume else None


@contextlib.contextmanager
def claimed_start(
    config: Config,
    *,
    force: bool = False,
    is_trusted: bool = False,
    lock: RunLock | None = None,
    refused: Mapping[int, str] = MappingProxyType({}),
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[RunStart]:
    """Finds where a run starts, and makes this process its only writer within the block.

    If the run is refused in the block before its settings have been written, a directory made here
    is removed again.

    Args:
        config: settings as given.
        force: whether to take over from a process that may have ended, see `run_lock`.
        is_trusted: whether the programs in the settings of another user's run may be run.
        lock: the lock on the run's directory, if the caller holds it.
        refused: timestep -> cause of checkpoints that the learner has refused; they are passed
            over where the newest is to be resumed.
        say: called with a sentence about what is being waited for.

    Raises:
        UserError: the checkpoint, the directory or a URI cannot be used, or another process writes
            there.
    """
    copied: list[str] = []
    skipped: list[str] = []
    with contextlib.ExitStack() as stack:

        def claim(storage: Storage) -> None:
            stack.enter_context(remote_lock(storage, say))
            copy = local_copy(storage.uri)
            if lock is None and copy.exists():
                with run_lock(copy, force=force, say=say):
                    pass  # A run that was killed here has been saved now.

        def locked(place: Path) -> contextlib.AbstractContextManager[RunLock]:
            if lock is not None:
                return contextlib.nullcontext(lock)
            return run_lock(place, force=force, say=say)

        local, remote = use_local_copy(
            config,
            copied.append,
            skipped.append,
            claim=claim,
            check=partial(_check_usable, refused=refused),
        )
        chosen = choose_run_dir(local)
        # Without a directory there is no writer, and a resume is refused before one is made.
        is_there = chosen is not None and chosen.exists()
        resume = None if is_there else find_resume(local, skipped, refused)
        is_found = resume is not None
        run_dir, held = stack.enter_context(claimed_run_dir(chosen, locked))
        if not is_found:
            resume = find_resume(local, skipped, refused)
        _refuse_other_run(run_dir, resume)
        check_trusted(config, resume, is_trusted=is_trusted)
        if resume is not None:
            check_length(resume, local)
            skipped += _health_warning(resume)
        notices = (*map(Notice, copied), *(Notice(message, "WARNING") for message in skipped))
        initial = None
        if resume is None or local.learner.kl_start_coef > 0:
            local, initial = with_initial(local, is_resumed=resume is not None)
        yield RunStart(
            local, run_dir, remote, resume, notices, held, initial, _former_config(run_dir)
        )


def _health_warning(resume: Checkpoint) -> list[str]:
    """Returns a warning if the weights are not healthy, with the newest checkpoint that is."""
    health = checkpoint.health_of(resume.info)
    if health == HEALTHY:
        return []
    paths = checkpoint.list_complete(resume.path.parent)
    healthy = [p for p in paths if checkpoint.health_of(read_manifest(p)["info"]) == HEALTHY]
    way_back = f"--resume {healthy[-1]}" if healthy else "none"
    return [f"{resume.path} is not healthy ({health}); the newest healthy checkpoint: {way_back}"]


def _refuse_other_run(run_dir: Path, resume: Checkpoint | None) -> None:
    """Refuses a directory with a run that is not being resumed."""
    is_resumed = resume is not None and resume.path.resolve().is_relative_to(run_dir.resolve())
    if not is_resumed and run_dirs.holds_run(run_dir):
        raise RunDirError(
            f"{run_dir} already holds a run. Go on with it by --resume latest, or choose another "
            "--run-dir."
        )


def _former_config(run_dir: Path) -> bytes | None:
    try:
        return (run_dir / CONFIG_FILE).read_bytes()
    except OSError:
        return b"" if (run_dir / EVENTS_FILE).exists() else None


@contextlib.contextmanager
def settings_to_resume_with(
    run_dir: str | None, resume: str, say: Callable[[str], object] = lambda text: None
) -> Iterator[str | None]:
    """Provides the file of settings that a resumed run starts from, inside the block.

    Where the newest checkpoint is to be resumed, it waits until a run whose process was killed has
    been saved: `claimed_start` then finds the same one.

    Args:
        run_dir: directory or URI of the run; None: that of the checkpoint, or the newest.
        resume: "latest", or path or URI of a checkpoint.
        say: called with a sentence about what is being waited for.

    Yields:
        The path of the file; None if there is none.

    Raises:
        CheckpointError: the named checkpoint is damaged, or there is no run.
        StorageError: the URI cannot be reached or read.
        RunDirError: the run is still being saved.
    """
    if is_uri(run_dir or "" if resume == "latest" else resume):
        with saved_config(run_dir, resume, say) as path:
            yield str(path) if path else None
    else:
        path = saved_settings(run_dir, resume, say)
        yield str(path) if path else None


def saved_settings(
    run_dir: str | None, resume: str, say: Callable[[str], object] = lambda text: None
) -> Path | None:
    """Returns the file of settings that a resumed run starts from.

    It is the one in the checkpoint, which its manifest verifies. Where that has none, it is the
    run's own.

    Args:
        run_dir: directory of the run; None: that of the checkpoint, or the newest.
        resume: "latest", or the path of a checkpoint.
        say: called with a sentence about what is being waited for.

    Returns:
        The file; None if there is none.

    Raises:
        CheckpointError: the named checkpoint is damaged, or there is no run.
        RunDirError: the run is still being saved.
    """
    if resume == "latest":
        where = Path(run_dir or newest_run_dir())
        wait_until_saved(where, say)
        found = checkpoint.find_latest(where / CHECKPOINTS_DIR, lambda *_: None, check_weights)
    else:
        found = checkpoint.load(Path(resume))
        where = found.path.parent.parent
    if found is not None and CONFIG_FILE in found.files:
        return found.path / CONFIG_FILE
    return where / CONFIG_FILE if (where / CONFIG_FILE).is_file() else None


def init_from_in(settings: str | None) -> str | None:
    """Returns the checkpoint that a run began with, as a file of its settings says.

    Args:
        settings: path of the file, as `settings_to_resume_with` provides it.

    Returns:
        The checkpoint's path or URI; None if the run began with a new network, or the file does not
        say.
    """
    if settings is None:
        return None
    try:
        found = read_json(Path(settings))["run"]["init_from"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None


def find_resume(
    config: Config, skipped: list[str], refused: Mapping[int, str] = MappingProxyType({})
) -> Checkpoint | None:
    """Loads the checkpoint that `run.resume` names, verified.

    Args:
        config: names the checkpoint, and the model that it must be of.
        skipped: gets a sentence for each newer checkpoint that `latest` passed over.
        refused: timestep -> cause of checkpoints that `latest` is to pass over.

    Returns:
        The checkpoint, or None for a fresh run.

    Raises:
        CheckpointError: there is none, it is damaged, its weights are not finite, or they are of
            another architecture.
    """
    if config.run.resume is None:
        return None
    if config.run.resume == "latest":
        where = Path(config.run.run_dir or newest_run_dir()) / CHECKPOINTS_DIR
        found = _latest(where, skipped, refused)
    else:
        found = checkpoint.load(Path(config.run.resume))
        check_weights(found)
    if PROGRESS_FILE not in found.files:
        raise CheckpointError(f"{found.path} has no {PROGRESS_FILE}: not a training checkpoint.")
    _check_model(found, config.model)
    return found


def with_initial(config: Config, *, is_resumed: bool) -> tuple[Config, Checkpoint | None]:
    """Loads the checkpoint that `run.init_from` names, verified.

    Args:
        config: names the checkpoint, and the model that is to begin with its network.
        is_resumed: whether the run has begun before.

    Returns:
        The settings, in which `run.init_from` is this one checkpoint, so that a resumed run finds
        it again though its run has gone on; and the checkpoint, or None for a new network.

    Raises:
        CheckpointError: there is none, it is damaged, its weights are not finite, or the run's
            network cannot compute what its network does; or a resumed run was saved with a name
            that may mean another network by now.
        ConfigError: its path cannot be saved.
        StorageError: the URI cannot be reached or read.
    """
    if config.run.init_from is None:
        return config, None
    if is_resumed and config.run.init_from == LATEST:
        raise CheckpointError(
            f"run.init_from = {LATEST} may mean another network than this run began with. Name "
            "that one by --set run.init_from=PATH, or use --set learner.kl_start_coef=0."
        )
    place, found = open_checkpoint(config.run.init_from)
    check_weights(found)
    if MODEL_FILE not in found.files:
        raise CheckpointError(f"--init-from {found.path}: it has no {MODEL_FILE}.")
    check_growth(_model_of(found), config.model)
    return _beginning_with(config, place), found


def with_named_initial(config: Config) -> Config:
    """Returns settings in which `run.init_from` is the one checkpoint that it means now.

    Raises:
        CheckpointError, ConfigError, StorageError: as `with_initial`.
    """
    if config.run.init_from is None:
        return config
    place, _ = open_checkpoint(config.run.init_from)
    return _beginning_with(config, place)


def _beginning_with(config: Config, place: str) -> Config:
    run = {"init_from": place if is_uri(place) else absolute_path(place)}
    return config.model_copy(update={"run": config.run.model_copy(update=run)})


def absolute_path(path: str) -> str:
    """Returns a path that means the same from every directory, for the settings of a run.

    Raises:
        ConfigError: it has bytes that no text file can hold.
    """
    absolute = str(Path(path).absolute())
    try:
        absolute.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{absolute!a}: not a path in UTF-8, so that the settings of the run cannot name it. "
            "Rename it."
        ) from error
    return absolute


def _latest(checkpoints_dir: Path, skipped: list[str], refused: Mapping[int, str]) -> Checkpoint:
    causes: list[str] = []

    def skip(path: Path, cause: str) -> None:
        skipped.append(f"checkpoint {path} skipped: {cause}")
        causes.append(cause)

    found = checkpoint.find_latest(checkpoints_dir, skip, partial(_check_usable, refused=refused))
    if found is None:
        newest = f" The newest: {causes[0]}" if causes else ""
        raise CheckpointError(
            f"--resume latest: {checkpoints_dir} has no intact checkpoint ({len(causes)} damaged "
            f"or not finite). Give the run's directory with --run-dir, or start a fresh run "
            f"without --resume.{newest}"
        )
    return found


def _check_usable(found: Checkpoint, refused: Mapping[int, str]) -> None:
    """Refuses a checkpoint that verifies and that no learner can go on from."""
    if found.timestep in refused:
        raise CheckpointError(refused[found.timestep])
    check_weights(found)


def _model_of(found: Checkpoint) -> ModelConfig:
    """Returns the model section that a checkpoint was saved with."""
    try:
        return read_model_section(str(found.info.get("model")))
    except ValidationError as error:
        raise CheckpointError(
            f"{found.path}: its manifest does not say which model it is of: "
            f"{error.errors()[0]['msg']}. Resume from another checkpoint."
        ) from error


def _check_model(found: Checkpoint, model: ModelConfig) -> None:
    """Refuses a checkpoint of another architecture than the settings ask for."""
    saved = _model_of(found)
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
    # The second counts where the first is lost.
    newest = run_dirs.newest_run_dir([CONFIG_FILE, EVENTS_FILE])
    if newest is None:
        raise CheckpointError(
            f"there is no run under {run_dirs.runs_dir()}/ to resume. Give its directory with "
            "--run-dir."
        )
    return newest


def choose_run_dir(config: Config) -> Path | None:
    """Returns the run's directory.

    It is `run.run_dir`, else that of the resumed checkpoint's run. None: a new one, to be named
    after the time.

    Raises:
        CheckpointError: the newest run is to be resumed, and there is none.
        RunDirError: it lies where Ray may delete it.
    """
    if config.run.run_dir:
        run_dirs.refuse_job_directory(config.run.run_dir)
        return Path(config.run.run_dir)
    if config.run.resume == "latest":
        return newest_run_dir()
    if config.run.resume is not None:
        path = Path(config.run.resume)
        if path.parent.name == CHECKPOINTS_DIR:
            return path.parent.parent
    return None


@contextlib.contextmanager
def claimed_run_dir(
    chosen: Path | None,
    locked: Callable[[Path], contextlib.AbstractContextManager[RunLock]],
) -> Iterator[tuple[Path, RunLock]]:
    """Makes the run's directory and locks it, or refuses it, before anything is started.

    If the run is refused in the block before it has begun, a directory made here is removed again.

    Args:
        chosen: the directory; None: a new one, named after the time.
        locked: makes this process the only writer of a directory.

    Yields:
        The directory and the lock on it.

    Raises:
        RunDirError: it cannot be made, or another process writes there.
    """
    run_dir, is_made = _made(chosen)
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(locked(run_dir))
        except (UserError, KeyboardInterrupt):
            if is_made:
                with contextlib.suppress(OSError):
                    run_dir.rmdir()  # Not if another process was the first to lock it.
            raise
        try:
            yield run_dir, held
        except RunDirLostError:
            raise  # What lies at this path now is another's, or holds what has been saved.
        except (UserError, KeyboardInterrupt):
            # A directory that was deleted meanwhile is made again for the last checkpoint alone.
            # It is removed while it is locked: after that it may be another process's.
            if is_made and not run_dirs.holds_run(run_dir):
                shutil.rmtree(run_dir, ignore_errors=True)
            raise


def _made(chosen: Path | None) -> tuple[Path, bool]:
    """Returns the run's directory, which exists then, and whether it was made here."""
    try:
        if chosen is None:
            return run_dirs.make_new_run_dir(), True
        return chosen, run_dirs.make_run_dir(chosen)
    except OSError as error:
        raise RunDirError(
            f"{chosen or error.filename} cannot be written: {error.strerror or error}. Choose "
            "another --run-dir."
        ) from error

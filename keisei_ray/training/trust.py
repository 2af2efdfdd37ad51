"""Refusal to resume a run of another user without being told to.

The settings of a run name programs: USI engines, and subscribers that are imported. A resume takes
them from the run's files, so their writer chooses what this user runs. Only a run of one's own goes
without asking. What a run keeps besides (weights, state, records) is data: nothing of it is
executed.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from keisei_ray.config.schema import Config
from keisei_ray.config.subscriber_entries import entry_text
from keisei_ray.errors import RunDirError
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.remote.filesystem import is_uri
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, CONFIG_FILE


def check_trusted(given: Config, resume: Checkpoint | None, *, is_trusted: bool) -> None:
    """Refuses to resume a run of another user whose settings run programs.

    Args:
        given: settings of the resumed run as given, with URIs where there are any.
        resume: checkpoint that is resumed; None for a fresh run.
        is_trusted: whether the user has said `--trust`.

    Raises:
        RunDirError: names the owner and lists what would be run.
    """
    commands = programs(given)
    if resume is None or is_trusted or not commands:
        return
    uri = next(
        (text for text in (given.run.resume, given.run.run_dir) if text and is_uri(text)), ""
    )
    owner = f"{uri} may be of any user" if uri else foreign_owner(_files(given, resume))
    if owner is not None:
        raise RunDirError(
            f"{owner}, and its settings would run {', '.join(commands)}. Expected a run of your "
            "own. Add --trust if you know these programs, or replace them by --set."
        )


def programs(config: Config) -> list[str]:
    """Returns the settings that run a program, each as `key: text`."""
    named = {
        "pool.members": [text for text in config.pool.members if text.startswith("usi:")],
        "evaluation.opponents": [
            text for text in config.evaluation.opponents if text.startswith("usi:")
        ],
        "tracking.subscribers": [entry_text(entry) for entry in config.tracking.subscribers],
    }
    return [f"{key}: {text}" for key, texts in named.items() for text in texts]


def foreign_owner(paths: Iterable[Path]) -> str | None:
    """Returns a sentence about the first path that is not this user's; None if all are.

    A path that does not exist is passed over. None where the system has no users.
    """
    if not hasattr(os, "geteuid"):
        return None
    for path in paths:
        try:
            owner = path.stat().st_uid
        except OSError:
            continue
        if owner != os.geteuid():
            return f"{path} belongs to user {owner}, not to you"
    return None


def _files(given: Config, resume: Checkpoint) -> list[Path]:
    """Returns where the settings of a resumed run come from, the directories included."""
    directories = [resume.path]
    if resume.path.parent.name == CHECKPOINTS_DIR:
        directories.append(resume.path.parent.parent)
    if given.run.run_dir:
        directories.append(Path(given.run.run_dir))
    return [path for folder in directories for path in (folder, folder / CONFIG_FILE)]

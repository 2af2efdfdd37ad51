"""The file that `--json` names: the result of a command, for other programs."""

import json
import os
import stat
from pathlib import Path

from keisei_ray.errors import ConfigError


def check_result_file(path: str | None) -> None:
    """Refuses a result file that cannot be written. Called before the work begins.

    Raises:
        ConfigError: `path` is `-`, or not a file in a directory that can be written.
    """
    if path is None:
        return
    if path == "-":
        raise ConfigError("--json -: this command prints its result as text. Name a file.")
    if not _can_be_written(path):
        raise ConfigError(
            f"--json {path}: not a file in a directory that can be written. Choose another."
        )


def _can_be_written(path: str) -> bool:
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return os.access(os.path.dirname(path) or os.curdir, os.W_OK)
    except OSError:  # A name that is too long, a directory that may not be searched.
        return False
    return not is_directory and os.access(path, os.W_OK)


def write_result_file(path: str | None, result: object) -> None:
    """Writes a result to the file that `--json` names, if any.

    Raises:
        ConfigError: the file cannot be written.
    """
    if path is None:
        return
    try:
        Path(path).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written: {error.strerror}.") from error

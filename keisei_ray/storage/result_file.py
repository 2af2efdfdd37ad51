"""Files that commands write when their work is done, above all the result that `--json` names."""

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
    file = Path(path)
    check_output_file(file, "--json")
    # It is written in place, as it may be a pipe.
    if file.exists() and not os.access(file, os.W_OK):
        raise _cannot_be_written(file, "--json")


def check_output_file(file: Path, flag: str) -> None:
    """Refuses a file that cannot be made or replaced. Called before the work begins.

    Raises:
        ConfigError: it is a directory, lies in none that can be written, or cannot be looked at.
            The message names `flag`.
    """
    try:
        is_directory = stat.S_ISDIR(os.stat(file).st_mode)
    except FileNotFoundError:
        is_directory = False
    except OSError as error:  # A name that is too long, a directory that may not be searched.
        raise _cannot_be_written(file, flag) from error
    if is_directory or not os.access(file.parent, os.W_OK):
        raise _cannot_be_written(file, flag)


def _cannot_be_written(file: Path, flag: str) -> ConfigError:
    return ConfigError(
        f"{flag} {file}: not a file in a directory that can be written. Choose another."
    )


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

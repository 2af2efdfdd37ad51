"""Earlier versions of the run's weights as opponents: which are kept, and their files.

Evaluations of a run are numbered 1, 2, 3, ... The versions kept are those of the newest number and
of the two newest powers of two. So the next evaluation always has its predecessor to play, and one
that is about half as old or older, and short chains of matches connect all ratings of a run,
however long it is.

A file holds the packed weights as they were published, so that a resumed run continues to measure
against the same weights. Needs neither torch nor Ray.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from keisei_ray.errors import WireError
from keisei_ray.rollouts.weights_header import peek_weights
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import EVALUATED_DIR, EVALUATED_SUFFIX, evaluated_weights_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedVersion:
    """A weights version that was read from its file."""

    number: int
    """Number of the evaluation that measured it."""
    version: int
    """Weights version."""
    buffer: bytes
    """Packed weights."""


def next_opponents(numbers: Collection[int]) -> list[int]:
    """Returns the numbers that the next evaluation plays against, out of those that are kept.

    They are the newest number, then the newest power of two before it.
    """
    if not numbers:
        return []
    newest = max(numbers)
    older = [number for number in numbers if _is_power_of_two(number) and number < newest]
    return [newest, *([max(older)] if older else [])]


def numbers_to_keep(numbers: Collection[int]) -> set[int]:
    """Returns the numbers that a later evaluation may still need."""
    powers = sorted(number for number in numbers if _is_power_of_two(number))
    return {*powers[-2:], *([max(numbers)] if numbers else [])}


def save_version(run_dir: Path, number: int, buffer: memoryview, keep: Collection[int]) -> None:
    """Writes one file and removes the files of all numbers outside `keep`.

    Raises:
        OSError: the disk is full or cannot be written; the existing files are untouched.
    """
    directory = run_dir / EVALUATED_DIR
    directory.mkdir(exist_ok=True)
    write_atomically(directory / evaluated_weights_name(number), buffer)
    for found, path in _files(run_dir).items():
        if found not in keep:
            path.unlink()


def load_versions(run_dir: Path, newest_version: int) -> list[SavedVersion]:
    """Returns the saved versions of a run that is resumed from `newest_version`, by number.

    Files of later versions are removed: the run trains these versions again, and other weights
    will have their names. A damaged file is left out with a warning.

    Raises:
        OSError: the directory cannot be read, or a file cannot be removed.
    """
    versions = []
    for number, path in sorted(_files(run_dir).items()):
        buffer = path.read_bytes()
        try:
            version = peek_weights(buffer).version
        except WireError as error:
            logger.warning("%s is left out: %s", path, error)
            continue
        if version > newest_version:
            path.unlink()
        else:
            versions.append(SavedVersion(number, version, buffer))
    return versions


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _files(run_dir: Path) -> dict[int, Path]:
    found = (run_dir / EVALUATED_DIR).glob(f"*{EVALUATED_SUFFIX}")
    return {int(path.stem): path for path in found if path.stem.isdecimal()}

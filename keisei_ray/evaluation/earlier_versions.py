"""Own earlier versions to be measured against: which are kept, and their files.

Evaluations of a run are numbered 1, 2, 3, ... The versions kept are those of the newest number
and of the two newest powers of two, so that the next evaluation always has its predecessor to
play and one about half as old or older, and ratings of the whole run hang together by short
chains, whatever its length.

A file is one packed weights buffer, as published, so that a resumed run goes on measuring
against the same weights. Neither torch nor Ray.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from keisei_ray.errors import WireError
from keisei_ray.rollouts import packed_buffer
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import EVALUATED_DIR, EVALUATED_SUFFIX, evaluated_weights_name

logger = logging.getLogger(__name__)

KIND = "weights"


@dataclass(frozen=True)
class SavedVersion:
    """A file that was read."""

    number: int
    version: int
    buffer: bytes


def next_opponents(numbers: Collection[int]) -> list[int]:
    """Whom the next evaluation plays: the newest number, then the newest older power of two."""
    if not numbers:
        return []
    newest = max(numbers)
    older = [number for number in numbers if _is_power_of_two(number) and number < newest]
    return [newest, *([max(older)] if older else [])]


def numbers_to_keep(numbers: Collection[int]) -> set[int]:
    """Those that a later evaluation may still need."""
    powers = sorted(number for number in numbers if _is_power_of_two(number))
    return {*powers[-2:], *([max(numbers)] if numbers else [])}


def save_version(run_dir: Path, number: int, buffer: memoryview, keep: Collection[int]) -> None:
    """Writes one file and removes those that are not to be kept.

    Raises:
        OSError: the disk is full or cannot be written; what was there is untouched.
    """
    directory = run_dir / EVALUATED_DIR
    directory.mkdir(exist_ok=True)
    write_atomically(_path(run_dir, number), buffer)
    for found, path in _files(run_dir).items():
        if found not in keep:
            path.unlink()


def load_versions(run_dir: Path, newest_version: int) -> list[SavedVersion]:
    """The files of a run that goes on from `newest_version`, by number.

    Removes those of later versions: these will be trained anew, and other weights will bear
    their names. A damaged file is left out with a warning.

    Raises:
        OSError: the directory cannot be read or a file not be removed.
    """
    snapshots = []
    for number, path in sorted(_files(run_dir).items()):
        buffer = path.read_bytes()
        try:
            version = int(str(packed_buffer.peek(buffer, KIND)["version"]))
        except WireError as error:
            logger.warning("%s is left out: %s", path, error)
            continue
        if version > newest_version:
            path.unlink()
        else:
            snapshots.append(SavedVersion(number, version, buffer))
    return snapshots


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _path(run_dir: Path, number: int) -> Path:
    return run_dir / EVALUATED_DIR / evaluated_weights_name(number)


def _files(run_dir: Path) -> dict[int, Path]:
    found = (run_dir / EVALUATED_DIR).glob(f"*{EVALUATED_SUFFIX}")
    return {int(path.stem): path for path in found if path.stem.isdecimal()}

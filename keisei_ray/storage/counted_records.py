"""Records that a checkpoint counts: put on the disk before it, and looked for when it is resumed.

A checkpoint must not survive the crash of a machine that its records do not survive: the plies
behind them will not be played again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from keisei_ray.storage.json_lines_writer import last_timestep
from keisei_ray.storage.run_layout import (
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
)

_RECORDS: Final = (METRICS_FILE, GAMES_FILE, DIAGNOSTICS_FILE, EVALUATIONS_FILE, EVENTS_FILE)
_BLOCK: Final = 1 << 20
"""Bytes read at once."""


def sync_records(run_dir: Path) -> None:
    """Waits until the disk has what was written to the run's records; files may be missing.

    Raises:
        OSError: the disk does not take it.
    """
    for name in _RECORDS:
        try:
            file = os.open(run_dir / name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(file)
        finally:
            os.close(file)


def missing_records(run_dir: Path, timestep: int, num_games: int) -> Iterator[str]:
    """Yields what a checkpoint counts and the run's records do not have, as sentences.

    Args:
        run_dir: its records go no further than the checkpoint.
        timestep: of the checkpoint.
        num_games: games that it counts.

    Raises:
        OSError: a file cannot be read.
    """
    last = last_timestep(run_dir / METRICS_FILE)
    if last < timestep:
        yield (
            f"{METRICS_FILE} ends at timestep {last:,}, before the checkpoint at {timestep:,}: the "
            "updates between them are in no record. The file was cut or replaced"
        )
    on_record = _num_lines(run_dir / GAMES_FILE)
    if on_record < num_games:
        yield (
            f"{GAMES_FILE} has {on_record:,} of the {num_games:,} games that the checkpoint counts."
            " The file was cut or replaced"
        )


def _num_lines(path: Path) -> int:
    """Returns the whole lines of a file; 0 if it is missing."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
    except FileNotFoundError:
        return 0

"""Files of records: which there are, of which format, and the pieces in which they are read.

A piece is what one reader reads from beginning to end. Files in which games can be found in the
middle are cut into several, so that several readers share a large one and the order can be mixed.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from keisei_ray.errors import RecordsError
from keisei_ray.records.left_out import Cause, Tally
from keisei_ray.shogi.binary_records import RECORD_BYTES
from keisei_ray.storage.run_layout import GAMES_FILE

SourceFormat = Literal["csa", "kif", "ki2", "usi", "jsonl", "hcpe", "psv", "pack"]
SUFFIXES: Final[dict[str, SourceFormat]] = {
    ".csa": "csa",
    ".kif": "kif",
    ".kifu": "kif",
    ".ki2": "ki2",
    ".ki2u": "ki2",
    ".usi": "usi",
    ".sfen": "usi",
    ".jsonl": "jsonl",
    ".hcpe": "hcpe",
    ".psv": "psv",
    ".bin": "psv",
    ".pack": "pack",
}
"""Ending of a file's name -> its format."""
LINE_PIECE_BYTES: Final = 8 << 20
"""Bytes of a piece of a file with one game a line."""
POSITIONS_A_PIECE: Final = 1 << 15
"""Positions of a piece of hcpe or psv."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file."""

    path: Path
    format: SourceFormat
    start: int
    """First byte."""
    stop: int
    """Byte behind the last one; what the file has grown by since is not read."""


def find_pieces(paths: Sequence[str], tally: Tally) -> list[Piece]:
    """Returns all pieces of some files and directories, in a fixed order.

    Below a directory all files with a known ending count, of `.jsonl` only `games.jsonl`.

    Args:
        paths: files and directories.
        tally: counts the files that are left out.

    Raises:
        RecordsError: a path does not exist.
    """
    pieces: list[Piece] = []
    for path in paths:
        for file, is_named in _files(Path(path)):
            kind = SUFFIXES.get(file.suffix.lower())
            if kind is None or (kind == "jsonl" and not is_named and file.name != GAMES_FILE):
                tally.leave_out(Cause.UNKNOWN_KIND, str(file))
                continue
            try:
                size = file.stat().st_size
            except OSError as error:
                tally.leave_out(Cause.UNREADABLE, f"{file}: {error.strerror}")
                continue
            if size == 0:
                tally.leave_out(Cause.EMPTY, str(file))
            pieces += _cut(file, kind, size)
    return pieces


def _files(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yields the files that a path stands for, and whether it names them itself."""
    if not path.is_dir():
        if not path.exists():
            raise RecordsError(f"--records {path}: there is no such file or directory.")
        yield path, True
        return
    for folder, inner, names in os.walk(path):
        inner.sort()
        for name in sorted(names):
            yield Path(folder, name), False


def _cut(file: Path, kind: SourceFormat, size: int) -> Iterator[Piece]:
    if kind in ("usi", "jsonl"):
        step = LINE_PIECE_BYTES
    elif kind == "hcpe" or kind == "psv":
        step = POSITIONS_A_PIECE * RECORD_BYTES[kind]
    else:
        step = max(1, size)
    for start in range(0, size, step):
        yield Piece(file, kind, start, min(size, start + step))

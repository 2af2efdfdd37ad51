"""Files of records: which there are, of which format, and the pieces in which they are read.

A piece is what one reader reads from beginning to end. Files in which games can be found in the
middle are cut into several, so that several readers share a large one and the order can be mixed.
"""

import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple, get_args

from keisei_ray.errors import RecordsError
from keisei_ray.records.left_out import Cause, Tally
from keisei_ray.shogi.binary_records import RECORD_BYTES
from keisei_ray.storage.remote.filesystem import Storage, is_uri
from keisei_ray.storage.remote.remote_file import open_remote
from keisei_ray.storage.run_layout import GAMES_FILE

SourceFormat = Literal["csa", "kif", "ki2", "usi", "jsonl", "hcpe", "hcpe3", "psv", "pack"]
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
    ".hcpe3": "hcpe3",
    ".psv": "psv",
    ".bin": "psv",
    ".pack": "pack",
}
"""Ending of a file's name -> its format."""
_FORMATS: Final = get_args(SourceFormat)
LINE_PIECE_BYTES: Final = 8 << 20
"""Bytes of a piece of a file with one game a line."""
POSITIONS_A_PIECE: Final = 1 << 15
"""Positions of a piece of hcpe or psv."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file."""

    file: str
    """Path or URI."""
    format: SourceFormat
    start: int
    """First byte."""
    stop: int
    """Byte behind the last one; what the file has grown by since is not read."""
    size: int
    """Bytes of the whole file."""

    @property
    def name(self) -> str:
        """Last part of the path or URI."""
        return self.file.rpartition("/")[2]

    def open(self) -> BinaryIO:
        """Opens the file at its beginning.

        Raises:
            OSError: a file of this machine cannot be opened.
            StorageError: a URI cannot be used. Reading one may raise it too.
        """
        if not is_uri(self.file):
            return Path(self.file).open("rb")
        folder, _, name = self.file.rpartition("/")
        return open_remote(Storage.open(folder), name, self.size)


class Pieces:
    """Many pieces in little memory: some 40 bytes each beside the file's name."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        """Takes them in their order."""
        self._names = bytearray()
        self._ends = array("Q", [0])
        """Where each name ends in `_names`."""
        self._numbers = array("Q")
        """Start, stop and size of each."""
        self._formats = array("B")
        for piece in pieces:
            self._names += os.fsencode(piece.file)
            self._ends.append(len(self._names))
            self._numbers.extend((piece.start, piece.stop, piece.size))
            self._formats.append(_FORMATS.index(piece.format))

    def __len__(self) -> int:
        """Returns their number."""
        return len(self._formats)

    def __getitem__(self, index: int) -> Piece:
        """Returns one of them.

        Raises:
            IndexError: there is none with this index, which is counted from 0.
        """
        kind = _FORMATS[self._formats[index]]
        name = bytes(self._names[self._ends[index] : self._ends[index + 1]])
        start, stop, size = self._numbers[3 * index : 3 * index + 3]
        return Piece(os.fsdecode(name), kind, start, stop, size)

    def __iter__(self) -> Iterator[Piece]:
        """Yields them in their order."""
        return (self[index] for index in range(len(self)))


class _File(NamedTuple):
    """A file that was found."""

    name: str
    """Path or URI."""
    size: int
    is_named: bool
    """Whether it was named itself, not a directory above it."""


def find_pieces(paths: Sequence[str], tally: Tally) -> Iterator[Piece]:
    """Yields all pieces of some files and directories, in a fixed order, as they are found.

    Below a directory all files with a known ending count, of `.jsonl` only `games.jsonl`.

    Args:
        paths: files and directories, or URIs of some.
        tally: counts the files that are left out.

    Raises:
        RecordsError: a path does not exist.
        StorageError: a URI cannot be used.
    """
    for path in paths:
        for file in _remote_files(path) if is_uri(path) else _local_files(path, tally):
            name = file.name.rpartition("/")[2]
            kind = SUFFIXES.get(os.path.splitext(name)[1].lower())
            if kind is None or (kind == "jsonl" and not file.is_named and name != GAMES_FILE):
                tally.leave_out(Cause.UNKNOWN_KIND, file.name)
                continue
            if file.size == 0:
                tally.leave_out(Cause.EMPTY, file.name)
            yield from _cut(file, kind)


def _local_files(path: str, tally: Tally) -> Iterator[_File]:
    """Yields the files that a path stands for."""
    if not os.path.exists(path):
        raise _missing(path)
    is_named = not os.path.isdir(path)
    for name in [path] if is_named else _below(path, tally):
        try:
            found = os.stat(name)
        except OSError as error:
            tally.leave_out(Cause.UNREADABLE, f"{name}: {error.strerror}")
            continue
        if stat.S_ISREG(found.st_mode):
            yield _File(name, found.st_size, is_named)
        else:
            tally.leave_out(Cause.UNREADABLE, f"{name}: not a regular file")


def _below(folder: str, tally: Tally) -> Iterator[str]:
    """Yields the paths of all files below a directory, sorted in each; follows links once."""
    seen = {os.path.realpath(folder)}

    def leave_out(error: OSError) -> None:
        tally.leave_out(Cause.UNREADABLE, f"{error.filename}: {error.strerror}")

    for inner, folders, names in os.walk(folder, onerror=leave_out, followlinks=True):
        new = {os.path.realpath(os.path.join(inner, name)): name for name in sorted(folders)}
        folders[:] = sorted(name for target, name in new.items() if target not in seen)
        seen |= new.keys()
        for name in sorted(names):
            yield os.path.join(inner, name)


def _remote_files(uri: str) -> Iterator[_File]:
    """Yields the files that a URI stands for."""
    storage = Storage.open(uri)
    found = storage.names()
    for name in sorted(found, key=_walking):
        yield _File(f"{storage.uri}/{name}", found[name], is_named=False)
    if not found:
        folder, _, name = storage.uri.rpartition("/")
        size = None if folder.endswith(":/") else Storage.open(folder).size(name)
        if size is None:
            raise _missing(uri)
        yield _File(storage.uri, size, is_named=True)


def _walking(name: str) -> list[tuple[bool, str]]:
    """A key that sorts names as `_below` yields them: the files of a directory come first."""
    *folders, file = name.split("/")
    return [*((True, folder) for folder in folders), (False, file)]


def _missing(path: str) -> RecordsError:
    return RecordsError(f"--records {path}: there is no such file or directory.")


def _cut(file: _File, kind: SourceFormat) -> Iterator[Piece]:
    if kind in ("usi", "jsonl"):
        step = LINE_PIECE_BYTES
    elif kind == "hcpe" or kind == "psv":
        step = POSITIONS_A_PIECE * RECORD_BYTES[kind]
    else:
        step = max(1, file.size)
    for start in range(0, file.size, step):
        yield Piece(file.name, kind, start, min(file.size, start + step), file.size)

"""A book of openings: a text file with one opening per line, written as in the USI protocol.

    startpos moves 7g7f 3c3d
    sfen lnsgkgsnl/1r7/ppppppppp/9/9/9/PPPPPPPPP/7R1/LNSGKGSNL b - 1 moves 2g2f
    position startpos
    lnsgkgsnl/1r7/ppppppppp/9/9/9/PPPPPPPPP/7R1/LNSGKGSNL b - 1

Blank lines and lines that begin with # are skipped. A book is read as a whole before the first
game and refused for a single bad line: a match from half a book is not the match asked for.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from keisei_ray.errors import ConfigError
from keisei_ray.shogi.game import Opening, check_start, play_opening
from keisei_ray.shogi.opening_line import OPENING_FORMS, parse_opening
from keisei_ray.storage.manifest import Scalar


@dataclass(frozen=True)
class OpeningBook:
    """Openings of which no two lead to the same position."""

    name: str
    """Name of the file, without its directory."""
    sha256: str
    """Digest of the file's bytes, comments included."""
    openings: tuple[Opening, ...]
    """Openings in the order of the file; of several that lead to one position only the first."""

    @classmethod
    def read(cls, file: Path, *, max_plies: int) -> Self:
        """Returns the book in a file.

        Args:
            file: a text file in UTF-8.
            max_plies: ply cap of the games that start from the book.

        Raises:
            ConfigError: the file cannot be read, is not UTF-8 or holds no opening; or a line is
                not an opening, has an illegal move, or leaves nothing to play.
        """
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"--openings {file}: cannot be read: {error.strerror}. Name a text file with one "
                "opening a line."
            ) from error
        openings: dict[str, Opening] = {}
        for number, line in _lines(file, content):
            try:
                opening = parse_opening(line)
                check_start(opening.sfen)
                board = play_opening(opening, max_plies=max_plies).board
            except ValueError as error:
                raise ConfigError(
                    f"--openings {file}, line {number}: {error} Correct or remove the line."
                ) from error
            # The move number, at the end, does not distinguish two positions.
            openings.setdefault(board.to_sfen().rpartition(" ")[0], opening)
        if not openings:
            raise ConfigError(
                f"--openings {file}: holds no opening, expected one a line. Add {OPENING_FORMS}."
            )
        return cls(file.name, hashlib.sha256(content).hexdigest(), tuple(openings.values()))

    def draw(self, count: int, rng: np.random.Generator) -> list[Opening]:
        """Returns `count` openings in random order; each occurs once before any occurs again."""
        order: list[int] = []
        while len(order) < count:
            order += rng.permutation(len(self.openings)).tolist()
        return [self.openings[i] for i in order[:count]]

    def describe(self) -> dict[str, Scalar]:
        """Returns name and digest of the book, as entries of a results file."""
        return {"openings": self.name, "openings_sha256": self.sha256}

    def shortage(self, num_games: int) -> str | None:
        """Returns a notice that a match of `num_games` repeats openings; None if it does not."""
        num_pairs = num_games // 2
        if num_pairs <= len(self.openings):
            return None
        return (
            f"{self.name} has {len(self.openings)} different openings for {num_pairs} pairs of "
            "games: they repeat"
        )


def _lines(file: Path, content: bytes) -> Iterator[tuple[int, str]]:
    """Yields the lines that hold an opening, with their numbers from 1.

    Raises:
        ConfigError: not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `error.object` holds the bytes without the byte order mark.
        number, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise ConfigError(
            f"--openings {file}, line {number}: byte 0x{byte:02x} is not UTF-8. Expected a text "
            "file in UTF-8. Convert it, e.g. with iconv -f SHIFT_JIS -t UTF-8."
        ) from error
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line

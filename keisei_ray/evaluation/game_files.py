"""Files of a match's games, in formats that other shogi programs read.

One directory holds `game-000012.kifu`, `.csa` and `.usi` for each game, each written in one step
when the game ends. Readers tell KIF's encoding by the ending: `.kifu` is UTF-8, `.kif` Shift-JIS.
"""

import os
from pathlib import Path
from typing import Literal

from keisei_ray.errors import ConfigError
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame
from keisei_ray.shogi.notation import Heading, to_csa, to_kif, to_usi
from keisei_ray.storage.atomic_files import write_atomically

KifEncoding = Literal["utf-8", "shift-jis"]
"""Encoding of the KIF files, and with it the ending of their names."""


def make_directory(directory: Path) -> None:
    """Makes the directory for a match's games if it is not there.

    Raises:
        ConfigError: not a directory that can be written, or it holds games already.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--records {directory}: cannot be made: {error.strerror}. Choose another."
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"--records {directory}: cannot be written. Choose another.")
    if any(directory.glob("game-*")):
        raise ConfigError(f"--records {directory}: holds games already. Choose another.")


class GameFiles:
    """Writes a match's games into a directory."""

    num_replaced: int
    """Characters that Shift-JIS does not have and that were written as `?`."""

    def __init__(
        self,
        directory: Path,
        first: str,
        second: str,
        settings: MatchSettings,
        kif_encoding: KifEncoding = "utf-8",
    ) -> None:
        """Makes the directory if it is not there.

        Args:
            directory: must not hold the games of another match.
            first: name of the match's first player.
            second: name of the second player.
            settings: settings of the match.
            kif_encoding: encoding of the KIF files.

        Raises:
            ConfigError: not a directory that can be written, or it holds games already.
        """
        make_directory(directory)
        self._directory = directory
        self._names = (first, second)
        self._settings = settings
        self._kif_encoding = kif_encoding
        self.num_replaced = 0

    def save(self, game: PlayedGame) -> None:
        """Writes a game in every format, each file in one step.

        Raises:
            ConfigError: the disk is full or the directory has gone.
        """
        black, white = self._names if game.is_black else self._names[::-1]
        book = self._settings.book
        opening = f"opening plies of {book.name}" if book else "random opening plies"
        heading = Heading(
            event=f"game {game.index} of a match with seed {self._settings.seed}",
            black=black,
            white=white,
            comment=f"{game.opening_plies} {opening} (pair {game.pair})\n"
            f"{game.result} by {game.reason}",
        )
        kif = to_kif(game, heading)
        if self._kif_encoding == "utf-8":
            self._write(game, "kifu", kif.encode())
        else:
            # Shift-JIS as Windows has it. Each lost character becomes one `?`.
            data = kif.encode("cp932", errors="replace")
            written = data.decode("cp932")
            self.num_replaced += sum(a != b for a, b in zip(kif, written, strict=True))
            self._write(game, "kif", data)
        self._write(game, "csa", to_csa(game, heading).encode())
        self._write(game, "usi", to_usi(game).encode())

    def _write(self, game: PlayedGame, suffix: str, data: bytes) -> None:
        file = self._directory / f"game-{game.index:06d}.{suffix}"
        try:
            write_atomically(file, data.rstrip() + b"\n")
        except OSError as error:
            raise ConfigError(f"--records {file}: not written: {error.strerror}.") from error

"""Files of many games in one directory, each format in the form that its readers expect.

    csa     games.csa, games separated by lines of a slash, with evaluations
    kif     kif/game-000012.kifu, one file a game, with evaluations
    usi     games.usi, one USI `position` line a game
    hcpe    games.hcpe, positions
    hcpe3   games.hcpe3, games with evaluations and the visits of a search
    psv     games.psv, positions
    pack    games.pack, games with evaluations
    jsonl   games.jsonl, one JSON object a game, opening included

A game is appended when it has ended, whole or not at all. csa, kif and jsonl say how many moves the
random opening has. The others cannot, and begin after it: a player chose every move in them.
"""

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Self

from keisei_ray.errors import ConfigError
from keisei_ray.records import RecordFormat
from keisei_ray.rollouts.finished_game import GameEndReason, GameResult
from keisei_ray.shogi.binary_records import to_hcpe, to_pack, to_psv
from keisei_ray.shogi.game import STANDARD_SFEN, Opening, play_opening
from keisei_ray.shogi.game_record import GameRecord, Visits, moves_from_usi
from keisei_ray.shogi.hcpe3 import to_hcpe3
from keisei_ray.shogi.notation import Heading, to_csa, to_kif, to_usi
from keisei_ray.storage.append_file import append_whole
from keisei_ray.storage.atomic_files import write_atomically

KIF_DIR: Final = "kif"
"""Directory of the KIF files."""
WHOLE_GAMES: Final = ("csa", "kif", "jsonl")
"""Formats that hold a game with its opening."""


@dataclass(frozen=True)
class WrittenGame:
    """A finished game with all that any format can say about it."""

    index: int
    """Number of the game."""
    black: str
    """Name of the player of Black."""
    white: str
    """Name of the player of White."""
    result: GameResult
    """The winner."""
    reason: GameEndReason
    """The rule that ended it."""
    plies: int
    """Number of moves."""
    opening_plies: int
    """Moves at the start that no player chose."""
    moves: str
    """All moves in USI notation, separated by spaces."""
    start_sfen: str
    """Position before the first move; empty for the standard position."""
    evals: tuple[int | None, ...] = ()
    """Evaluation before each move, in centipawns for its mover; None where there is none."""
    visits: tuple[Visits, ...] = ()
    """Visits of a search before each move; empty for none. Empty: there are none at all."""

    def after_opening(self) -> Self:
        """Returns the same game from the position after its opening."""
        if not self.opening_plies:
            return self
        moves = self.moves.split()
        opening = Opening(self.start_sfen or STANDARD_SFEN, " ".join(moves[: self.opening_plies]))
        game = play_opening(opening, max_plies=len(moves) + 1)
        return replace(
            self,
            start_sfen=game.board.to_sfen(),
            moves=" ".join(moves[self.opening_plies :]),
            plies=len(moves) - self.opening_plies,
            evals=self.evals[self.opening_plies :],
            visits=self.visits[self.opening_plies :],
            opening_plies=0,
        )

    def record(self) -> GameRecord:
        """Returns the game as binary formats are written from."""
        return GameRecord(
            self.start_sfen or STANDARD_SFEN,
            moves_from_usi(self.moves.split()),
            self.result,
            self.evals,
            opening_plies=self.opening_plies,
            visits=self.visits,
        )


def _csa(game: WrittenGame) -> bytes:
    return f"{to_csa(game, _heading(game), game.evals).rstrip()}\n".encode()


def _kif(game: WrittenGame) -> bytes:
    return to_kif(game, _heading(game), game.evals).encode()


def _usi(game: WrittenGame) -> bytes:
    return f"{to_usi(game).rstrip()}\n".encode()


def _jsonl(game: WrittenGame) -> bytes:
    record = {"game_id": str(game.index), **asdict(game)}
    del record["visits"]  # They would be most of the file.
    return json.dumps(record).encode() + b"\n"


_WRITERS: Final[dict[RecordFormat, Callable[[WrittenGame], bytes]]] = {
    "csa": _csa,
    "kif": _kif,
    "usi": _usi,
    "hcpe": lambda game: to_hcpe(game.record()),
    "hcpe3": lambda game: to_hcpe3(game.record()),
    "psv": lambda game: to_psv(game.record()),
    "pack": lambda game: to_pack(game.record()),
    "jsonl": _jsonl,
}
CSA_SEPARATOR: Final = b"/\n"
"""Line between two games of a CSA file."""


class RecordFiles:
    """Writes games into a directory. Close it, or use it in a `with` block."""

    def __init__(self, directory: Path, formats: Sequence[RecordFormat]) -> None:
        """Makes the directory and opens the files.

        Args:
            directory: must hold nothing yet.
            formats: formats of the files.

        Raises:
            ConfigError: the directory cannot be written, or holds something.
        """
        self._directory = directory
        self._formats = tuple(dict.fromkeys(formats))
        self._files = contextlib.ExitStack()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise ConfigError(
                    f"--out {directory}: is not empty, and games are not added to those of another "
                    "call. Choose another directory; pretrain takes any number of them."
                )
            if "kif" in self._formats:
                (directory / KIF_DIR).mkdir()
            self._open = {
                name: self._files.enter_context(
                    io.FileIO(directory / f"games.{name}", "ab", closefd=True)
                )
                for name in self._formats
                if name != "kif"
            }
        except OSError as error:
            self._files.close()
            raise ConfigError(
                f"--out {directory}: cannot be written: {error.strerror}. Choose another."
            ) from error

    def save(self, game: WrittenGame) -> None:
        """Writes a game in every format; one in which no player moved only with its opening.

        Raises:
            ConfigError: the disk is full or the directory has gone.
        """
        chosen = game.after_opening()
        try:
            for name in self._formats:
                if not chosen.plies and name not in WHOLE_GAMES:
                    continue
                content = _WRITERS[name](game if name in WHOLE_GAMES else chosen)
                if name == "kif":
                    path = self._directory / KIF_DIR / f"game-{game.index:06d}.kifu"
                    write_atomically(path, content)
                else:
                    file = self._open[name]
                    is_next = name == "csa" and file.tell() > 0
                    append_whole(file, CSA_SEPARATOR + content if is_next else content)
        except OSError as error:
            raise ConfigError(
                f"--out {self._directory}: game {game.index} is not written: {error.strerror}. "
                "The games before it are."
            ) from error

    def close(self) -> None:
        """Closes the files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _heading(game: WrittenGame) -> Heading:
    return Heading(
        event=f"game {game.index}",
        black=game.black,
        white=game.white,
        comment=f"{game.opening_plies} random opening plies\n{game.result} by {game.reason}",
    )

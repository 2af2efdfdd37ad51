"""Finished games of persons in the directory of the run whose network they played.

`human_games.jsonl` has a line for each, `human_games/` the same games as KIF and CSA. The server of
the pages is the only writer of both; training reads and writes neither.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from keisei_ray.errors import RunDirError
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.notation import Heading, SavedGame, to_csa, to_kif
from keisei_ray.storage.append_file import AppendFile
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.json_lines import JsonLinesReader
from keisei_ray.storage.json_lines_writer import encode
from keisei_ray.storage.run_layout import HUMAN_GAMES_DIR, HUMAN_GAMES_FILE

BOOK_PLIES: Final = 20
"""Plies of each game that an opening book has."""


def save_human_game(
    run_dir: Path, game: SavedGame, heading: Heading, facts: Mapping[str, Any]
) -> str:
    """Writes a game as KIF and CSA, then appends its record.

    Args:
        run_dir: directory of the run.
        game: the finished game.
        heading: players and event, for KIF and CSA.
        facts: what else the record says, as JSON types.

    Returns:
        The name that the files have in common, which is the game's `game_id`.

    Raises:
        RunDirError: something cannot be written. The record is the last to be written.
    """
    directory = run_dir / HUMAN_GAMES_DIR
    try:
        directory.mkdir(exist_ok=True)
        name = _free_name(directory)
        write_atomically(directory / f"{name}.kifu", to_kif(game, heading).encode())
        write_atomically(directory / f"{name}.csa", to_csa(game, heading).encode())
        record = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "game_id": name,
            "result": game.result,
            "reason": game.reason,
            "plies": game.plies,
            "opening_plies": 0,
            "moves": game.moves,
            "start_sfen": game.start_sfen,
            **facts,
        }
        file = AppendFile(run_dir / HUMAN_GAMES_FILE)
        try:
            file.append(encode(record))
        finally:
            file.close()
    except OSError as error:
        raise RunDirError(
            f"the game was not saved in {run_dir}: {error.strerror}. Copy it from the page."
        ) from error
    return name


def opening_book(run_dir: Path, plies: int = BOOK_PLIES) -> str:
    """Returns the beginnings of the games as a book that `--openings` reads, each once.

    Args:
        run_dir: directory of the run.
        plies: most plies of a game; its last one is never among them.

    Raises:
        RunDirError: the record exists and cannot be read.
    """
    lines = dict.fromkeys(_openings(JsonLinesReader(run_dir / HUMAN_GAMES_FILE), plies))
    return "".join(f"{line}\n" for line in lines)


def _openings(games: JsonLinesReader, plies: int) -> Iterator[str]:
    for game in games:
        moves, start = game.get("moves"), game.get("start_sfen")
        if not isinstance(moves, str) or not isinstance(start, str):
            continue
        played = moves.split()[:-1][:plies]
        if played:
            yield f"sfen {start or STANDARD_SFEN} moves {' '.join(played)}"


def _free_name(directory: Path) -> str:
    """Returns a name for files that does not exist yet: the time, and a number where needed."""
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    names = (f"{now}-{n}" if n else now for n in count())
    return next(name for name in names if not (directory / f"{name}.kifu").exists())

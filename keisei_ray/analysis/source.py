"""The game or the position to analyze: where it is, how it is written, what is wrong with it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from keisei_ray.analysis.findings import Position, positions_of
from keisei_ray.config.json_text import parse_json
from keisei_ray.errors import ConfigError
from keisei_ray.report.games import end_in_words
from keisei_ray.shogi.game import NO_PLY_CAP, STANDARD_SFEN, Game, check_start
from keisei_ray.shogi.notation import Heading, SavedGame, to_kif, unfinished_to_kif
from keisei_ray.shogi.opening_line import parse_opening
from keisei_ray.shogi.record_reader import ReadRecord, decoded_text, read_csa, read_kif
from keisei_ray.storage.run_layout import GAMES_FILE
from keisei_ray.telemetry.visible_text import shortened

SUFFIXES: Final = (".kif", ".kifu", ".csa", ".usi", ".jsonl")
"""Endings of the files that hold games."""
MAX_BYTES: Final = 16 << 20
"""Largest file of one game that is read; one game takes some 100 kB at most."""
_LINE: Final = re.compile(r"(.+\.(?:usi|jsonl)):([0-9]{1,9})", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A game up to the first move that cannot be played."""

    name: str
    """Where it comes from: the file, or the text of a position."""
    positions: tuple[Position, ...]
    """Positions of the game, one more than moves."""
    moves: tuple[str, ...]
    """Moves of the game in USI notation."""
    start_sfen: str = STANDARD_SFEN
    """Position before the first move."""
    kif: str = ""
    """The game as KIF."""
    black: str = ""
    """Name of the player of Black; empty if not known."""
    white: str = ""
    """Name of the player of White."""
    end: str = ""
    """How the game ended, in words; empty if not known."""
    fault: str = ""
    """Why it ends before its record does; empty if it does not."""
    opening_plies: int = 0
    """Moves at the start that no player chose."""


def read_position(text: str) -> Source:
    """Reads a position as `--sfen` has it: an SFEN or `startpos`, with or without moves.

    Raises:
        ConfigError: not a position, an impossible one, an illegal move, or the game is over there.
    """
    try:
        opening = parse_opening(text)
    except ValueError as error:
        raise ConfigError(
            f"--sfen '{shortened(text)}' is not a position. Expected 'SFEN', "
            "'startpos moves 7g7f 3c3d', or 'sfen SFEN moves ...'."
        ) from error
    moves = tuple(opening.moves.split())
    positions, fault = _play(f"--sfen {shortened(text)!r}", opening.sfen, moves)
    last = positions[-1]
    if last.verdict is not None:
        fault = f"the game is over there: {last.verdict.reason}"
    if fault:
        raise ConfigError(f"--sfen '{shortened(text)}': {fault}. Expected a game that goes on.")
    return Source(text, (last,), (), last.game.board.to_sfen())


def read_game(text: str) -> Source:
    """Reads the game in a file.

    Args:
        text: path of the file. Of a file with one game a line, `.usi` or `.jsonl`, the last game,
            or that of line N: `FILE:N`.

    Raises:
        ConfigError: the file cannot be read, is not of a known kind, is damaged, or has no game.
    """
    named = _LINE.fullmatch(text)
    file, number = (named[1], int(named[2])) if named else (text, None)
    suffix = Path(file).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{text}: files of games end in {', '.join(SUFFIXES)}. Convert it, or rename it."
        )
    if suffix == ".jsonl":
        return _read_saved(text, *_line(text, Path(file), number, '"moves"'))
    if suffix == ".usi":
        return _read_usi(text, *_line(text, Path(file), number, ""))
    content = decoded(text, _bytes(text, Path(file)))
    try:
        record = read_csa(content) if suffix == ".csa" else read_kif(content)
    except ValueError as error:
        what = shortened(str(error), 500)
        raise ConfigError(
            f"{text} cannot be read as {suffix[1:].upper()}: {what}. Expected the record of a game "
            "of standard shogi."
        ) from error
    return _from_record(text, record)


def decoded(name: str, content: bytes) -> str:
    """Returns the text of a record in UTF-8, with or without its mark, or Shift-JIS.

    Raises:
        ConfigError: the content is empty, or has another encoding.
    """
    if not content.strip():
        raise ConfigError(f"{name} is empty, expected a game.")
    text = decoded_text(content)
    if text is not None:
        return text
    raise ConfigError(
        f"{name} is neither UTF-8 nor Shift-JIS. Save it in one of these, e.g. with iconv -t UTF-8."
    )


def _from_record(name: str, record: ReadRecord) -> Source:
    positions, fault = _play(name, record.start_sfen, record.moves)
    return Source(
        name,
        positions,
        record.moves[: len(positions) - 1],
        record.start_sfen,
        record.kif,
        record.black,
        record.white,
        record.end or _end(positions),
        record.fault or fault,
        min(record.opening_plies, len(positions) - 1),
    )


def _read_usi(name: str, number: int, line: str) -> Source:
    try:
        opening = parse_opening(line)
    except ValueError as error:
        raise ConfigError(
            f"{name}, line {number}: '{shortened(line, 60)}' is not a game. Expected "
            "'position startpos moves 7g7f 3c3d' or 'sfen SFEN moves ...'."
        ) from error
    moves = opening.moves.split()
    positions, fault = _play(name, opening.sfen, moves)
    moves = moves[: len(positions) - 1]
    kif = unfinished_to_kif(opening.sfen, moves)
    end = _end(positions)
    return Source(name, positions, tuple(moves), opening.sfen, kif, end=end, fault=fault)


def _read_saved(name: str, number: int, line: str) -> Source:
    """Reads a game of `games.jsonl` or `human_games.jsonl`."""
    try:
        game = parse_json(line.encode())
    except ValueError as error:
        raise ConfigError(
            f"{name}, line {number} is not JSON. Expected a game of {GAMES_FILE}."
        ) from error
    if not isinstance(game, dict) or not _has_moves(game):
        raise ConfigError(
            f"{name}, line {number} is not a game with its moves, which are saved where "
            "tracking.save_moves is true. Choose another line."
        )
    sfen = game.get("start_sfen") or STANDARD_SFEN
    moves = game["moves"].split()
    positions, fault = _play(name, sfen, moves)
    moves = moves[: len(positions) - 1]
    black, white = _names(game)
    event = shortened(f"game {game.get('game_id', number)}")
    heading = Heading(event=event, black=black, white=white)
    opening = game.get("opening_plies")
    end = ""
    try:
        saved = SavedGame(game["result"], game["reason"], len(moves), " ".join(moves), sfen)
        kif = unfinished_to_kif(sfen, moves, heading) if fault else to_kif(saved, heading)
        end = "" if fault else end_in_words(saved.result, saved.reason)
    except (KeyError, TypeError, ValueError):
        # A result of another program, or none: the moves are what counts.
        kif = unfinished_to_kif(sfen, moves, heading)
    return Source(
        name,
        positions,
        tuple(moves),
        sfen,
        kif,
        black,
        white,
        end,
        fault,
        # Any number may stand in a damaged line.
        min(max(0, opening), len(moves)) if isinstance(opening, int) else 0,
    )


def _names(game: Mapping[str, Any]) -> tuple[str, str]:
    """Names of Black and White in a saved game, as far as it tells them."""
    version = game.get("weights_version")
    opponent = shortened(str(game.get("opponent") or ""))
    if color := game.get("human_color"):
        # The version there is that of the opponent.
        names = ("Human", opponent)
    else:
        color = game.get("learner_color")
        learner = "" if version is None else shortened(f"v{version}")
        names = (learner, opponent or learner)
    return (names[1], names[0]) if color == "white" else names


def _has_moves(game: Mapping[str, Any]) -> bool:
    texts = (game.get("moves"), game.get("start_sfen") or "")
    return all(isinstance(text, str) for text in texts) and bool(game["moves"])


def _play(name: str, sfen: str, moves: Sequence[str]) -> tuple[tuple[Position, ...], str]:
    """Plays the moves up to the first that is illegal; returns all positions and what is wrong.

    Raises:
        ConfigError: the start position is impossible, or the game is over there.
    """
    try:
        check_start(sfen)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    positions: list[Position] = []
    try:
        for position in positions_of(Game(sfen, max_plies=NO_PLY_CAP), moves):
            positions.append(position)
    except ValueError as error:
        return tuple(positions), str(error)
    return tuple(positions), ""


def _end(positions: Sequence[Position]) -> str:
    """How the rules have ended a game at its last position, in words; empty if it could go on."""
    game, verdict, _ = positions[-1]
    if verdict is None:
        return ""
    is_black = (game.turn == 1) == (verdict.reward > 0)
    result = "draw" if verdict.reward == 0 else "black_win" if is_black else "white_win"
    return end_in_words(result, verdict.reason)


def _bytes(name: str, file: Path) -> bytes:
    """Returns the content of a file of one game."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}. Name a file.") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES >> 20} MiB, expected one game.")
    return content


def _line(name: str, file: Path, number: int | None, must_have: str) -> tuple[int, str]:
    """Returns a line of a file with its number from 1; the last one that has a text if None."""
    found: tuple[int, bytes] | None = None
    try:
        with file.open("rb") as opened:
            for n, line in enumerate(opened, 1):
                is_it = n == number if number else line.strip() and must_have.encode() in line
                if is_it:
                    found = n, line
                if n == number:
                    break
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}. Name a file.") from error
    if found is None and number is not None:
        raise ConfigError(f"{name}: there is no line {number}. Expected one game a line.")
    if found is None:
        raise ConfigError(f"{name} is empty or has no game. Expected one game a line.")
    return found[0], decoded(f"{name}, line {found[0]},", found[1]).strip()

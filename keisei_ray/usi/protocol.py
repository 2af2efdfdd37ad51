"""Lines of the USI protocol: what a client says, read into commands, and the lines of an answer.

Pure functions on text. A line that makes no sense raises `ProtocolError`. Only `go` is read as far
as it can be, since a client waits for its answer: `Go.complaints` has what was left out.

Source: the USI protocol, http://shogidokoro.starfree.jp/usi.html.
"""

import re
from dataclasses import dataclass, fields
from typing import Final, Literal, get_args

from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.telemetry.visible_text import shortened

Word = Literal["usi", "isready", "usinewgame", "stop", "ponderhit", "gameover", "quit"]
"""Commands without arguments that matter."""
_WORDS: Final = get_args(Word)
_NUMBER: Final = re.compile(r"-?[0-9]+")
_OPTION: Final = re.compile(r"setoption\s+name\s+(?P<name>.+?)(?:\s+value(?:\s+(?P<value>.*))?)?")
_MOST: Final = 10**15
"""Largest limit; larger ones count as this one."""
INFINITE_MS: Final = _MOST
"""Time of `go mate infinite`, and of `go mate` without a number."""


class ProtocolError(ValueError):
    """A line that is not a command; the message has one line."""


@dataclass(frozen=True)
class SetOption:
    """The command `setoption`."""

    name: str
    value: str
    """Empty if none is given."""


@dataclass(frozen=True)
class Position:
    """The command `position`; nothing is known about its legality."""

    sfen: str
    moves: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """Limits of a `go`, in milliseconds; None: not given."""

    btime: int | None = None
    """Time that Black has left."""
    wtime: int | None = None
    """Time that White has left."""
    byoyomi: int | None = None
    """Time for each move when that is used up."""
    binc: int | None = None
    """Time that Black gains with each move."""
    winc: int | None = None
    """Time that White gains with each move."""
    movetime: int | None = None
    """Time for this move."""
    nodes: int | None = None
    """Simulations for this move."""
    mate: int | None = None
    """Time in which to look for a mate; `INFINITE_MS`: until told to stop."""
    infinite: bool = False
    """Whether the answer waits for `stop`."""
    ponder: bool = False
    """Whether the opponent is still to move: the answer waits for `ponderhit` or `stop`."""


@dataclass(frozen=True)
class Go:
    """The command `go`."""

    limits: Limits
    complaints: tuple[str, ...] = ()
    """Words that were left out, and why."""


Command = Word | SetOption | Position | Go

_FLAGS: Final = ("infinite", "ponder")
_NUMBERS: Final = tuple(f.name for f in fields(Limits) if f.name not in _FLAGS)


def parse(line: str) -> Command | None:
    """Reads a line; None if it is empty.

    Raises:
        ProtocolError: it is no command.
    """
    words = line.split()
    if not words:
        return None
    match words[0]:
        case "setoption":
            return _parse_option(line)
        case "position":
            return _parse_position(words[1:], line)
        case "go":
            return _parse_go(words[1:])
    for word in _WORDS:
        if words[0] == word:
            return word  # type: ignore[no-any-return]
    raise ProtocolError(f"unknown command '{shortened(line)}'")


def _parse_option(line: str) -> SetOption:
    found = _OPTION.fullmatch(line.strip())
    if found is None:
        raise ProtocolError(f"'{shortened(line)}': expected 'setoption name NAME [value VALUE]'")
    return SetOption(found["name"], found["value"] or "")


def _parse_position(words: list[str], line: str) -> Position:
    end = words.index("moves") if "moves" in words else len(words)
    moves = tuple(words[end + 1 :])
    if words[:end] == ["startpos"]:
        return Position(STANDARD_SFEN, moves)
    if words[:1] == ["sfen"] and end > 1:
        return Position(" ".join(words[1:end]), moves)
    raise ProtocolError(
        f"'{shortened(line)}': expected 'position startpos|sfen SFEN [moves MOVE ...]'"
    )


def _parse_go(words: list[str]) -> Go:
    found: dict[str, int | bool] = {}
    complaints = []
    rest = words[::-1]
    while rest:
        word = rest.pop()
        if word in _FLAGS:
            found[word] = True
        elif word not in _NUMBERS:
            complaints.append(f"go: unknown word '{shortened(word)}'")
        else:
            text = rest[-1] if rest else ""
            if word == "mate":
                found[word] = INFINITE_MS
            if _NUMBER.fullmatch(text):
                found[word] = _limit(text)
            elif word != "mate" or text not in ("", "infinite", *_NUMBERS, *_FLAGS):
                complaints.append(f"go: {word} '{shortened(text)}' is not a number")
            is_next_word = text in _NUMBERS or text in _FLAGS
            if rest and (not is_next_word or (word, text) == ("mate", "infinite")):
                rest.pop()
    return Go(Limits(**found), tuple(complaints))  # type: ignore[arg-type]


def _limit(number: str) -> int:
    """Value of a limit, from 0 on. Python reads no number of thousands of digits."""
    if number.startswith("-"):
        return 0
    digits = number.lstrip("0")
    return int(digits or "0") if len(digits) < len(str(_MOST)) else _MOST


@dataclass(frozen=True)
class Info:
    """Content of one `info` line about a move."""

    depth: int
    """Plies of the line."""
    seldepth: int
    """Plies of the longest line that the search has looked at."""
    nodes: int
    """Simulations behind the position."""
    nps: int
    """Simulations of this search in a second."""
    time_ms: int
    """Milliseconds of this search."""
    hashfull: int
    """Thousandths of the memory for the tree that are in use."""
    score: str
    """Score as `cp N` or `mate N`."""
    pv: tuple[str, ...]
    """Moves of the line; at least one."""
    multipv: int | None = None
    """Rank of the line, from 1; None if only one is shown."""

    def line(self) -> str:
        """The line as it is sent. Readers expect the moves at its end."""
        multipv = "" if self.multipv is None else f" multipv {self.multipv}"
        return (
            f"info depth {self.depth} seldepth {self.seldepth} time {self.time_ms} "
            f"nodes {self.nodes} nps {self.nps} hashfull {self.hashfull}{multipv} "
            f"score {self.score} pv {' '.join(self.pv)}"
        )


def progress(time_ms: int, nodes: int, hashfull: int) -> str:
    """An `info` line of a search that has no line of moves to show yet; see `Info`."""
    nps = round(1000 * nodes / max(time_ms, 1))
    return f"info time {time_ms} nodes {nodes} nps {nps} hashfull {hashfull}"


def bestmove(move: str, ponder: str = "") -> str:
    """The answer to `go`.

    Args:
        move: a move, `resign` or `win`.
        ponder: the reply that is expected; empty: none.
    """
    return f"bestmove {move}" + (f" ponder {ponder}" if ponder else "")


def text(message: str) -> str:
    """A line that a client shows to its user."""
    return f"info string {message}"

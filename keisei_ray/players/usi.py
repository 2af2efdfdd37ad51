"""A shogi engine that speaks USI: what a person writes to name one, and how it is spoken to.

    usi:COMMAND?KEY=VALUE&KEY=VALUE

COMMAND is split as a shell would, but no shell runs it. `nodes`, `byoyomi-ms`, `timeout-s` and
`processes` are ours; any other key is an option of the engine's, `Skill Level=-20`. `%XX` stands
for a character as in a URL, needed for `&` and `%` in a value.

Source: the USI protocol, http://shogidokoro.starfree.jp/usi.html.
"""

import difflib
import itertools
import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar
from urllib.parse import unquote

from keisei_ray.errors import EngineDiedError, EngineTimeoutError, OpponentError
from keisei_ray.players.engine_process import EngineProcess

USI_PREFIX = "usi:"
USI_SYNTAX = "usi:COMMAND[?nodes=N&byoyomi-ms=MS&timeout-s=S&processes=K&OPTION=VALUE...]"
"""What an engine's spec looks like."""

DEFAULT_BYOYOMI_MS = 100
"""Time a move if a spec names no limit; the one limit that every USI engine knows."""
DEFAULT_TIMEOUT_S = 30.0
MAX_PROCESSES = 64
_GAMES_DIR = "/usr/games"
"""Where Debian puts engines, often outside PATH."""
_UNLISTED_OPTIONS = ("USI_Hash", "USI_Ponder")
"""Options that the protocol lets an engine have without naming them."""
_CLOSE_GRACE_S = 1.0

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class UsiSpec:
    """An engine, its limits and its options: all that a match needs to know of it."""

    text: str
    """The spec as it was written; the engine's name in results."""
    command: tuple[str, ...]
    """Program and arguments."""
    nodes: int | None
    """Nodes a move; None: limited by time."""
    byoyomi_ms: int | None
    """Milliseconds a move; None: limited by nodes."""
    timeout_s: float
    """Longest wait for an answer, beyond the time that a move is given."""
    processes: int
    """Most engine processes that share the games of a match."""
    options: tuple[tuple[str, str], ...]
    """The engine's own options, in the order written."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a spec.

        Raises:
            OpponentError: no command, or a key or value that does not make sense.
        """
        command, _, query = text.removeprefix(USI_PREFIX).partition("?")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise _bad(text, f"the command cannot be split: {error}") from error
        if not words or not text.isprintable():
            raise _bad(text, "no command" if not words else "control characters")
        values: dict[str, str] = {}
        for item in query.split("&") if query else ():
            key, equals, value = item.partition("=")
            key = unquote(key).strip()
            if not key or not equals or key in values:
                what = "is given twice" if key in values else "is not KEY=VALUE"
                raise _bad(text, f"{item!r} {what}")
            values[key] = unquote(value).strip()
        nodes = _number(text, values, "nodes", int, 1, 10**12)
        byoyomi_ms = _number(text, values, "byoyomi-ms", int, 1, 10**7)
        if nodes is not None and byoyomi_ms is not None:
            raise _bad(text, "both nodes and byoyomi-ms; one limit decides")
        if nodes is None and byoyomi_ms is None:
            byoyomi_ms = DEFAULT_BYOYOMI_MS
        timeout_s = _number(text, values, "timeout-s", float, 0.01, 86_400.0)
        processes = _number(text, values, "processes", int, 1, MAX_PROCESSES)
        return cls(
            text=text,
            command=words,
            nodes=nodes,
            byoyomi_ms=byoyomi_ms,
            timeout_s=DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s,
            processes=min(4, os.cpu_count() or 1) if processes is None else processes,
            options=tuple(values.items()),
        )

    @property
    def go(self) -> str:
        """The command that makes the engine think."""
        if self.nodes is not None:
            return f"go nodes {self.nodes}"
        return f"go btime 0 wtime 0 byoyomi {self.byoyomi_ms}"

    @property
    def move_timeout_s(self) -> float:
        """Longest wait for a move."""
        return self.timeout_s + (self.byoyomi_ms or 0) / 1000


class UsiEngine:
    """One engine process. `prepare` it, then ask it for moves."""

    def __init__(self, spec: UsiSpec) -> None:
        """Starts the program and says nothing to it yet.

        Raises:
            OpponentError: it is not found or cannot be started.
        """
        self._spec = spec
        self._process = _start(spec)
        self.name = spec.command[0]
        """How the engine calls itself, once it has."""

    def prepare(self) -> None:
        """The handshake: sets the options and waits until the engine is ready.

        Raises:
            OpponentError: it does not speak USI, or has no such option.
        """
        try:
            self._handshake()
        except (EngineDiedError, EngineTimeoutError) as error:
            raise type(error)(
                f"engine {shlex.join(self._spec.command)!r} {error}. Expected a program that "
                "answers 'usi' with 'usiok' and 'isready' with 'readyok'; try it by hand."
            ) from error

    def best_move(self, position: str) -> str:
        """What the engine answers to a position.

        Args:
            position: a USI `position` command.

        Returns:
            The word after `bestmove`: a move, `resign`, `win`, or whatever it was; empty if none.

        Raises:
            EngineDiedError, EngineTimeoutError: no answer came. The engine is of no more use.
        """
        self._process.forget_lines()
        self._send(position)
        deadline = time.monotonic() + self._spec.move_timeout_s
        self._send(self._spec.go)
        while True:
            words = self._process.read_line(deadline=deadline, awaited="bestmove").split()
            if words[:1] == ["bestmove"]:
                return words[1] if len(words) > 1 else ""

    def kill(self) -> None:
        """Ends the engine at once; may be called from another thread."""
        self._process.kill()

    def close(self) -> None:
        """Asks the engine to quit, and kills it if it does not."""
        self._process.close(last_line="quit", grace_s=min(_CLOSE_GRACE_S, self._spec.timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handshake(self) -> None:
        offered: dict[str, str] = {}
        self._send("usi")
        self._await("usiok", lambda line: self._introduction(line, offered))
        for name, value in self._spec.options:
            _check_option(self._spec, name, value, offered)
            self._send(f"setoption name {name}" + (f" value {value}" if value else ""))
        self._send("isready")
        self._await("readyok", lambda _: None)
        self._send("usinewgame")

    def _introduction(self, line: str, offered: dict[str, str]) -> None:
        """Takes a line between `usi` and `usiok`: the engine's name, and options by name."""
        if line.startswith("id name "):
            self.name = line.removeprefix("id name ").strip()
        elif line.startswith("option name "):
            name, _, description = line.removeprefix("option name ").partition(" type ")
            offered[name.strip()] = description.strip()

    def _send(self, line: str) -> None:
        self._process.send(line, timeout_s=self._spec.timeout_s)

    def _await(self, word: str, take: Callable[[str], None]) -> None:
        deadline = time.monotonic() + self._spec.timeout_s
        while (line := self._process.read_line(deadline=deadline, awaited=word).strip()) != word:
            take(line)


def _start(spec: UsiSpec) -> EngineProcess:
    program, *arguments = spec.command
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), _GAMES_DIR])
    found = shutil.which(program, path=path)
    if found is None:
        raise OpponentError(
            f"engine {program!r} is not found: expected a program on PATH or the path of one. "
            "Install it, or give its full path."
        )
    try:
        return EngineProcess([found, *arguments])
    except OSError as error:
        raise OpponentError(f"engine {found!r} cannot be started: {error.strerror}.") from error


def _check_option(spec: UsiSpec, name: str, value: str, offered: dict[str, str]) -> None:
    """Refuses an option that the engine does not have, or a value outside what it names."""
    if name not in offered:
        if name in _UNLISTED_OPTIONS:
            return
        near = difflib.get_close_matches(name, offered, n=1, cutoff=0.0)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise _bad(spec.text, f"the engine has no option {name!r}.{hint}")
    if not _fits(value, offered[name].split()):
        raise _bad(spec.text, f"option {name!r} = {value!r}, the engine says {offered[name]!r}")


def _fits(value: str, description: list[str]) -> bool:
    """Whether a value is within what an `option` line says after `type`."""
    pairs = list(itertools.pairwise(description))
    match description[:1]:
        case ["spin"]:
            limits = dict(pairs)
            try:
                return int(limits.get("min", value)) <= int(value) <= int(limits.get("max", value))
            except ValueError:
                return False
        case ["check"]:
            return value in ("true", "false")
        case ["combo"]:
            return ("var", value) in pairs
        case _:
            return True


def _number(
    text: str,
    values: dict[str, str],
    key: str,
    kind: type[_Number],
    low: _Number,
    high: _Number,
) -> _Number | None:
    """Takes a number out of the values, None if it is not there."""
    if key not in values:
        return None
    value = values.pop(key)
    try:
        number: _Number | None = kind(value)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise _bad(text, f"{key} = {value!r}, expected a number from {low} to {high}")
    return number


def _bad(text: str, what: str) -> OpponentError:
    end = "" if what.endswith("?") else "."
    return OpponentError(f"opponent {text!r}: {what}{end} Expected {USI_SYNTAX}.")

"""A shogi engine in a process of its own, spoken to in the USI protocol.

Source: the USI protocol, http://shogidokoro.starfree.jp/usi.html.
"""

import difflib
import itertools
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Self

from keisei_ray.config.player_spec import EngineSpec, bad_player
from keisei_ray.errors import EngineDiedError, EngineTimeoutError, PlayerError
from keisei_ray.players.engine_process import EngineProcess
from keisei_ray.shogi.game_record import MAX_EVAL, clipped_eval
from keisei_ray.telemetry.visible_text import shortened

_GAMES_DIR = "/usr/games"
"""Directory in which Debian installs engines, often outside PATH."""
_UNLISTED_OPTIONS = ("USI_Hash", "USI_Ponder")
"""Options that an engine may have without listing them, by the protocol."""
MAX_NAME = 80
"""Characters of the name that an engine gives itself."""
_CENTIPAWNS = re.compile(r"[+-]?[0-9]{1,15}")
_CLOSE_GRACE_S = 1.0
"""Seconds that an engine has to quit when asked."""


class UsiEngine:
    """One engine process. Call `prepare`, then ask it for moves."""

    def __init__(self, spec: EngineSpec) -> None:
        """Starts the program, without the handshake.

        Raises:
            PlayerError: it is not found or cannot be started.
        """
        self._spec = spec
        self._process = _start(spec)
        self.name = spec.command[0]
        """Name that the engine gives itself; before the handshake that of the program."""
        self.evaluation: int | None = None
        """The engine's last evaluation in `best_move`, see `centipawns_of`; None if it said none.
        """

    def prepare(self) -> None:
        """Performs the handshake, sets the options and waits until the engine is ready.

        Raises:
            PlayerError: it does not speak USI, or lacks an option.
        """
        try:
            self._handshake()
        except (EngineDiedError, EngineTimeoutError) as error:
            raise type(error)(
                f"engine {shlex.join(self._spec.command)!r} {error}. Expected a program that "
                "answers 'usi' with 'usiok' and 'isready' with 'readyok'; try it by hand."
            ) from error

    def best_move(self, position: str) -> str:
        """Asks the engine for its move in a position; blocks until it answers.

        Args:
            position: a USI `position` command.

        Returns:
            The word after `bestmove`: a move, `resign`, `win` or anything else; empty if none.

        Raises:
            EngineDiedError, EngineTimeoutError: no answer came. The engine is then unusable.
        """
        self._process.forget_lines()
        self.evaluation = None
        self._send(position)
        deadline = time.monotonic() + self._spec.timeout_s + (self._spec.byoyomi_ms or 0) / 1000
        self._send(go_command(self._spec))
        while True:
            words = self._process.read_line(deadline=deadline, awaited="bestmove").split()
            if words[:1] == ["bestmove"]:
                return words[1] if len(words) > 1 else ""
            if words[:1] == ["info"] and "score" in words and _is_of_best_line(words):
                self.evaluation = centipawns_of(words)

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
        """Takes the engine's name or an option from a line between `usi` and `usiok`.

        Args:
            line: the line.
            offered: gets the option, name to description.
        """
        if line.startswith("id name "):
            self.name = shortened(line.removeprefix("id name ").strip(), MAX_NAME)
        elif line.startswith("option name "):
            name, _, description = line.removeprefix("option name ").partition(" type ")
            offered[name.strip()] = description.strip()

    def _send(self, line: str) -> None:
        self._process.send(line, timeout_s=self._spec.timeout_s)

    def _await(self, word: str, take: Callable[[str], None]) -> None:
        deadline = time.monotonic() + self._spec.timeout_s
        while (line := self._process.read_line(deadline=deadline, awaited=word).strip()) != word:
            take(line)


def _is_of_best_line(info: Sequence[str]) -> bool:
    """Returns whether an `info` line is about the best of the lines that an engine looks at."""
    if "string" in info:
        return False  # Free text.
    at = info.index("multipv") if "multipv" in info else None
    return at is None or list(info[at + 1 : at + 2]) == ["1"]


def centipawns_of(info: Sequence[str]) -> int | None:
    """Returns the score of an `info` line, in centipawns for the side to move.

    A mate counts as `MAX_EVAL`. None if the line says something else.
    """
    at = info.index("score")
    match info[at + 1 : at + 3]:
        case ["cp", number] if _CENTIPAWNS.fullmatch(number):
            return clipped_eval(int(number))
        case ["mate", plies]:
            return -MAX_EVAL if plies.startswith("-") else MAX_EVAL
    return None


def go_command(spec: EngineSpec) -> str:
    """Returns the line that makes an engine think about the position, within its limit."""
    if spec.nodes is not None:
        return f"go nodes {spec.nodes}"
    return f"go btime 0 wtime 0 byoyomi {spec.byoyomi_ms}"


def _start(spec: EngineSpec) -> EngineProcess:
    program, *arguments = spec.command
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), _GAMES_DIR])
    found = shutil.which(program, path=path)
    if found is None:
        raise PlayerError(
            f"engine {program!r} is not found: expected a program on PATH or the path of one. "
            "Install it, or give its full path."
        )
    try:
        return EngineProcess([found, *arguments])
    except OSError as error:
        raise PlayerError(f"engine {found!r} cannot be started: {error.strerror}.") from error


def _check_option(spec: EngineSpec, name: str, value: str, offered: dict[str, str]) -> None:
    """Refuses an option that the engine does not have, or a value that it does not allow."""
    if name not in offered:
        if name in _UNLISTED_OPTIONS:
            return
        near = difflib.get_close_matches(name, offered, n=1, cutoff=0.0)
        hint = f" Did you mean '{shortened(near[0])}'?" if near else ""
        raise bad_player(spec.text, f"the engine has no option {name!r}.{hint}")
    if not _fits(value, offered[name].split()):
        says = shortened(offered[name])
        raise bad_player(spec.text, f"option {name!r} = {value!r}, the engine says '{says}'")


def _fits(value: str, description: list[str]) -> bool:
    """Returns whether a value fits the description of an option, the text after `type`."""
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
            # A value may have blanks, as in `var Very Solid`.
            choices = " ".join(description).split(" var ")[1:]
            return value in choices
        case _:
            return True

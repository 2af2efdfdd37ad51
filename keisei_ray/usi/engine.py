"""The conversation with a client: what each command does, and that every `go` gets one answer.

One thread calls this class and nothing here waits. What takes time is a job for the thinker, whose
reports come back by `take_report`. The time at which an answer is due is `due`: when it has passed,
`answer_in_time` answers with the best move known by then.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from keisei_ray import __version__
from keisei_ray.errors import PositionError
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.usi.messages import (
    Answered,
    Control,
    Failed,
    Forget,
    Job,
    Load,
    Noted,
    Ready,
    Report,
    Shown,
    Think,
)
from keisei_ray.usi.options import OptionError, Options, declarations, with_option
from keisei_ray.usi.position import Plies, any_move, decided, described_game
from keisei_ray.usi.protocol import (
    Go,
    Limits,
    Position,
    ProtocolError,
    SetOption,
    bestmove,
    parse,
    text,
)
from keisei_ray.usi.time_control import Budget, budget, patience_s

NAME: Final = f"Keisei Ray {__version__}"
AUTHOR: Final = "The Keisei Ray developers"
STOP_S: Final = 1.0
"""Seconds in which an answer is given after `stop`, with or without the thinker."""
DELAY_MEMORY: Final = 0.995
"""Factor by which the longest delay of a busy machine fades, some twenty times a second."""
_NO_RUSH: Final = Budget(None, None, None)
_STARTING_POSITION: Final = Position(STANDARD_SFEN, ())


@dataclass
class _Awaited:
    """A `go` that has not been answered."""

    number: int
    game: Game | None
    """Game to move in; None: the position was refused."""
    limits: Limits
    budget: Budget
    is_held: bool
    """Whether the answer waits for `stop` or `ponderhit`."""
    control: Control = field(default_factory=Control)
    due: float | None = None
    """Time by which it is answered, on the clock of `time.monotonic`; None: no such time."""
    patience_s: float = 0.0
    """Seconds that it may wait beyond that for a move of the thinker if none is known."""
    is_late: bool = False
    """Whether it has begun to do so."""
    plies: Plies | None = None
    """The game, where it is searched for a move."""
    answer: str = ""
    """Line of the answer once it is known."""


class Engine:
    """State of a conversation.

    Attributes:
        exit_code: code with which the process is to end; None: the conversation goes on.
    """

    def __init__(
        self,
        options: Options,
        *,
        send: Callable[[str], None],
        complain: Callable[[str], None],
        give: Callable[[Job], None],
    ) -> None:
        """Args:
        options: values before the client sets any.
        send: writes a line to the client.
        complain: writes a line where the client's user may look for the cause of a problem.
        give: gives a job to the thinker.
        """
        self._options = options
        self._send, self._complain, self._give = send, complain, give
        self._position: Position | None = _STARTING_POSITION
        self._numbers = 0
        self._delay_s = 0.0
        self._awaited: _Awaited | None = None
        self._last: _Awaited | None = None
        """The last search for a move in this game."""
        self.exit_code: int | None = None

    @property
    def due(self) -> float | None:
        """Time at which `answer_in_time` is to be called, on the clock of `time.monotonic`."""
        return self._awaited.due if self._awaited else None

    def take_line(self, line: str) -> None:
        """Does what a line asks for; a line that makes no sense is complained about."""
        try:
            command = parse(line)
            match command:
                case SetOption(name, value):
                    self._options = with_option(self._options, name, value)
                case Position():
                    self._take_position(command)
                case Go(limits, complaints):
                    for complaint in complaints:
                        self._complain(complaint)
                    self._go(limits)
                case "usi":
                    self._introduce()
                case "isready":
                    self._answer_now()
                    self._give(Load(self._next_number(), self._options))
                case "usinewgame":
                    self._answer_now()
                    self._last = None
                    self._give(Forget())
                case "stop" | "gameover":
                    self._stop()
                case "ponderhit":
                    self._ponderhit()
                case "quit":
                    self.exit_code = 0
        except (ProtocolError, OptionError, PositionError) as error:
            if line.split()[:1] == ["position"]:
                self._position = None  # No move for a position that the client has left.
            self._complain(str(error))

    def take_report(self, report: Report) -> None:
        """Takes a report of the thinker."""
        match report:
            case Ready():
                self._send("readyok")
            case Failed(number, message, is_fatal):
                self._take_failure(number, message, is_fatal)
            case Noted(message):
                self._complain(message)
                self._send(text(message))
            case Shown(number, lines):
                if self._awaits(number):
                    for line in lines:
                        self._send(line)
            case Answered(number, line):
                if self._awaits(number):
                    self._take_answer(line)

    def answer_in_time(self) -> None:
        """Answers with the best move known so far if the answer is due."""
        awaited = self._awaited
        if awaited is None or awaited.due is None:
            return
        is_due, is_move_known = time.monotonic() >= awaited.due, bool(awaited.control.best)
        if is_due and awaited.patience_s and not is_move_known:
            awaited.due += awaited.patience_s
            awaited.patience_s, awaited.is_late = 0.0, True
        elif is_due or (awaited.is_late and is_move_known):
            self._answer_now()

    def note_delay(self, seconds: float) -> None:
        """Takes how late this process woke up; on a busy machine moves are given that much less."""
        self._delay_s = max(seconds, DELAY_MEMORY * self._delay_s)

    def end(self) -> None:
        """Ends a search under way; nothing is sent any more."""
        if self._awaited is not None:
            self._awaited.control.is_stopped = True

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _awaits(self, number: int) -> bool:
        return self._awaited is not None and self._awaited.number == number

    def _introduce(self) -> None:
        for line in (
            f"id name {NAME}",
            f"id author {AUTHOR}",
            *declarations(self._options),
            "usiok",
        ):
            self._send(line)

    def _take_position(self, position: Position) -> None:
        described_game(position)
        self._position = position

    def _go(self, limits: Limits) -> None:
        """Begins to think; an earlier `go` that is still open is answered first."""
        self._answer_now()
        started = time.monotonic()
        game, given = None, _NO_RUSH
        if self._position is not None:
            game = described_game(self._position, self._options.max_plies)
            given = budget(
                limits,
                turn=game.turn,
                ply=game.board.game_ply,
                margin_ms=self._options.margin_ms + round(1000 * self._delay_s),
                simulations=self._options.simulations,
            )
        is_held = limits.infinite or limits.ponder
        awaited = _Awaited(self._next_number(), game, limits, given, is_held)
        self._awaited = awaited
        if not is_held:
            self._start_clock(awaited, started)
        answer = _without_search(game, is_mate=limits.mate is not None)
        if answer:
            self._take_answer(answer)
            return
        assert game is not None
        plies = Plies.of(game)
        if limits.mate is None:
            if self._last is not None and self._last.plies == plies:
                awaited.control.best = self._last.control.best
            awaited.plies, self._last = plies, awaited
        self._give(
            Think(
                awaited.number,
                plies,
                self._options,
                given,
                awaited.control,
                started,
                is_analysis=limits.infinite,
                is_mate=limits.mate is not None,
            )
        )

    def _start_clock(self, awaited: _Awaited, now: float) -> None:
        given = awaited.budget
        if given.target_s is not None:
            awaited.control.stop_at = now + given.target_s
        if given.limit_s is not None:
            awaited.due = now + given.limit_s
            if awaited.limits.mate is None:
                awaited.patience_s = patience_s(given.limit_s, self._options.margin_ms)

    def _ponderhit(self) -> None:
        awaited = self._awaited
        if awaited is None or not (awaited.is_held and awaited.limits.ponder):
            raise ProtocolError("ponderhit: expected it after 'go ponder' only")
        awaited.is_held = awaited.limits.infinite
        self._start_clock(awaited, time.monotonic())
        self._send_answer()

    def _stop(self) -> None:
        """Ends a search, whose answer follows; there need not be one."""
        awaited = self._awaited
        if awaited is None:
            return
        awaited.is_held = False
        awaited.control.is_stopped = True
        awaited.patience_s = 0.0
        latest = time.monotonic() + STOP_S
        awaited.due = latest if awaited.due is None else min(awaited.due, latest)
        self._send_answer()

    def _take_answer(self, line: str) -> None:
        assert self._awaited is not None
        self._awaited.answer = line
        self._send_answer()

    def _send_answer(self) -> None:
        """Sends the answer if it is known and need not wait."""
        awaited = self._awaited
        if awaited is not None and awaited.answer and not awaited.is_held:
            self._awaited = None
            self._send(awaited.answer)

    def _answer_now(self) -> None:
        """Answers an open `go` with what is known; the thinker's own answer is then dropped."""
        awaited = self._awaited
        if awaited is None:
            return
        awaited.control.is_stopped = True
        awaited.is_held = False
        if not awaited.answer:
            awaited.answer = _without_thinker(awaited)
        self._send_answer()

    def _take_failure(self, number: int, message: str, is_fatal: bool) -> None:
        self._complain(message)
        self._send(text(f"Error: {message}"))
        if self._awaits(number):
            self._answer_now()
        if is_fatal:
            self.exit_code = 2


def _without_search(game: Game | None, *, is_mate: bool) -> str:
    """The answer where nothing is to be searched; empty elsewhere."""
    answer = "resign" if game is None else decided(game)
    if is_mate:
        if game is None:
            return "checkmate notimplemented"
        return "checkmate nomate" if answer == "resign" else ""
    return bestmove(answer) if answer else ""


def _without_thinker(awaited: _Awaited) -> str:
    """The answer where the thinker's has not come in time."""
    if awaited.limits.mate is not None:
        return "checkmate timeout"
    assert awaited.game is not None
    return bestmove(awaited.control.best or any_move(awaited.game))

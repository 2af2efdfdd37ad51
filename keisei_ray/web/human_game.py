"""A game between a person and a network: what may be done in it, and how it ends.

Nothing here thinks, waits or knows the web: the caller plays the network's moves like the person's.
Every change names the ply at which it was meant, so that a click which comes twice, or from a page
that shows an older position, changes nothing.
"""

from array import array
from typing import Any, Final, NamedTuple

from keisei_ray.errors import PositionError
from keisei_ray.report.games import end_in_words
from keisei_ray.rollouts.finished_game import Color, GameEndReason, GameResult
from keisei_ray.shogi.game import STANDARD_SFEN, Game, check_start, usi_text
from keisei_ray.shogi.notation import Heading, SavedGame, to_csa, to_kif, unfinished_to_kif
from keisei_ray.shogi.replay import replay
from keisei_ray.shogi.rules import Verdict, forfeit, forfeit_verdict, result_of
from keisei_ray.telemetry.visible_text import shortened

MAX_PLIES: Final = 512
"""Plies after which a game is stopped undecided, as in matches."""
COLORS: Final[tuple[Color, Color]] = ("black", "white")


class StalePositionError(PositionError):
    """A change that was meant for another position than the present one."""


class End(NamedTuple):
    """How a game ended."""

    result: GameResult
    reason: GameEndReason


class HumanGame:
    """A game in play or finished.

    Attributes:
        human: the person's side.
        end: how it ended; None while it goes on.
        take_backs: how often the person took a move back.
    """

    def __init__(
        self, human: Color, start_sfen: str = STANDARD_SFEN, *, max_plies: int = MAX_PLIES
    ) -> None:
        """Sets up a game before its first move.

        Args:
            human: the person's side.
            start_sfen: position before the first move.
            max_plies: plies after which the game is stopped undecided.

        Raises:
            PositionError: no game can be played from the start position.
        """
        try:
            check_start(start_sfen)
        except ValueError as error:
            raise PositionError(shortened(str(error), 400)) from error
        self.human: Color = human
        self.end: End | None = None
        self.take_backs = 0
        self._game = Game(start_sfen, max_plies=max_plies)

    @property
    def ply(self) -> int:
        """Number of moves that have been played."""
        return len(self._game.moves)

    @property
    def start_sfen(self) -> str:
        """Position before the first move."""
        return self._game.sfen

    @property
    def max_plies(self) -> int:
        """Plies after which the game is stopped undecided."""
        return self._game.max_plies

    @property
    def moves(self) -> tuple[str, ...]:
        """Moves so far in USI notation."""
        return tuple(map(usi_text, self._game.moves))

    @property
    def turn(self) -> Color:
        """The side to move."""
        return COLORS[self._game.turn]

    @property
    def is_humans_turn(self) -> bool:
        """Whether the person is to move."""
        return self.end is None and self.turn == self.human

    @property
    def is_networks_turn(self) -> bool:
        """Whether the network is to move."""
        return self.end is None and self.turn != self.human

    def play(self, usi: str, ply: int) -> None:
        """Plays a move of the side to move.

        Args:
            usi: the move in USI notation.
            ply: moves played before it.

        Raises:
            PositionError: the move is not legal, or the game is over.
            StalePositionError: the position has changed.
        """
        self.check_going_on(ply)
        try:
            index = self._game.find_move(usi)
        except ValueError:
            index = None
        if index is None:
            raise PositionError(
                f"{shortened(usi)!r} is not a legal move of {self.turn.capitalize()}. Choose one "
                "of those that the board shows."
            )
        self._end_by(self._game.play(array("H", self._game.legal)[index]))

    def resign(self, ply: int) -> None:
        """Ends the game as the person's loss.

        Raises:
            PositionError: the network is to move, or the game is over.
            StalePositionError: the position has changed.
        """
        self.check_going_on(ply)
        if not self.is_humans_turn:
            raise PositionError("the network is to move. Resign when it is your turn.")
        self._end_by(forfeit_verdict(forfeit("resign")))

    def lose_on_time(self, ply: int) -> None:
        """Ends the game as the person's loss on time; raises as `resign` does."""
        self.check_going_on(ply)
        if not self.is_humans_turn:
            raise PositionError("the network is to move, and the clock stands still.")
        self._end_by(forfeit_verdict(forfeit("timeout")))

    def take_back(self, ply: int) -> None:
        """Goes back to before the person's last move.

        Raises:
            PositionError: the person has not moved, or the game is over.
            StalePositionError: the position has changed.
        """
        self.check_going_on(ply)
        kept = self._plies_after_take_back()
        if kept is None:
            raise PositionError("there is no move of yours to take back.")
        before, moves = self._game, self._game.moves[:kept]
        self._game = Game(before.sfen, max_plies=before.max_plies)
        for move in moves:
            self._game.play(move)
        self.take_backs += 1

    def check_going_on(self, ply: int) -> None:
        """Refuses a change of a game that is over, or of another position.

        Raises:
            PositionError: the game is over.
            StalePositionError: the position has changed.
        """
        if self.end is not None:
            raise PositionError(f"the game is over: {end_in_words(*self.end)}. Begin another one.")
        if ply != self.ply:
            raise StalePositionError(
                f"this was meant for the position after {ply} moves, and {self.ply} have been "
                "played. Look at the board again."
            )

    def state(self) -> dict[str, Any]:
        """Returns what a page shows, as JSON types."""
        played = replay(self.moves, self.start_sfen)
        return {
            "human": self.human,
            "turn": self.turn,
            "ply": self.ply,
            "sfens": played.sfens,
            "moves": played.moves,
            "western": played.western,
            "japanese": played.japanese,
            "checks": played.checks,
            "legal": [usi_text(move) for move in array("H", self._game.legal)]
            if self.is_humans_turn
            else [],
            "occurrences": self._game.earlier + 1,
            "can_take_back": self.end is None and self._plies_after_take_back() is not None,
            "take_backs": self.take_backs,
            "end": None
            if self.end is None
            else {**self.end._asdict(), "words": end_in_words(*self.end), "for_human": self.score},
        }

    @property
    def score(self) -> float | None:
        """The person's points: a win 1, a draw or a stopped game 1/2; None while it goes on."""
        if self.end is None:
            return None
        if self.end.result in ("draw", "truncated"):
            return 0.5
        return float(self.end.result == f"{self.human}_win")

    def kif(self, heading: Heading) -> str:
        """Returns the game as KIF, finished or not."""
        if self.end is None:
            return unfinished_to_kif(self.start_sfen, self.moves, heading)
        return to_kif(self.recorded(), heading)

    def csa(self, heading: Heading) -> str:
        """Returns a finished game as CSA."""
        return to_csa(self.recorded(), heading)

    def recorded(self) -> SavedGame:
        """Returns a finished game as a record; `start_sfen` is empty for the standard position."""
        assert self.end is not None, "the game goes on"
        start = "" if self.start_sfen == STANDARD_SFEN else self.start_sfen
        return SavedGame(*self.end, self.ply, " ".join(self.moves), start)

    def _plies_after_take_back(self) -> int | None:
        """Moves that are left when the person's last one is taken back; None if there is none."""
        last = self.ply - 1 if self.turn != self.human else self.ply - 2
        return last if last >= 0 else None

    def _end_by(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self.end = End(result_of(verdict, self._game.turn), verdict.reason)

"""The record of one finished game of self-play, and the words for how a game can end.

Results are absolute (black or white), not from the side to move. The rules that decide them are in
`shogi/rules.py`; this module only names the outcomes. An actor sends these records beside its
rollout, in the report that the driver reads.
"""

from dataclasses import dataclass
from typing import Literal

Color = Literal["black", "white"]
"""One of the two sides; black moves first from the standard position."""
GameResult = Literal["black_win", "white_win", "draw", "truncated"]
"""The winner; `truncated` where the ply cap ended an undecided game."""
ForfeitReason = Literal[
    "resign",
    "engine_died",
    "engine_timeout",
    "engine_garbage",
    "engine_illegal_move",
    "engine_false_win",
    "timeout",
]
"""Why the side to move lost without playing a ply.

It resigned; or the engine that plays it died, did not answer in time, answered with something that
is not a move, answered with an illegal move, or falsely claimed a win; or the time of a person was
up. Networks never forfeit."""
GameEndReason = Literal[
    "mate", "repetition", "perpetual_check", "declaration", "max_plies", ForfeitReason
]
"""The rule by which a game ended."""


@dataclass(frozen=True, slots=True)
class FinishedGame:
    """One game from start to result. Counted once, by its id, when its rollout is consumed."""

    game_id: str
    """`"{actor_id}-{incarnation}-{index}"`, unique in a run."""
    actor_id: int
    """Number of the self-play actor that played it."""
    incarnation: int
    """Incarnation of that actor."""
    index: int
    """Games that this incarnation had started before this one."""
    weights_version: int
    """Updates behind the weights that played the last ply."""
    result: GameResult
    """The winner; absolute, not from the side to move."""
    reason: GameEndReason
    """The rule by which it ended."""
    plies: int
    """Length in plies, the random opening included."""
    opening_plies: int
    """Random plies at the start that no policy chose and nothing is trained on."""
    moves: str
    """All plies in USI notation, space separated, opening included; empty if not saved."""
    start_sfen: str = ""
    """Position before the opening; empty for the standard position."""
    opponent: str = ""
    """Name of the pool member that the learner played; empty where it played itself."""
    learner_color: Color | None = None
    """The learner's side against `opponent`; None where it played both sides."""

    @property
    def learner_score(self) -> float | None:
        """The learner's points against `opponent`: a win 1, a draw or a truncated game 1/2.

        None where it played itself.
        """
        if not self.opponent:
            return None
        if self.result in ("draw", "truncated"):
            return 0.5
        return float(self.result == f"{self.learner_color}_win")

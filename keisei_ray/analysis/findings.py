"""Opinions of a network about positions: alone, or with a search from each of them.

All positions are searched side by side, each with a tree of its own, so one forward pass serves
many. A position in which the rules have ended the game has their result.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np

from keisei_ray.config.player_spec import SearchSpec
from keisei_ray.players.policies import legal_probs
from keisei_ray.players.searching import search_settings
from keisei_ray.rollouts.finished_game import Color
from keisei_ray.search.forest import DRAWN, LOST, WON
from keisei_ray.search.search import Evaluate, RootMove, Search, best_first
from keisei_ray.shogi.game import Game, brief, usi_text
from keisei_ray.shogi.rules import Verdict

Proof = Literal["won", "lost", "drawn"]
"""An exact result, for the side to move."""
NUM_MOVES: Final = 5
"""Moves of a position that are kept, the best first."""
MAX_LINE: Final = 12
"""Moves of a line that are kept."""
_TREES: Final = 64
"""Most positions that are searched side by side; more would not be faster."""
_NODES: Final = 400_000
"""Nodes that the trees of one group may have together, about 1.5 kB each."""
_REPETITIONS: Final = ("repetition", "perpetual_check")
_PROOFS: Final[dict[int, Proof]] = {WON: "won", LOST: "lost", DRAWN: "drawn"}


class Position(NamedTuple):
    """A position of a game."""

    game: Game
    """The game up to here, with what the rules must remember."""
    verdict: Verdict | None
    """How the last move ended the game by the rules; None if it goes on."""
    ply: int
    """Moves played before it."""


@dataclass(frozen=True)
class MoveFindings:
    """Findings about one legal move, for the side that plays it."""

    move: str
    """The move in USI notation."""
    prob: float
    """Probability by the network's policy."""
    visits: int
    """Simulations that tried it; 0 without a search."""
    value: float | None
    """Value in [-1, 1]; None where it was not tried."""
    draw_prob: float | None
    """Probability of a draw; None where it was not tried."""
    proof: Proof | None
    """Exact result by the rules; None where the search has not found one."""
    line: tuple[str, ...]
    """Moves that are expected, this one first, in USI notation."""


@dataclass(frozen=True)
class Findings:
    """Findings about one position, for the side to move unless they say otherwise."""

    ply: int
    """Moves played before it."""
    sfen: str
    color: Color
    """The side to move."""
    value: float
    """Expected result in [-1, 1]: win - loss."""
    draw_prob: float
    """Probability of a draw; 0 from a network that knows no draws."""
    proof: Proof | None
    """Exact result; None where the value is an estimate."""
    over: str | None
    """Rule that ended the game here; None if it goes on."""
    visits: int
    """Simulations behind the value; 0 without a search."""
    moves: tuple[MoveFindings, ...]
    """The best `NUM_MOVES` moves, the best first; empty where the game is over."""

    @property
    def win_prob(self) -> float:
        """Probability that the side to move wins."""
        return max(0.0, (1 - self.draw_prob + self.value) / 2)

    @property
    def loss_prob(self) -> float:
        """Probability that the side to move loses."""
        return max(0.0, (1 - self.draw_prob - self.value) / 2)

    @property
    def black_chance(self) -> float:
        """Black's winning chance in [0, 1]: its probability to win, a draw counting half."""
        value = self.value if self.color == "black" else -self.value
        return (1 + value) / 2


def positions_of(game: Game, moves: Sequence[str]) -> Iterator[Position]:
    """Yields the position of a game and those after each of some more moves.

    The game goes on after a rule has ended it, as long as there are moves; after a repetition
    without the positions before, since for the rules it was over.

    Args:
        game: played on.
        moves: moves in USI notation.

    Raises:
        ValueError: a move that is not legal, when it is reached.
    """
    yield Position(game.copy(), None, 0)
    for ply, usi in enumerate(moves, 1):
        try:
            index = game.find_move(usi)
        except ValueError:
            index = None
        if index is None:
            raise ValueError(f"move {ply} '{brief(usi)}' is not legal")
        verdict = game.play(array("H", game.legal)[index])
        yield Position(game.copy(), verdict, ply)
        if verdict is not None and verdict.reason in _REPETITIONS:
            game = Game(game.board.to_sfen(), max_plies=game.max_plies)


def find(
    positions: Sequence[Position],
    evaluate: Evaluate,
    simulations: int,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Iterator[Findings]:
    """Yields findings about positions, in their order, one group after the other.

    Args:
        positions: of one game or of several.
        evaluate: the network.
        simulations: how far to search from each; 0: the network alone.
        on_progress: called with the number of positions done, parts of them included.
    """
    size = max(1, min(_TREES, _NODES // max(simulations, 1)))
    for start in range(0, len(positions), size):
        group = positions[start : start + size]
        going_on = [position.game for position in group if position.verdict is None]

        def report(share: float, start: int = start, count: int = len(going_on)) -> None:
            on_progress(start + share * count)

        if simulations:
            found = iter(_search(going_on, evaluate, simulations, report) if going_on else ())
        else:
            found = iter(_ask_network(going_on, evaluate) if going_on else ())
        for position in group:
            verdict = position.verdict
            here = next(found) if verdict is None else _by_the_rules(position.game, verdict)
            yield replace(here, ply=position.ply)
        on_progress(start + len(group))


def _search(
    games: Sequence[Game],
    evaluate: Evaluate,
    simulations: int,
    on_progress: Callable[[float], None],
) -> list[Findings]:
    """Searches from every game, all side by side."""
    search = Search(evaluate, search_settings(len(games), SearchSpec(simulations, None)))
    slots = range(len(games))

    def is_over() -> bool:
        on_progress(sum(map(search.num_visits, slots)) / simulations / len(games))
        return False

    search.start(games)
    search.run(slots, is_over)
    found = []
    for slot, game in enumerate(games):
        moves = search.root_moves(slot)
        order = [index for index in best_first(moves) if moves[index].visits or simulations == 1]
        kept = [
            _move(moves[index], search.best_line(slot, index)[:MAX_LINE])
            for index in order[:NUM_MOVES]
        ]
        value, draw_prob, proof = search.root_value(slot)
        found.append(
            _findings(
                game,
                value,
                draw_prob,
                proof=_PROOFS.get(proof),
                visits=search.num_visits(slot),
                moves=kept,
            )
        )
    return found


def _move(found: RootMove, line: Sequence[int]) -> MoveFindings:
    named = tuple(map(usi_text, line))
    return MoveFindings(
        move=named[0],
        prob=found.prior,
        visits=found.visits,
        value=None if math.isnan(found.value) else found.value,
        draw_prob=None if math.isnan(found.draw_prob) else found.draw_prob,
        proof=_PROOFS.get(found.proof),
        line=named,
    )


def _ask_network(games: Sequence[Game], evaluate: Evaluate) -> list[Findings]:
    """Evaluates every game by the network alone, in one forward pass."""
    boards, hands, scalars = zip(*(game.observe() for game in games), strict=True)
    logits, values, draw_probs = evaluate(np.stack(boards), np.stack(hands), np.stack(scalars))
    found = []
    rows = zip(games, logits, values.tolist(), draw_probs.tolist(), strict=True)
    for game, row, value, draw_prob in rows:
        legal = array("H", game.legal)
        probs = legal_probs(game, row)
        order = np.argsort(-probs, kind="stable")[:NUM_MOVES].tolist()
        moves = []
        for index in order:
            usi = usi_text(legal[index])
            moves.append(MoveFindings(usi, float(probs[index]), 0, None, None, None, (usi,)))
        found.append(_findings(game, value, draw_prob, moves=moves))
    return found


def _by_the_rules(game: Game, verdict: Verdict) -> Findings:
    """Result of a position in which the rules have ended the game."""
    # The reward is that of the side that played the last move.
    value = -verdict.reward
    proof: Proof = "drawn" if value == 0 else "won" if value > 0 else "lost"
    return _findings(game, value, float(value == 0), proof=proof, over=verdict.reason)


def _findings(
    game: Game,
    value: float,
    draw_prob: float,
    *,
    proof: Proof | None = None,
    over: str | None = None,
    visits: int = 0,
    moves: Sequence[MoveFindings] = (),
) -> Findings:
    color: Color = "black" if game.turn == 0 else "white"
    return Findings(
        ply=len(game.moves),
        sfen=game.board.to_sfen(),
        color=color,
        value=value,
        draw_prob=draw_prob,
        proof=proof,
        over=over,
        visits=visits,
        moves=tuple(moves),
    )

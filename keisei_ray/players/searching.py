"""A network that looks ahead: the policy of a search over many games at once."""

import math
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keisei_ray.config.player_spec import SearchSpec
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.players.policies import Ints, Judgement, Uniforms, network_outputs
from keisei_ray.search.forest import LOST, WON, Bytes, Floats
from keisei_ray.search.score import centipawns, less_draws
from keisei_ray.search.search import Evaluate, RootMove, Search, best_move
from keisei_ray.search.settings import SearchSettings
from keisei_ray.shogi.game_record import MAX_EVAL, Visits
from keisei_ray.shogi.vector_games import VectorGames

UNLIMITED_SIMULATIONS = 10**9
"""Simulations where only the time limits a search."""
MAX_LEAVES = 16
"""Most leaves of one tree in a forward pass."""
_MAX_MATE_POSITIONS = 2000
"""Most positions looked at for a mate by checks, about 0.1 s of one core."""
_MATE_POSITIONS_PER_S = 2000
"""The same for each second that a search may take, about a tenth of what one core can look at."""
ROWS_PER_PASS = 32
"""Rows that a forward pass should have; few games put more leaves of each tree into it."""


def network_evaluation(model: PolicyValueNet) -> Evaluate:
    """Returns a network as a search asks for it.

    Args:
        model: in eval mode, on its device.
    """

    def evaluate(boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[Floats, Floats, Floats]:
        return network_outputs(model, boards, hands, scalars)

    return evaluate


class SearchingPolicy:
    """A policy, as `policies.Choose`, that searches from all positions it is asked for at once.

    What it has found is kept while a game goes on, as far as a draw is worth the same to the same
    side, see `Search.start`.
    """

    def __init__(self, model: PolicyValueNet, spec: SearchSpec, temperature: float = 0.0) -> None:
        """Args:
        model: the network, on the CPU and in eval mode.
        spec: how far to look.
        temperature: 0 plays the best move found; above 0 samples from p ** (1 / temperature), where
            p are the shares of the visits, or with the rule `gumbel` the improved policy, but never
            a move that is known to lose where another is not.
        """
        self._spec = spec
        self._temperature = temperature
        self._search = Search(network_evaluation(model), SearchSettings(1))
        self._asked: list[int] = []
        """Trees of the last call."""

    def __call__(self, games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        """Returns the moves, see `policies.Choose`."""
        search, spec = self._search, self._spec
        search.settings = search_settings(len(lanes), spec)
        self._asked = slots = lanes.tolist()
        end = time.monotonic() + spec.seconds if spec.seconds is not None else None
        search.start([games.game(lane) for lane in slots], slots)
        search.run(slots, lambda: end is not None and time.monotonic() >= end)
        if spec.root == "gumbel":
            return choose_halved_moves(search, slots, self._temperature, uniforms)
        chosen = [
            choose_root_move(search.root_moves(slot), self._temperature, uniform)
            for slot, uniform in zip(slots, uniforms.tolist(), strict=True)
        ]
        return np.array(chosen, np.int64)

    def judgements(self) -> list[Judgement]:
        """Returns what the search found about each position of the last call.

        With the rule `gumbel` the visits stand for the improved policy, in thousandths: its search
        tries moves in equal numbers, whatever it thinks of them.
        """
        search, slots = self._search, self._asked
        if self._spec.root == "gumbel":
            policies = np.rint(search.improved_policies(slots) * 1000).astype(int).tolist()
        else:
            policies = None
        found = []
        for row, slot in enumerate(slots):
            moves = search.root_moves(slot)
            counts = policies[row] if policies else [move.visits for move in moves]
            *_, proof = root = search.root_value(slot)
            value = less_draws(*root, search.settings.draw_value)
            evaluation = {WON: MAX_EVAL, LOST: -MAX_EVAL}.get(proof, centipawns(value))
            found.append(Judgement(evaluation, useful_visits(moves, counts)))
        return found


def useful_visits(moves: Sequence[RootMove], counts: Sequence[int]) -> Visits:
    """Visits to learn from: not of moves that are known to lose, and only of one that wins.

    Args:
        moves: what the search found.
        counts: visits of each move; may be longer.

    Returns:
        Moves with at least one visit. Without any, as after a single simulation or where every
        move is known to lose, the best move with one.
    """
    best = moves[best_move(moves)]
    tried = tuple(
        (move.move, count)
        for move, count in zip(moves, counts, strict=False)
        if count and move.proof != LOST
    )
    return tried if tried and best.proof != WON else ((best.move, 1),)


def search_settings(num_games: int, spec: SearchSpec) -> SearchSettings:
    """Settings of a search in so many trees at once.

    Args:
        num_games: trees searched at once.
        spec: how far to look.
    """
    return SearchSettings(
        spec.simulations or UNLIMITED_SIMULATIONS,
        root=spec.root,
        draw_value=spec.draw_value,
        mate_positions=mate_positions(num_games, spec),
        leaves_per_step=leaves_per_step(num_games, spec),
    )


def leaves_per_step(num_games: int, spec: SearchSpec) -> int:
    """Leaves that each tree adds to a forward pass: enough to fill it, without spoiling a search.

    Args:
        num_games: trees searched at once.
        spec: short searches take fewer leaves at a time.
    """
    by_length = (spec.simulations or UNLIMITED_SIMULATIONS) // 16
    return max(1, min(MAX_LEAVES, ROWS_PER_PASS // num_games, by_length))


def mate_positions(num_games: int, spec: SearchSpec) -> int:
    """Positions looked at from each root for a mate by checks, before the simulations.

    Most questions are settled sooner, so that takes about a twentieth of a search's time.

    Args:
        num_games: trees searched at once; they share the time.
        spec: one position for each simulation, and not more than a tenth of the time allows.
    """
    by_count = spec.simulations or _MAX_MATE_POSITIONS
    by_time = _MATE_POSITIONS_PER_S * (spec.seconds or math.inf) / num_games
    return int(min(by_count, by_time, _MAX_MATE_POSITIONS))


def choose_root_move(moves: list[RootMove], temperature: float, uniform: float) -> int:
    """Index of the move to play after a search with the rule `puct` at its root.

    Args:
        moves: what the search found.
        temperature: see `SearchingPolicy`.
        uniform: in [0, 1), decides where the move is sampled.
    """
    best = best_move(moves)
    if temperature == 0 or moves[best].proof in (WON, LOST):
        return best
    visits = np.array([0 if move.proof == LOST else move.visits for move in moves], np.float64)
    return _sample(visits, temperature, uniform) if visits.any() else best


def choose_halved_moves(
    search: Search, slots: Sequence[int], temperature: float, uniforms: Uniforms
) -> Ints:
    """[K] index of the move to play after a search with the rule `gumbel` at its roots.

    Args:
        search: has searched in these trees, all at once.
        slots: [K] the trees.
        temperature: see `SearchingPolicy`.
        uniforms: [K] in [0, 1), decide where a move is sampled.
    """
    chosen = search.best_halved_moves(slots)
    if temperature == 0:
        return chosen
    policies = search.improved_policies(slots)
    for row, slot in enumerate(slots):
        moves = search.root_moves(slot)
        if moves[chosen[row]].proof not in (WON, LOST):
            policy = policies[row, : len(moves)]
            chosen[row] = _sample(policy, temperature, float(uniforms[row]))
    return chosen


def _sample(weights: npt.NDArray[np.float64], temperature: float, uniform: float) -> int:
    """Index sampled from weights ** (1 / temperature)."""
    ends = np.cumsum((weights / weights.max()) ** (1 / temperature))
    return int(min(np.searchsorted(ends, uniform * ends[-1], side="right"), len(weights) - 1))

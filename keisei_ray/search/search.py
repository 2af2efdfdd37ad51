"""The search itself: steps of select, judge, evaluate, expand and back up, in many games at once.

Each step takes one leaf of every tree (or a few, see `SearchSettings.leaves_per_step`), judges it
by the rules, and evaluates all that are undecided in one forward pass.

A leaf where the side to move mates in one is a proven win without the network. A leaf at which the
rules end the game has their value; the ply cap counts as a draw.

N: trees. K: paths of a step. C: leaves to evaluate. A: policy labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.search.forest import (
    DRAWN,
    LOST,
    NONE,
    PROVEN_VALUES,
    UNPROVEN,
    WON,
    Bytes,
    Floats,
    Forest,
    Ints,
    Paths,
)
from keisei_ray.search.gumbel import Halving, RootFindings, improved_policies
from keisei_ray.search.settings import SearchSettings
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import Game, pack_moves
from keisei_ray.shogi.line import Arrival, Line, mate_index
from keisei_ray.shogi.mates import MateSearch
from keisei_ray.shogi.moves import play_moves
from keisei_ray.shogi.observation import MAX_COUNT

Evaluate = Callable[[Bytes, Bytes, Bytes], tuple[Floats, Floats, Floats]]
"""Function (boards [C, 81], hands [C, 14], scalars [C, 3]) -> policy logits [C, A], values [C] for
the side to move, probabilities of a draw [C]."""

_LABEL_OF_MOVE = LABEL_OF_MOVE.ravel()
_GARBAGE_FACTOR = 2
"""A forest without a limit is cleared when it holds this many times the nodes that were left the
last time, and at least _GARBAGE_NODES."""
_GARBAGE_NODES = 100_000
_GARBAGE_SHARE = 0.25
"""Share of a limited memory that must become free at least when it is cleared."""
_MATE_NODES = 100_000
"""Most nodes of a search for a mate by checks."""


class RootMove(NamedTuple):
    """Findings about one legal move of a root, for the side to move there."""

    move: int
    """16-bit move."""
    visits: int
    """Simulations that tried it."""
    value: float
    """Value in [-1, 1]: exact if proven, else the mean of the simulations, where a draw counts as
    `draw_value`, see `score.less_draws`; NaN if not tried."""
    draw_prob: float
    """Probability of a draw; NaN if not tried."""
    prior: float
    """The policy's probability, at temperature 1."""
    proof: int
    """Proof for the side to move at the root: UNPROVEN, WON, LOST or DRAWN."""


@dataclass
class _Tree:
    """One tree and the game that it belongs to."""

    root: int = NONE
    game: Game | None = None
    num_moves: int = 0
    """Moves of the game when the root was set."""
    draw_value_of_black: float = 0.0
    """Value of a draw to Black, as the values in the tree count it."""
    line: Line | None = field(default=None, repr=False)
    mate_positions: int = 0
    """Positions that have been looked at for a mate by checks from the root."""
    halving: Halving | None = field(default=None, repr=False)
    """Plan of the present search, where the rule at the root has one."""
    row: int = 0
    """Place of the tree in that plan."""


class Search:
    """Trees of N games, kept from one move of a game to the next."""

    def __init__(
        self, evaluate: Evaluate, settings: SearchSettings, memory_bytes: int | None = None
    ) -> None:
        """Args:
        evaluate: the network.
        settings: how far to look.
        memory_bytes: memory for the trees; `run` ends when it is full. None: no limit.
        """
        self._evaluate = evaluate
        self.settings = settings
        self._forest = Forest()
        if memory_bytes is not None:
            self._forest.reserve(memory_bytes)
        self._trees: list[_Tree] = []
        self._nodes_left = 0
        self.evaluated = 0
        """Positions that the network has evaluated so far."""
        self.deepest = 0
        """Plies of the longest path since the last `start`."""

    def start(self, games: Sequence[Game], slots: Sequence[int] | None = None) -> None:
        """Puts the roots at the present positions of games; what is known of them is kept.

        But for trees in which a draw was worth something else to the same side: a player with a
        `draw_value` that moves for both sides searches every position from nothing.

        Args:
            games: games that go on.
            slots: tree of each game, from 0; None: one after the other.
        """
        self.deepest = 0
        slots = range(len(games)) if slots is None else slots
        while len(self._trees) <= max(slots, default=-1):
            self._trees.append(_Tree())
        trees = [self._trees[slot] for slot in slots]
        for tree, game in zip(trees, games, strict=True):
            self._follow(tree, game)
        self._clear_garbage()
        fresh = [tree for tree in trees if tree.root == NONE]
        if fresh:
            roots = self._forest.add_nodes(len(fresh))
            for tree, root in zip(fresh, roots.tolist(), strict=True):
                tree.root = root
                self._set_root(root, _game_of(tree))
        self._expand_roots(trees)

    def run(self, slots: Sequence[int], is_over: Callable[[], bool] = lambda: False) -> None:
        """Searches until each tree's root has its visits or is proven, or the memory is full.

        Args:
            slots: the trees to search in; all have been started.
            is_over: asked before every step; True ends the search early.
        """
        for slot in slots:
            self._look_for_mate(self._trees[slot], is_over)
        if self.settings.root == "gumbel":
            self._plan(slots)
        while not is_over() and self._forest.fullness < 1:
            active = [
                self._trees[slot]
                for slot in slots
                if self._forest.visits[self._trees[slot].root] < self.settings.simulations
                and self._forest.proofs[self._trees[slot].root] == UNPROVEN
            ]
            if not active:
                return
            self._step(active)

    def known_moves(self, slot: int, game: Game) -> list[RootMove]:
        """Findings about the moves of a game's present position before `start`, which takes time.

        Empty if the tree does not have the position.
        """
        node = self._node_of(self._trees[slot], game) if slot < len(self._trees) else NONE
        return self._moves_of(node) if self._forest.num_edges[node] else []

    def root_moves(self, slot: int) -> list[RootMove]:
        """Findings about every legal move of a root, in the order of the game's legal moves."""
        return self._moves_of(self._trees[slot].root)

    def root_value(self, slot: int) -> tuple[float, float, int]:
        """Value of a root for the side to move, its probability of a draw, and what is proven.

        As in `RootMove`, the value of what is not proven counts a draw as `draw_value`.
        """
        forest, root = self._forest, np.array([self._trees[slot].root])
        value, draw_prob = forest.values(root)[0], forest.draw_probs(root)[0]
        return float(value), float(draw_prob), int(forest.proofs[root[0]])

    def num_visits(self, slot: int) -> int:
        """Simulations behind a root."""
        return int(self._forest.visits[self._trees[slot].root])

    @property
    def fullness(self) -> float:
        """Share of the memory for the trees that is in use; 0 where it is not limited."""
        return self._forest.fullness

    def best_line(self, slot: int, first: int | None = None) -> list[int]:
        """Moves, 16 bits each, that the search expects from a root on.

        Args:
            slot: the tree.
            first: index of the first move among the legal ones; None: the best.
        """
        forest, node = self._forest, self._trees[slot].root
        line: list[int] = []
        while node != NONE and forest.num_edges[node]:
            index = best_move(self._moves_of(node)) if first is None else first
            first = None
            edge = forest.edges_of(node).start + index
            if line and forest.visits[forest.children[edge]] == 0 and not forest.proofs[node]:
                break
            line.append(int(forest.moves[edge]))
            node = int(forest.children[edge])
        return line

    def best_halved_moves(self, slots: Sequence[int]) -> Ints:
        """[K] index of the move to play in each tree after a search with the rule `gumbel`."""
        trees = [self._trees[slot] for slot in slots]
        halving = trees[0].halving
        assert halving is not None
        rows = np.array([tree.row for tree in trees])
        return halving.best_moves(rows, self._findings([tree.root for tree in trees]))

    def improved_policies(self, slots: Sequence[int]) -> npt.NDArray[np.float64]:
        """[K, M] probabilities of the roots' moves after a search with the rule `gumbel`.

        M: most moves of a root; the others have 0 beyond theirs.
        """
        return improved_policies(self._findings([self._trees[slot].root for slot in slots]))

    def _plan(self, slots: Sequence[int]) -> None:
        """Plans the simulations that the roots of these trees still get."""
        if not slots:
            return
        trees = [self._trees[slot] for slot in slots]
        found = self._findings([tree.root for tree in trees])
        left = [self.settings.simulations - self.num_visits(slot) for slot in slots]
        halving = Halving(
            found.visits, found.is_legal.sum(1).tolist(), [max(1, number) for number in left]
        )
        for row, tree in enumerate(trees):
            tree.halving, tree.row = halving, row

    def _next_edges(self, trees: Sequence[_Tree]) -> Ints:
        """[K] edge of each root that the plan tries next; all trees are of one plan."""
        halving = trees[0].halving
        assert halving is not None
        roots = [tree.root for tree in trees]
        rows = np.array([tree.row for tree in trees])
        return self._forest.first_edge[roots] + halving.next_moves(rows, self._findings(roots))

    def _findings(self, roots: Sequence[int]) -> RootFindings:
        """Findings about the moves from these nodes."""
        forest = self._forest
        nodes = np.array(roots)
        counts = forest.num_edges[nodes]
        columns = np.arange(int(counts.max()))
        is_legal = columns < counts[:, None]
        edges = np.where(is_legal, forest.first_edge[nodes][:, None] + columns, NONE)
        children = forest.children[edges]
        proofs = forest.proofs[children]
        # The means count draws as that already.
        worth_of_draw = np.float32(self.settings.draw_value)
        return RootFindings(
            self._policy(np.where(is_legal, forest.priors[edges], 0)),
            forest.visits[children].astype(np.int64),
            np.where(proofs == DRAWN, worth_of_draw, -forest.values(children)),
            _SEEN_BY_PARENT[proofs],
            is_legal,
            forest.own_values[nodes],
        )

    def _moves_of(self, node: int) -> list[RootMove]:
        """Findings about every move from a node."""
        forest = self._forest
        edges = forest.edges_of(node)
        children = forest.children[edges]
        visits = forest.visits[children]
        is_known = (visits > 0) | (forest.proofs[children] != UNPROVEN)
        values = np.where(is_known, -forest.values(children), np.nan)
        draws = np.where(is_known, forest.draw_probs(children), np.nan)
        proofs = _SEEN_BY_PARENT[forest.proofs[children]]
        policy = self._policy(forest.priors[edges])
        columns = (forest.moves[edges], visits, values, draws, policy, proofs)
        return [RootMove(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]

    def _policy(self, priors: Floats) -> Floats:
        """The policy's probabilities at temperature 1.

        Args:
            priors: [..., M] of all moves of a node, at the search's temperature; may have further
                entries of 0.
        """
        # The largest is 1 before it is scaled, so that not all become 0.
        scaled = priors / priors.max(-1, keepdims=True, initial=0)
        powers = scaled**self.settings.policy_temperature
        return powers / powers.sum(-1, keepdims=True)  # type: ignore[no-any-return]

    def _follow(self, tree: _Tree, game: Game) -> None:
        """Moves the root along the moves played since; a game that is another starts anew."""
        draw_value = self.settings.draw_value
        draw_value_of_black = -draw_value if game.turn else draw_value
        # Every value in the tree is a mean that counts draws as they were worth then.
        is_worth_same = draw_value_of_black == tree.draw_value_of_black
        root = self._node_of(tree, game) if is_worth_same else NONE
        tree.draw_value_of_black = draw_value_of_black
        if root == NONE or tree.num_moves != len(game.moves):
            tree.mate_positions = 0
        tree.root, tree.game, tree.num_moves = root, game, len(game.moves)
        tree.line = Line(game)

    def _node_of(self, tree: _Tree, game: Game) -> int:
        """Node of a game's present position in a tree; NONE if it is not there."""
        if tree.game is not game or len(game.moves) < tree.num_moves:
            return NONE
        node = tree.root
        for move in game.moves[tree.num_moves :]:
            edges = self._forest.edges_of(node)
            found = np.flatnonzero(self._forest.moves[edges] == move)
            node = int(self._forest.children[edges][found[0]]) if len(found) else NONE
        return node

    def _set_root(self, node: int, game: Game) -> None:
        """Describes the present position of a game in a new node."""
        forest = self._forest
        board, hand, _ = game.observe()
        forest.boards[node], forest.hands[node] = board, hand
        forest.scalars[node] = (game.earlier, game.own_checks, game.opponent_checks)
        forest.keys[node] = game.board.zobrist_hash()
        forest.turns[node] = game.turn

    def _expand_roots(self, trees: Sequence[_Tree]) -> None:
        """Gives roots all their edges; a root that mates in one is a proven win.

        A node that was a leaf with a mate in one has the mating move as its only edge.
        """
        forest = self._forest
        bare = []
        for tree in trees:
            game, root = _game_of(tree), tree.root
            # The rules go on: what ended a line by the ply cap cannot be the root of a game.
            if 2 * forest.num_edges[root] < len(game.legal):
                forest.proofs[root] = UNPROVEN
                bare.append(tree)
        if not bare:
            return
        roots = np.array([tree.root for tree in bare])
        games = [_game_of(tree) for tree in bare]
        values, draws = self._evaluate_nodes(roots, [game.legal for game in games])
        unvisited = forest.visits[roots] == 0
        for root, value, draw in zip(
            roots[unvisited], values[unvisited], draws[unvisited], strict=True
        ):
            forest.visits[root] = 1
            forest.value_sums[root] = value + self.settings.draw_value * draw
            forest.draw_sums[root] = draw
        for root, game in zip(roots.tolist(), games, strict=True):
            mate = mate_index(game)
            if mate >= 0:
                self._add_mated_child(root, mate)

    def _add_mated_child(self, node: int, index: int) -> None:
        """Makes the child that a mating move leads to; the node is a proven win by it."""
        forest = self._forest
        child = int(forest.add_nodes(1)[0])
        forest.children[forest.edges_of(node).start + index] = child
        forest.proofs[child], forest.proofs[node] = LOST, WON
        forest.visits[child] = 1
        forest.value_sums[child] = PROVEN_VALUES[LOST]

    def _look_for_mate(self, tree: _Tree, is_over: Callable[[], bool]) -> None:
        """Makes a root a proven win if a mate by checks is found from there."""
        forest, most, game = self._forest, self.settings.mate_positions, _game_of(tree)
        if forest.proofs[tree.root] != UNPROVEN or tree.mate_positions >= most:
            return
        tree.mate_positions = most
        mates = MateSearch(game)
        mates.run(lambda: mates.expanded >= most or is_over(), _MATE_NODES)
        if mates.has_mate:
            self._add_mate(tree.root, game, mates.line)

    def _add_mate(self, root: int, game: Game, line: list[int]) -> None:
        """Makes a mate known from a root on, with the defence that holds out longest."""
        forest = self._forest
        after = Game(game.sfen, max_plies=game.max_plies)
        for move in game.moves:
            after.play(move)
        node = root
        for ply, move in enumerate(line):
            if node != root:
                self._set_root(node, after)
                self._expand_to_one_move(node, pack_moves([move]))
            edges = forest.edges_of(node)
            index = int(np.flatnonzero(forest.moves[edges] == move)[0])
            child = int(forest.add_nodes(1)[0])
            forest.children[edges.start + index] = child
            proof = LOST if ply % 2 == 0 else WON
            forest.proofs[child], forest.visits[child] = proof, 1
            forest.value_sums[child] = PROVEN_VALUES[proof]
            after.play(move)
            node = child
        forest.proofs[root] = WON

    def _expand_to_one_move(self, node: int, move: bytes) -> None:
        """Gives a node the edge of one move, where no other matters."""
        logits = np.zeros((1, NUM_ACTIONS), np.float32)
        self._forest.expand(np.array([node]), [move], np.zeros(1, np.int64), logits)

    def _step(self, trees: Sequence[_Tree]) -> None:
        """Takes the leaves of one step through all stages."""
        forest, leaves_per_step = self._forest, self.settings.leaves_per_step
        roots = np.repeat([tree.root for tree in trees], leaves_per_step)
        if self.settings.root == "gumbel":
            by_root = {tree.root: tree for tree in trees}
            paths = forest.select(
                roots,
                self.settings,
                lambda nodes: self._next_edges([by_root[node] for node in nodes.tolist()]),
            )
        else:
            paths = forest.select(roots, self.settings)
        self.deepest = max(self.deepest, int(paths.lengths.max()))
        # Of paths to the same leaf, which is in flight once, the first counts.
        leaves = paths.leaves
        is_first = np.zeros(len(leaves), np.bool_)
        is_first[np.unique(leaves, return_index=True)[1]] = True
        is_kept = is_first | (forest.proofs[leaves] != UNPROVEN)
        if not is_kept.all():
            forest.take_back(_some(paths, ~is_kept))
            paths = _some(paths, is_kept)
        places = np.flatnonzero(is_kept) // leaves_per_step
        self._judge_and_evaluate(paths, [trees[place] for place in places.tolist()])

    def _judge_and_evaluate(self, paths: Paths, trees: Sequence[_Tree]) -> None:
        """Judges the new leaves of paths, evaluates those that are undecided, and backs up."""
        forest = self._forest
        leaves = paths.leaves
        values = PROVEN_VALUES[forest.proofs[leaves]]
        draws = (forest.proofs[leaves] == DRAWN).astype(np.float32)
        new = np.flatnonzero(forest.proofs[leaves] == UNPROVEN)
        arrivals = [self._arrive(paths, path, trees[path]) for path in new.tolist()]
        self._describe(paths, new, arrivals)
        open_leaves = []
        for path, arrival in zip(new.tolist(), arrivals, strict=True):
            leaf = int(leaves[path])
            proof = _proof_of(arrival)
            if proof == UNPROVEN:
                open_leaves.append((path, arrival))
                continue
            forest.proofs[leaf] = proof
            values[path], draws[path] = PROVEN_VALUES[proof], proof == DRAWN
            if arrival.mate >= 0:
                mate = arrival.legal[2 * arrival.mate : 2 * arrival.mate + 2]
                self._expand_to_one_move(leaf, mate)
        if open_leaves:
            where = np.array([path for path, _ in open_leaves])
            values[where], draws[where] = self._evaluate_nodes(
                leaves[where], [arrival.legal for _, arrival in open_leaves]
            )
        forest.back_up(paths, values, draws, self.settings.draw_value)

    def _arrive(self, paths: Paths, path: int, tree: _Tree) -> Arrival:
        """Judges the leaf of a path by the rules."""
        forest, length = self._forest, int(paths.lengths[path])
        nodes = paths.nodes[path, :length]
        _, own_checks, opponent_checks = forest.scalars[nodes[-1]].tolist()
        assert tree.line is not None
        return tree.line.arrive(
            forest.moves[paths.edges[path, :length]].tolist(),
            forest.keys[nodes[1:]].tolist(),
            own_checks,
            opponent_checks,
        )

    def _describe(self, paths: Paths, new: Ints, arrivals: Sequence[Arrival]) -> None:
        """Fills the nodes of new leaves with their positions."""
        if not len(new):
            return
        forest = self._forest
        leaves, last = paths.leaves[new], paths.lengths[new] - 1
        parents, edges = paths.nodes[new, last], paths.edges[new, last]
        turns = forest.turns[parents]
        boards, hands = np.empty((len(new), 81), np.uint8), np.empty((len(new), 14), np.uint8)
        play_moves(
            forest.boards[parents],
            forest.hands[parents],
            forest.moves[edges].astype(np.int64),
            turns,
            out_boards=boards,
            out_hands=hands,
        )
        forest.boards[leaves], forest.hands[leaves] = boards, hands
        forest.turns[leaves] = 1 - turns
        forest.keys[leaves] = np.array([arrival.key for arrival in arrivals], np.uint64)
        forest.scalars[leaves] = [
            (arrival.earlier, arrival.own_checks, arrival.opponent_checks) for arrival in arrivals
        ]

    def _evaluate_nodes(self, nodes: Ints, legal: list[bytes]) -> tuple[Floats, Floats]:
        """Evaluates nodes by the network and gives them their edges.

        Returns:
            [C] values and [C] probabilities of a draw.
        """
        forest = self._forest
        logits, values, draw_probs = self._evaluate(
            forest.boards[nodes],
            forest.hands[nodes],
            np.minimum(forest.scalars[nodes], MAX_COUNT).astype(np.uint8),
        )
        self.evaluated += len(nodes)
        counts = [len(moves) // 2 for moves in legal]
        first_entry = np.repeat(forest.turns[nodes] * np.int64(1 << 16), counts)
        labels = _LABEL_OF_MOVE[first_entry + np.frombuffer(b"".join(legal), np.uint16)]
        forest.expand(nodes, legal, labels, logits, self.settings.policy_temperature)
        forest.own_values[nodes] = values + np.float32(self.settings.draw_value) * draw_probs
        return values, draw_probs

    def _clear_garbage(self) -> None:
        """Drops the nodes that no tree needs, where that gains enough.

        It takes about a second for a million nodes, however few of them go.
        """
        forest = self._forest
        roots = np.array([tree.root for tree in self._trees])
        if not self._is_worth_clearing(roots):
            return
        roots = forest.keep(roots)
        for tree, root in zip(self._trees, roots.tolist(), strict=True):
            tree.root = root
        self._nodes_left = forest.num_nodes

    def _is_worth_clearing(self, roots: Ints) -> bool:
        """Whether there are many nodes, or whether clearing doubles the room in limited memory."""
        forest = self._forest
        if not forest.is_limited:
            return forest.num_nodes >= max(_GARBAGE_NODES, _GARBAGE_FACTOR * self._nodes_left)
        # A visit of a root adds one node at most, so what exceeds the visits is garbage.
        garbage = 1 - forest.visits[roots].sum() / forest.num_nodes
        gain = garbage * forest.fullness
        return bool(gain >= max(_GARBAGE_SHARE, 1 - forest.fullness))


def best_move(moves: Sequence[RootMove]) -> int:
    """Index of the move to play: a proven win, else the most visits; ties by value, then policy.

    A move that loses for certain is played only if all do.
    """
    return max(range(len(moves)), key=lambda index: _rank(moves[index]))


def best_first(moves: Sequence[RootMove]) -> list[int]:
    """Indices of all moves, the one to play first, see `best_move`."""
    return sorted(range(len(moves)), key=lambda index: _rank(moves[index]), reverse=True)


def _rank(move: RootMove) -> tuple[bool, bool, int, float, float]:
    value = -1.0 if np.isnan(move.value) else move.value
    return move.proof == WON, move.proof != LOST, move.visits, value, move.prior


_SEEN_BY_PARENT: npt.NDArray[np.uint8] = np.array([UNPROVEN, LOST, WON, DRAWN], np.uint8)
"""Proof of a node -> proof of the move that leads to it."""


def _proof_of(arrival: Arrival) -> int:
    """Proof of a position by the rules alone, for the side to move there."""
    if arrival.mate >= 0:
        return WON
    if arrival.verdict is None:
        return UNPROVEN
    # The reward is that of the side whose ply it was.
    return {1.0: LOST, -1.0: WON, 0.0: DRAWN}[arrival.verdict.reward]


def _game_of(tree: _Tree) -> Game:
    """The game of a tree that has been started."""
    assert tree.game is not None
    return tree.game


def _some(paths: Paths, chosen: npt.NDArray[np.bool_]) -> Paths:
    """Some of the paths."""
    return Paths(paths.nodes[chosen], paths.edges[chosen], paths.lengths[chosen])

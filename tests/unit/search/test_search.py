"""The search against a slow reference, the rules, and mate problems solved by brute force."""

from array import array
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsshogi.core import Board, Move

from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.search.forest import (
    _NODE_FIELDS,
    DRAWN,
    LOST,
    NONE,
    UNPROVEN,
    WON,
    Bytes,
    Floats,
    Forest,
    Ints,
    Paths,
)
from keisei_ray.search.search import RootMove, Search, best_first, best_move
from keisei_ray.search.settings import RootRule, SearchSettings
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.mates import MateSearch
from keisei_ray.shogi.observation import observe
from tests.helpers.mates import MATES, MAX_PLIES, is_mate_in, played


def evaluate(boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[Floats, Floats, Floats]:
    """A network whose outputs depend on every byte of a position, and on nothing else."""
    rows = np.concatenate([boards, hands, scalars], 1)
    logits, values, draws = [], [], []
    for row in rows:
        rng = np.random.default_rng(row.tolist())
        logits.append(rng.normal(size=NUM_ACTIONS))
        values.append(rng.uniform(-0.9, 0.9))
        draws.append(rng.uniform(0, 0.1))
    return np.array(logits, np.float32), np.array(values, np.float32), np.array(draws, np.float32)


def flat(boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[Floats, Floats, Floats]:
    """A network that knows nothing."""
    n = len(boards)
    return np.zeros((n, NUM_ACTIONS), np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)


class Node:
    """One node of the reference: a replayed game and its children by move."""

    def __init__(self, start: Game, moves: list[int]) -> None:
        self.moves = moves
        self.game = Game(start.sfen, max_plies=MAX_PLIES)
        verdict = None
        for move in [*start.moves, *moves]:
            verdict = self.game.play(move)
        self.children: dict[int, Node] = {}
        self.visits, self.total = 0, 0.0
        self.exact: float | None = None
        if verdict is not None:
            self.exact = -verdict.reward
        elif moves and self.game.board.solve_mate_in_one() is not None:
            self.exact = 1.0
        self.priors: dict[int, float] = {}


def simulate(node: Node, start: Game, s: SearchSettings) -> float:
    """One simulation of the reference; returns the value for the side to move at `node`."""
    if node.exact is None and not node.priors:
        legal = array("H", node.game.legal).tolist()
        seen = observe(
            node.game.board,
            earlier=node.game.earlier,
            own_checks=node.game.own_checks,
            opponent_checks=node.game.opponent_checks,
        )
        logits, values, _ = evaluate(seen.board[None], seen.hand[None], seen.scalars[None])
        of_moves = np.array([logits[0][LABEL_OF_MOVE[node.game.turn, move]] for move in legal])
        weights = np.exp(of_moves / s.policy_temperature)
        node.priors = dict(zip(legal, weights / weights.sum(), strict=True))
        value = float(values[0])
    elif node.exact is not None:
        value = node.exact
    else:
        tried = sum(p for move, p in node.priors.items() if move in node.children)
        c = s.c_init + np.log((1 + node.visits + s.c_base) / s.c_base)

        def score(move: int) -> float:
            child = node.children.get(move)
            n = child.visits if child else 0
            q = node.total / node.visits - s.fpu_reduction * np.sqrt(tried)
            if child is not None:
                q = -child.total / child.visits
            if child is not None and child.exact == 1.0:
                return -np.inf
            return float(q + c * node.priors[move] * np.sqrt(node.visits) / (1 + n))

        move = max(node.priors, key=score)
        if move not in node.children:
            node.children[move] = Node(start, [*node.moves, move])
        value = -simulate(node.children[move], start, s)
        exact = [node.children[m].exact if m in node.children else None for m in node.priors]
        if -1.0 in exact:
            node.exact = value = 1.0
        elif None not in exact:
            node.exact = value = -min(e for e in exact if e is not None)
    node.visits += 1
    node.total += value
    return value


@pytest.mark.parametrize("root", ["puct", "gumbel"])
@pytest.mark.parametrize("temperature", [1.0, 5.0, 8.0])
def test_the_policy_is_told_as_the_network_has_it(temperature: float, root: Any) -> None:
    """At temperature 1, also where halving begins, whatever the temperature of the search."""
    game = played(3, 20)
    search = Search(evaluate, SearchSettings(8, root=root, policy_temperature=temperature))
    search.start([game])
    search.run([0])
    seen = observe(
        game.board,
        earlier=game.earlier,
        own_checks=game.own_checks,
        opponent_checks=game.opponent_checks,
    )
    logits = evaluate(seen.board[None], seen.hand[None], seen.scalars[None])[0][0]
    labels = LABEL_OF_MOVE[game.turn, array("H", game.legal).tolist()]
    policy = np.exp(logits[labels]) / np.exp(logits[labels]).sum()
    moves = search.root_moves(0)
    assert [move.prior for move in moves] == pytest.approx(policy.tolist(), rel=1e-4)
    assert search._findings([search._trees[0].root]).priors[0] == pytest.approx(policy, rel=1e-4)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), plies=st.integers(0, 80))
def test_every_visit_is_where_the_reference_has_it(seed: int, plies: int) -> None:
    rules = SearchSettings(60, c_init=2.0, policy_temperature=1.7)
    games = [played(seed, plies), played(seed + 1, 30)]
    search = Search(evaluate, rules)
    search.start(games)
    search.run([0, 1])
    for slot, game in enumerate(games):
        root = Node(game, [])
        if game.board.solve_mate_in_one() is not None:
            assert search.root_value(slot)[2] == WON
            continue
        while root.visits < rules.simulations and root.exact is None:
            simulate(root, game, rules)
        found = search.root_moves(slot)
        assert [move.move for move in found] == list(root.priors)
        for move in found:
            child = root.children.get(move.move)
            assert move.visits == (child.visits if child else 0)
            if child:
                assert move.value == pytest.approx(
                    -child.total / child.visits if child.exact is None else -child.exact, abs=1e-4
                )
        assert search.root_value(slot)[0] == pytest.approx(
            root.total / root.visits if root.exact is None else root.exact, abs=1e-4
        )


def test_trees_do_not_depend_on_their_neighbours() -> None:
    games = [played(seed, 40) for seed in range(5)]
    together = Search(evaluate, SearchSettings(40))
    together.start(games)
    together.run(range(5))
    for slot, game in enumerate(games):
        alone = Search(evaluate, SearchSettings(40))
        alone.start([game])
        alone.run([0])
        assert repr(alone.root_moves(0)) == repr(together.root_moves(slot))


@pytest.mark.slow
@pytest.mark.parametrize(("plies", "simulations", "sfen"), MATES)
def test_mate_problems_are_proven(plies: int, simulations: int, sfen: str) -> None:
    board = Board(sfen)
    assert is_mate_in(board, plies)
    assert not is_mate_in(board, plies - 2)
    game = Game(sfen, max_plies=MAX_PLIES)
    search = Search(flat, SearchSettings(simulations))
    search.start([game])
    search.run([0])
    assert search.root_value(0) == (1.0, 0.0, WON)
    board.apply_move(Move(search.root_moves(0)[best_move(search.root_moves(0))].move))
    for reply in board.legal_moves():
        board.apply_move(reply)
        assert is_mate_in(board, plies - 2)
        board.undo_move(reply)


def shuffled(game: Game, plies: int) -> None:
    """Plays the kings up and down: the start position occurs every fourth ply."""
    for ply in range(plies):
        usi = ("5i5h", "5a5b", "5h5i", "5b5a")[ply % 4]
        assert game.play(Move.from_usi(usi).value) is None


def move_of(search: Search, usi: str) -> RootMove:
    value = Move.from_usi(usi).value
    return next(move for move in search.root_moves(0) if move.move == value)


def test_the_fourth_occurrence_is_a_proven_draw_wherever_its_history_lies() -> None:
    game = Game(STANDARD_SFEN, max_plies=MAX_PLIES)
    shuffled(game, 11)
    search = Search(evaluate, SearchSettings(600, c_init=50.0))
    search.start([game])
    search.run([0])
    # Every move is tried when the policy's weight is that high.
    assert move_of(search, "5b5a").proof == DRAWN
    assert move_of(search, "5b5a").value == 0
    assert move_of(search, "5b5a").draw_prob == 1
    assert move_of(search, "5b4b").proof == UNPROVEN


def test_the_side_that_checks_for_ever_is_seen_to_lose() -> None:
    game = Game("4k4/9/9/9/9/9/9/9/K4R3 b - 1", max_plies=MAX_PLIES)
    for ply in range(10):
        usi = ("4i5i", "5a4a", "5i4i", "4a5a")[ply % 4]
        assert game.play(Move.from_usi(usi).value) is None
    search = Search(evaluate, SearchSettings(400, c_init=50.0))
    search.start([game])
    search.run([0])
    # The white king's next step makes the fourth occurrence of a position.
    assert move_of(search, "5i4i").proof == LOST
    assert search.best_line(0, first=search.root_moves(0).index(move_of(search, "5i4i"))) == [
        Move.from_usi(usi).value for usi in ("5i4i", "4a5a")
    ]
    game.play(Move.from_usi("5i4i").value)
    search.start([game])
    assert search.root_value(0)[0] == 1
    assert Move(search.root_moves(0)[best_move(search.root_moves(0))].move).to_usi() == "4a5a"


def test_the_ply_cap_counts_as_a_draw() -> None:
    game = Game("4k4/9/9/9/9/9/9/9/K4R3 w - 1", max_plies=1)
    search = Search(evaluate, SearchSettings(100, c_init=50.0))
    search.start([game])
    search.run([0])
    assert search.root_value(0) == (0.0, 1.0, DRAWN)


def test_what_is_known_is_kept_when_the_game_goes_on() -> None:
    game = played(3, 20)
    search = Search(evaluate, SearchSettings(200))
    search.start([game])
    search.run([0])
    best = search.root_moves(0)[best_move(search.root_moves(0))]
    game.play(best.move)
    before = search.evaluated
    search.start([game])
    assert search.num_visits(0) == best.visits
    assert search.root_value(0)[0] == pytest.approx(-best.value, abs=1e-4)
    assert search.evaluated == before
    search.run([0])
    assert search.evaluated - before <= 200 - best.visits
    # Another game in the same place starts anew.
    search.start([played(4, 21)])  # As many moves, so that the number does not tell.
    assert search.num_visits(0) == 1


def test_clearing_garbage_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def visits(garbage: int) -> list[str]:
        monkeypatch.setattr("keisei_ray.search.search._GARBAGE_NODES", garbage)
        games = [played(seed, 10) for seed in range(3)]
        search = Search(evaluate, SearchSettings(50))
        found = []
        for _ in range(4):
            search.start(games)
            search.run(range(3))
            for slot, game in enumerate(games):
                moves = search.root_moves(slot)
                found.append(repr(moves) + repr(search.best_line(slot)))
                game.play(moves[best_move(moves)].move)
        return found

    assert visits(1) == visits(10**9)


@pytest.mark.slow
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), leaves=st.integers(2, 16))
def test_several_leaves_at_once_leave_the_sums_right(seed: int, leaves: int) -> None:
    """After a step nothing is in flight: every node's sums are those of the visits below it."""
    search = Search(evaluate, SearchSettings(120, leaves_per_step=leaves))
    # The third has three moves, so the same leaf is chosen again while it is in flight.
    cornered = Game("4k4/9/9/9/9/9/9/9/K4R3 w - 1", max_plies=MAX_PLIES)
    search.start([played(seed, 20), played(seed + 1, 5), cornered])
    search.run([0, 1, 2])
    forest = search._forest
    for node in range(1, forest.num_nodes):
        children = forest.children[forest.edges_of(node)]
        if forest.num_edges[node] and forest.proofs[node] == UNPROVEN:
            assert forest.visits[node] == 1 + forest.visits[children].sum()
            assert (forest.proofs[children] != LOST).all()
        assert abs(forest.value_sums[node]) <= forest.visits[node] + 1e-3


def test_moves_are_ranked_by_proof_then_visits() -> None:
    def move(visits: int, value: float, proof: int = UNPROVEN) -> RootMove:
        return RootMove(0, visits, value, 0.0, 0.1, proof)

    assert best_move([move(9, 0.1), move(5, 0.9)]) == 0
    assert best_move([move(9, 0.1), move(1, 1.0, WON)]) == 1
    assert best_move([move(9, -1.0, LOST), move(1, -0.9)]) == 1
    assert best_move([move(9, -1.0, LOST), move(3, -1.0, LOST)]) == 0
    assert best_move([move(4, 0.1), move(4, 0.2)]) == 1
    assert best_first([move(9, -1.0, LOST), move(0, np.nan), move(1, 1.0, WON), move(5, 0.9)]) == [
        2, 3, 1, 0,
    ]  # fmt: skip
    assert best_first([move(4, 0.1), move(4, 0.1)])[0] == best_move([move(4, 0.1), move(4, 0.1)])


@pytest.mark.parametrize("bad", [{"simulations": 0}, {"simulations": 5, "leaves_per_step": 0}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        SearchSettings(**bad)


@pytest.mark.slow
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), leaves=st.integers(2, 20))
def test_paths_found_at_once_are_those_found_one_after_the_other(seed: int, leaves: int) -> None:
    rules = SearchSettings(50)

    def searched() -> Search:
        search = Search(evaluate, rules)
        search.start([played(seed, 20), Game("4k4/9/9/9/9/9/9/9/K4R3 w - 1", max_plies=MAX_PLIES)])
        search.run([0, 1])
        return search

    def lines(search: Search, paths: Paths) -> list[list[int]]:
        moves = search._forest.moves[paths.edges]
        return [row[:n].tolist() for row, n in zip(moves, paths.lengths.tolist(), strict=True)]

    together, one_by_one = searched(), searched()
    roots = np.array([tree.root for tree in together._trees])
    found = lines(together, together._forest.select(np.repeat(roots, leaves), rules))
    expected: list[list[list[int]]] = [[], []]
    for _ in range(leaves):
        for tree, line in enumerate(lines(one_by_one, one_by_one._forest.select(roots, rules))):
            expected[tree].append(line)
    assert found == expected[0] + expected[1]
    assert together._forest.visits.sum() == one_by_one._forest.visits.sum()
    sums = [search._forest.value_sums.sum() for search in (together, one_by_one)]
    assert sums[0] == pytest.approx(sums[1], abs=1e-3)


def often_drawn(boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[Floats, Floats, Floats]:
    """A network that knows nothing but that games are often drawn."""
    logits, values, _ = flat(boards, hands, scalars)
    return logits, values, np.full(len(values), 0.4, np.float32)


@pytest.mark.parametrize("draw_value", [-0.5, 0.0, 0.5])
def test_a_draw_has_its_value_for_the_side_to_move_at_the_root(draw_value: float) -> None:
    search = Search(often_drawn, SearchSettings(200, draw_value=draw_value))
    search.start([Game(STANDARD_SFEN, max_plies=MAX_PLIES)])
    # Also after the first visit of the root, which no path has made.
    expected = pytest.approx((0.4 * draw_value, 0.4, UNPROVEN), rel=1e-5)
    assert search.root_value(0) == expected
    search.run([0])
    assert search.root_value(0) == expected
    tried = [move.value for move in search.root_moves(0) if move.visits]
    assert tried == pytest.approx([0.4 * draw_value] * len(tried))


@pytest.mark.parametrize("root", get_args(RootRule))
@pytest.mark.parametrize(
    ("plies", "before", "now", "is_kept"),
    [
        (1, 0.0, 0.0, True),
        (1, -0.3, -0.3, False),
        (2, -0.3, -0.3, True),
        (1, -0.3, 0.3, True),
        (2, -0.3, 0.3, False),
        (0, -0.3, -0.2, False),
    ],
)
def test_a_tree_is_kept_where_a_draw_is_worth_the_same_to_the_same_side(
    plies: int, before: float, now: float, is_kept: bool, root: RootRule
) -> None:
    rules = SearchSettings(200, root=root, draw_value=now)
    # White has three moves, so that every line of two plies is searched.
    game = Game("4k4/9/9/9/9/9/9/9/K4R3 w - 1", max_plies=MAX_PLIES)
    search = Search(often_drawn, replace(rules, draw_value=before))
    search.start([game])
    search.run([0])
    for move in search.best_line(0)[:plies]:
        game.play(move)
    search.settings = rules
    search.start([game])
    assert (search.num_visits(0) > 1) == is_kept
    # The value is that of draws alone, for the side to move now.
    expected = pytest.approx((0.4 * now, 0.4, UNPROVEN), rel=1e-5)
    assert search.root_value(0) == expected
    search.run([0])
    assert search.root_value(0) == expected
    fresh = Search(often_drawn, rules)
    fresh.start([game])
    fresh.run([0])
    if not is_kept:
        assert repr(search.root_moves(0)) == repr(fresh.root_moves(0))


def test_a_search_of_limited_memory_ends_when_it_is_full_and_goes_on_with_the_next_move() -> None:
    search = Search(flat, SearchSettings(10**9, leaves_per_step=8), memory_bytes=2**20)
    game = Game(STANDARD_SFEN, max_plies=MAX_PLIES)
    for _ in range(3):
        search.start([game])
        assert search.fullness < 1
        search.run([0])
        assert search.fullness == 1
        assert search.deepest > 1
        game.play(search.root_moves(0)[best_move(search.root_moves(0))].move)
    assert Search(flat, SearchSettings(5)).fullness == 0


MATE_IN_SEVEN = "7+BS/lkg2+N3/6+N1p/lPS1p2+L1/p5pBP/5P3/P4RPPL/SNR2GSK1/7N1 b 2G8P 153"


def looked(game: Game, mate_positions: int, **settings: Any) -> Search:
    search = Search(flat, SearchSettings(20, mate_positions=mate_positions, **settings))
    search.start([game])
    search.run([0])
    return search


def _nodes_along(search: Search, line: list[int]) -> list[int]:
    """Nodes from the root of tree 0 to the end of a line."""
    forest, nodes = search._forest, [search._trees[0].root]
    for move in line:
        edges = forest.edges_of(nodes[-1])
        nodes.append(int(forest.children[edges][np.flatnonzero(forest.moves[edges] == move)[0]]))
    return nodes


@pytest.mark.parametrize("root", ["puct", "gumbel"])
def test_a_long_mate_from_the_root_is_seen_before_the_simulations(root: Any) -> None:
    game = Game(MATE_IN_SEVEN, max_plies=MAX_PLIES)
    search = looked(game, 2000, root=root)
    assert search.root_value(0) == (1.0, 0.0, WON)
    assert search.evaluated == 1
    line = search.best_line(0)
    assert len(line) == 7
    after = [search._moves_of(node)[0].proof for node in _nodes_along(search, line)[1:-1]]
    assert after == [LOST, WON, LOST, WON, LOST, WON]
    first = search.root_moves(0)[best_move(search.root_moves(0))]
    assert (first.move, first.value, first.draw_prob, first.proof) == (line[0], 1.0, 0.0, WON)
    if root == "gumbel":
        assert search.root_moves(0)[search.best_halved_moves([0])[0]].move == line[0]
    for move in line[:-1]:
        assert game.play(move) is None
    verdict = game.play(line[-1])
    assert verdict is not None
    assert verdict.reason == "mate"


@pytest.mark.parametrize("mate_positions", [0, 5])
def test_too_few_positions_see_no_long_mate(mate_positions: int) -> None:
    search = looked(Game(MATE_IN_SEVEN, max_plies=MAX_PLIES), mate_positions)
    assert search.root_value(0)[2] == UNPROVEN
    assert search.num_visits(0) == 20


def test_a_mate_is_played_to_its_end_whatever_the_defence() -> None:
    for reply in (0, -1):
        game = Game(MATE_IN_SEVEN, max_plies=MAX_PLIES)
        search = Search(flat, SearchSettings(20, mate_positions=2000))
        verdict = None
        while verdict is None:
            search.start([game])
            search.run([0])
            assert search.root_value(0)[2] == WON
            verdict = game.play(search.best_line(0)[0])
            if verdict is None:
                assert game.play(array("H", game.legal)[reply]) is None
        assert verdict.reason == "mate"
        assert len(game.moves) <= 7


def test_a_search_told_to_end_looks_for_no_mate() -> None:
    search = Search(flat, SearchSettings(20, mate_positions=2000))
    search.start([Game(MATE_IN_SEVEN, max_plies=MAX_PLIES)])
    search.run([0], lambda: True)
    assert search.root_value(0)[2] == UNPROVEN


def test_the_same_root_is_looked_at_again_only_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    games: list[Game] = []

    class Counted(MateSearch):
        def __post_init__(self) -> None:
            super().__post_init__()
            games.append(self.game)

    monkeypatch.setattr("keisei_ray.search.search.MateSearch", Counted)
    game = Game(MATE_IN_SEVEN, max_plies=MAX_PLIES)
    search = looked(game, 5)
    search.run([0])
    assert len(games) == 1
    search.settings = SearchSettings(21, mate_positions=6)
    search.run([0])
    assert len(games) == 2
    game.play(array("H", game.legal)[0])
    search.start([game])
    search.run([0])
    assert len(games) == 3


def test_memory_is_cleared_only_where_that_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clearing copies what stays: of a large tree that is longer than a move may take."""
    kept: list[int] = []
    keep = Forest.keep

    def counted(forest: Forest, roots: Ints) -> Ints:
        kept.append(forest.num_nodes)
        return keep(forest, roots)

    monkeypatch.setattr(Forest, "keep", counted)
    search = Search(flat, SearchSettings(10**9), memory_bytes=2**21)
    game = Game(STANDARD_SFEN, max_plies=MAX_PLIES)
    search.start([game])
    search.run([0], lambda: search.fullness > 0.6)
    visits = search.num_visits(0)
    for _ in range(3):
        search.start([game])
        search.run([0])
    assert search.fullness == 1
    assert search.num_visits(0) > visits
    assert kept == []
    game.play(search.root_moves(0)[0].move)
    search.start([game])
    assert len(kept) == 1
    assert search.fullness < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_is_the_tree_as_it_was(seed: int) -> None:
    search = Search(evaluate, SearchSettings(200))
    games = [played(seed, 20), played(seed, 31)]
    search.start(games)
    search.run([0, 1])
    forest = search._forest
    first, second = (tree.root for tree in search._trees)
    # The edges that it gets a second time leave the first ones, and what is below, behind.
    search._evaluate_nodes(np.array([first]), [games[0].legal])
    roots = np.array([second, NONE, first])

    def tree(node: int) -> object:
        own = {name: getattr(forest, name)[node].tolist() for name in _NODE_FIELDS}
        del own["first_edge"]
        edges = forest.edges_of(node)
        children = forest.children[edges].tolist()
        below = [tree(child) if child != NONE else None for child in children]
        return own, forest.moves[edges].tolist(), forest.priors[edges].tolist(), below

    before = [tree(root) for root in roots.tolist()]
    num_nodes = forest.num_nodes
    kept = forest.keep(roots)
    assert [tree(root) for root in kept.tolist()] == before
    assert kept[1] == NONE
    assert 100 < forest.num_nodes < num_nodes - 100
    assert not forest.visits[forest.num_nodes : num_nodes].any()
    assert forest.num_edges_used == 1 + forest.num_edges.sum()

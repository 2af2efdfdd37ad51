"""Sequential halving at the root: its plan, its choices, and searches that follow it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.search.forest import DRAWN, LOST, UNPROVEN, WON, Bytes, Floats
from keisei_ray.search.gumbel import (
    Halving,
    RootFindings,
    considered_visits,
    improved_policies,
    scores,
)
from keisei_ray.search.search import Search
from keisei_ray.search.settings import SearchSettings
from keisei_ray.shogi.game import STANDARD_SFEN, Game, Opening, play_opening
from tests.helpers.mates import MAX_PLIES, played
from tests.unit.search.test_search import evaluate, flat


def findings(
    priors: list[float],
    visits: list[int],
    values: list[float],
    proofs: list[int] | None = None,
    own_value: float = 0.0,
) -> RootFindings:
    """Findings about a single root."""
    return RootFindings(
        np.array([priors], np.float32),
        np.array([visits], np.int64),
        np.array([values], np.float32),
        np.array([proofs or [UNPROVEN] * len(priors)], np.uint8),
        np.ones((1, len(priors)), np.bool_),
        np.array([own_value], np.float32),
    )


def planned(visits: list[int], simulations: int) -> Halving:
    """The plan of a single search."""
    return Halving(np.array([visits]), [len(visits)], [simulations])


ROW = np.array([0])
KINGS = "4k4/9/9/9/9/9/9/9/4K4 b P 1"


@pytest.mark.parametrize(
    ("num_moves", "simulations", "plan"),
    [
        (1, 3, [0, 1, 2]),
        (4, 8, [0, 0, 0, 0, 1, 1, 2, 2]),
        (4, 3, [0, 0, 0]),
        (4, 16, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (3, 9, [0, 0, 0, 1, 1, 2, 2, 3, 3]),
        (4, 12, [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
    ],
)
def test_the_plan_halves_the_moves_round_by_round(
    num_moves: int, simulations: int, plan: list[int]
) -> None:
    assert considered_visits(num_moves, simulations).tolist() == plan


@given(num_moves=st.integers(1, 40), simulations=st.integers(1, 500))
def test_every_plan_can_be_followed(num_moves: int, simulations: int) -> None:
    """At each step some move has the visits that the plan asks for."""
    visits = [0] * num_moves
    for wanted in considered_visits(num_moves, simulations).tolist():
        visits[visits.index(wanted)] += 1
    assert sum(visits) == simulations


def halved(priors: list[float], values: list[float], simulations: int) -> tuple[list[int], int]:
    """Visits of each move when each keeps its value, and the move chosen."""
    halving = planned([0] * len(priors), simulations)
    visits = [0] * len(priors)
    for _ in range(simulations):
        visits[halving.next_moves(ROW, findings(priors, visits, values))[0]] += 1
    return visits, int(halving.best_moves(ROW, findings(priors, visits, values))[0])


def test_the_best_value_among_the_likely_moves_wins() -> None:
    priors = [0.3, 0.1, 0.3, 0.2, 0.1]
    visits, best = halved(priors, [0.0, 0.9, 0.1, 0.2, 0.3], 60)
    assert best == 1
    assert visits.index(max(visits)) == 1
    assert sum(visits) == 60
    assert min(visits) > 0
    # With equal values the policy decides, and few simulations go to the likeliest.
    assert halved(priors, [0.0] * 5, 3) == ([1, 0, 1, 1, 0], 0)


def test_at_most_sixteen_moves_are_considered() -> None:
    priors = (np.arange(1, 41) / np.arange(1, 41).sum()).tolist()
    visits, _ = halved(priors, [0.0] * 40, 200)
    assert np.flatnonzero(visits).tolist() == list(range(24, 40))


def test_visits_of_earlier_searches_count_for_values_only() -> None:
    halving = planned([50, 0], 4)
    found = findings([0.5, 0.5], [50, 0], [0.1, 0.0])
    assert halving.next_moves(ROW, found) == 0
    assert halving.next_moves(ROW, findings([0.5, 0.5], [51, 0], [0.1, 0.0])) == 1


def test_proofs_decide() -> None:
    found = findings([0.1, 0.8, 0.1], [1, 5, 6], [1.0, 0.9, -1.0], [WON, UNPROVEN, LOST])
    halving = planned([0, 0, 0], 20)
    assert halving.best_moves(ROW, found) == 0
    lost = found._replace(proofs=np.array([[LOST, UNPROVEN, LOST]], np.uint8))
    assert halving.best_moves(ROW, lost) == 1
    assert halving.next_moves(ROW, lost) == 1
    assert improved_policies(lost).tolist() == [[0.0, 1.0, 0.0]]
    all_lost = found._replace(
        proofs=np.full((1, 3), LOST, np.uint8), values=np.full((1, 3), -1, np.float32)
    )
    assert halving.best_moves(ROW, all_lost) == 1
    assert improved_policies(all_lost)[0] == pytest.approx([0.1, 0.8, 0.1])


def mctx_policy(
    logits: list[float], visits: list[int], values: list[float], own_value: float
) -> tuple[list[float], list[float]]:
    """Scores and improved policy of one root by the published formulas, one number at a time.

    `qtransform_completed_by_mix_value` and `gumbel_muzero_policy` of mctx, with value_scale = 1 and
    without rescaling, of values that are brought from [-1, 1] to [0, 1].
    """
    top = max(logits)
    total = math.fsum(math.exp(logit - top) for logit in logits)
    priors = [math.exp(logit - top) / total for logit in logits]
    tried = [i for i, count in enumerate(visits) if count]
    mixed = own_value
    if tried:
        of_tried = math.fsum(priors[i] for i in tried)
        weighted = math.fsum(priors[i] * values[i] / of_tried for i in tried)
        mixed = (own_value + sum(visits) * weighted) / (sum(visits) + 1)
    completed = [value if count else mixed for value, count in zip(values, visits, strict=True)]
    scaled = [(50 + max(visits)) * (value + 1) / 2 for value in completed]
    sums = [math.log(p) + q for p, q in zip(priors, scaled, strict=True)]
    highest = max(sums)
    weights = [math.exp(value - highest) for value in sums]
    return sums, [weight / math.fsum(weights) for weight in weights]


@given(seed=st.integers(0, 10**6))
def test_scores_and_policies_of_many_roots_are_those_of_mctx(seed: int) -> None:
    """Roots of unlike numbers of moves, side by side, against one at a time."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 12, 5)
    shape = 5, int(counts.max())
    is_legal = np.arange(shape[1]) < counts[:, None]
    logits = rng.normal(0, 2, shape)
    priors = np.where(is_legal, np.exp(logits), 0)
    found = RootFindings(
        (priors / priors.sum(1, keepdims=True)).astype(np.float32),
        np.where(is_legal, rng.integers(0, 4, shape), 0),
        rng.uniform(-1, 1, shape).astype(np.float32),
        np.full(shape, UNPROVEN, np.uint8),
        is_legal,
        rng.uniform(-1, 1, 5).astype(np.float32),
    )
    policies = improved_policies(found)
    for row, count in enumerate(counts.tolist()):
        expected = mctx_policy(
            logits[row, :count].tolist(),
            found.visits[row, :count].tolist(),
            found.values[row, :count].astype(float).tolist(),
            float(found.own_values[row]),
        )
        assert scores(found)[row, :count] == pytest.approx(expected[0], abs=1e-4)
        assert policies[row, :count] == pytest.approx(expected[1], abs=1e-4)
        assert not policies[row, count:].any()


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), simulations=st.integers(1, 80), leaves=st.integers(1, 8))
def test_a_search_follows_the_plan(seed: int, simulations: int, leaves: int) -> None:
    game = played(seed, 20)
    search = Search(
        evaluate, SearchSettings(simulations + 1, root="gumbel", leaves_per_step=leaves)
    )
    search.start([game])
    search.run([0])
    moves = search.root_moves(0)
    if search.root_value(0)[2] != UNPROVEN or any(move.proof for move in moves):
        return
    visits = np.array([move.visits for move in moves])
    assert simulations <= visits.sum() < simulations + leaves
    tried = min(16, len(moves), simulations)
    # Leaves in flight count as lost, so a step of several may try moves outside the first sixteen.
    assert (visits > 0).sum() >= tried
    if leaves == 1:
        likeliest = np.argsort([-move.prior for move in moves], kind="stable")[:tried]
        assert np.flatnonzero(visits).tolist() == sorted(likeliest.tolist())
    best = search.best_halved_moves([0])[0]
    assert visits[best] == visits.max()


def test_games_searched_together_are_searched_as_each_alone() -> None:
    few_moves = Game("4k4/9/9/9/9/9/9/9/4K4 b - 1", max_plies=300)
    games = [played(1, 4), played(2, 60), few_moves]
    together = Search(evaluate, SearchSettings(24, root="gumbel"))
    together.start(games)
    together.run([0, 1, 2])
    policies, best = together.improved_policies([2, 0]), together.best_halved_moves([2, 0])
    for row, game in enumerate((games[2], games[0])):
        alone = Search(evaluate, SearchSettings(24, root="gumbel"))
        alone.start([game])
        alone.run([0])
        (expected,) = alone.improved_policies([0])
        assert policies[row, : len(expected)] == pytest.approx(expected)
        assert best[row] == alone.best_halved_moves([0])[0]


def test_the_tree_is_kept_from_move_to_move() -> None:
    game = Game(STANDARD_SFEN, max_plies=300)
    search = Search(evaluate, SearchSettings(64, root="gumbel"))
    for _ in range(3):
        search.start([game])
        search.run([0])
        assert search.num_visits(0) == 64
        game.play(search.root_moves(0)[search.best_halved_moves([0])[0]].move)


@pytest.mark.parametrize("draw_value", [-0.5, 0.0, 0.5])
def test_halving_counts_all_draws_alike(draw_value: float) -> None:
    """A draw by repetition, those that the network expects after other moves, and at the root."""

    def often_drawn(boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[Floats, Floats, Floats]:
        logits, values, _ = flat(boards, hands, scalars)
        return logits, values, np.full(len(values), 0.4, np.float32)

    shuffle = "5i5h 5a5b 5h5i 5b5a"
    opening = Opening(KINGS, " ".join([shuffle] * 3).rpartition(" ")[0])
    game = play_opening(opening, max_plies=MAX_PLIES)
    search = Search(often_drawn, SearchSettings(60, root="gumbel", draw_value=draw_value))
    search.start([game])
    search.run([0])
    found = search._findings([search._trees[0].root])
    worth = np.where(found.proofs[0] == DRAWN, draw_value, 0.4 * draw_value)
    tried = found.visits[0] > 0
    assert np.flatnonzero(found.proofs[0] == DRAWN).tolist() == [game.find_move("5b5a")]
    assert found.values[0, tried] == pytest.approx(worth[tried])
    assert found.own_values == pytest.approx([0.4 * draw_value])

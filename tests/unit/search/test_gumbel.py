"""Sequential halving at the root: its plan, its choices, and searches that follow it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.search.forest import LOST, UNPROVEN, WON
from keisei_ray.search.gumbel import (
    C_VISIT,
    Halving,
    RootFindings,
    considered_visits,
    improved_policy,
    scores,
)
from keisei_ray.search.search import Search
from keisei_ray.search.settings import SearchSettings
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from tests.unit.search.test_search import evaluate, played


def findings(
    priors: list[float], visits: list[int], values: list[float], proofs: list[int] | None = None
) -> RootFindings:
    return RootFindings(
        np.array(priors, np.float32),
        np.array(visits, np.int64),
        np.array(values, np.float32),
        np.array(proofs or [UNPROVEN] * len(priors), np.uint8),
    )


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
    halving = Halving(np.zeros(len(priors), np.int64), simulations)
    visits = [0] * len(priors)
    for _ in range(simulations):
        visits[halving.next_move(findings(priors, visits, values))] += 1
    return visits, halving.best_move(findings(priors, visits, values))


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
    halving = Halving(np.array([50, 0]), 4)
    found = findings([0.5, 0.5], [50, 0], [0.1, 0.0])
    assert halving.next_move(found) == 0
    assert halving.next_move(findings([0.5, 0.5], [51, 0], [0.1, 0.0])) == 1


def test_proofs_decide() -> None:
    found = findings([0.1, 0.8, 0.1], [1, 5, 6], [1.0, 0.9, -1.0], [WON, UNPROVEN, LOST])
    halving = Halving(np.zeros(3, np.int64), 20)
    assert halving.best_move(found) == 0
    lost = found._replace(proofs=np.array([LOST, UNPROVEN, LOST], np.uint8))
    assert halving.best_move(lost) == 1
    assert halving.next_move(lost) == 1
    assert improved_policy(lost).tolist() == [0.0, 1.0, 0.0]
    all_lost = found._replace(proofs=np.full(3, LOST, np.uint8), values=np.full(3, -1, np.float32))
    assert halving.best_move(all_lost) == 1
    assert improved_policy(all_lost) == pytest.approx([0.1, 0.8, 0.1])


def test_scores_by_the_closed_form() -> None:
    found = findings([0.25, 0.5, 0.25], [3, 1, 0], [0.5, -0.5, 9.0])
    mean = (0.25 * 0.5 - 0.5 * 0.5) / 0.75
    expected = np.log([0.25, 0.5, 0.25]) + (C_VISIT + 3) * (np.array([0.5, -0.5, mean]) + 1) / 2
    assert scores(found) == pytest.approx(expected)


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
    best = search.best_halved_move(0)
    assert visits[best] == visits.max()


def test_the_tree_is_kept_from_move_to_move() -> None:
    game = Game(STANDARD_SFEN, max_plies=300)
    search = Search(evaluate, SearchSettings(64, root="gumbel"))
    for _ in range(3):
        search.start([game])
        search.run([0])
        assert search.num_visits(0) == 64
        game.play(search.root_moves(0)[search.best_halved_move(0)].move)

"""The policy that searches: limits, choices, and games asked about side by side."""

from array import array
from typing import Any, get_args

import numpy as np
import pytest
from rsshogi.core import Move

from keisei_ray.config.player_spec import SearchSpec
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.players.policies import Ints, Judgement, network_outputs
from keisei_ray.players.searching import (
    SearchingPolicy,
    choose_root_move,
    leaves_per_step,
    mate_positions,
    useful_visits,
)
from keisei_ray.search.forest import DRAWN, LOST, UNPROVEN, WON, Floats
from keisei_ray.search.score import centipawns
from keisei_ray.search.search import RootMove
from keisei_ray.search.settings import RootRule
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.game_record import MAX_EVAL, Visits
from keisei_ray.shogi.mates import MateSearch
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.networks import shaken_model
from tests.helpers.tiny import tiny_config

MATE_IN_THREE = "3k1n1G1/ng2s2LB/4gp1+N1/1p7/2p5S/4g2P1/6P1P/p3K1b1L/P+l5+n1 w SL7P2rs3p 118"


@pytest.fixture(scope="module")
def model() -> PolicyValueNet:
    return build_model(tiny_config().model, seed=0).eval()


def games_from(*sfens: str) -> VectorGames:
    def rng(index: int) -> np.random.Generator:
        return np.random.default_rng(index)

    return VectorGames(len(sfens), max_plies=300, rng_for_game=rng, sfens=sfens)


def root_move(visits: int, proof: int = UNPROVEN) -> RootMove:
    return RootMove(0, visits, 0.1, 0.0, 0.1, proof)


def test_a_search_sees_the_mate_that_the_policy_does_not(model: PolicyValueNet) -> None:
    games = games_from(MATE_IN_THREE)
    choose = SearchingPolicy(model, SearchSpec(1500, None))
    for _ in range(3):
        lanes: Ints = np.arange(1)
        result = games.step(choose(games, lanes, np.zeros(1)))
    assert [(end.reason, end.plies) for end in result.finished] == [("mate", 3)]


def test_a_game_is_searched_the_same_beside_others(model: PolicyValueNet) -> None:
    def choices(num_games: int, lanes: list[int]) -> list[int]:
        games = games_from(*[STANDARD_SFEN] * num_games)
        choose = SearchingPolicy(model, SearchSpec(15, None))  # Too few for several leaves.
        found = []
        for _ in range(4):
            answers = np.zeros(num_games, np.int64)
            answers[lanes] = choose(games, np.array(lanes), np.zeros(len(lanes)))
            found.append(int(answers[lanes[0]]))
            answers[:] = found[-1]
            games.step(answers)
        return found

    assert choices(1, [0]) == choices(5, [3, 4]) == choices(3, [0, 1, 2])


def test_the_clock_ends_a_search(model: PolicyValueNet, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(np.arange(0.0, 100.0, 0.25))
    monkeypatch.setattr("keisei_ray.players.searching.time.monotonic", lambda: next(ticks))
    games = games_from(STANDARD_SFEN)
    SearchingPolicy(model, SearchSpec(None, 1.0))(games, np.arange(1), np.zeros(1))
    assert next(ticks) == 1.25


@pytest.mark.parametrize("root", get_args(RootRule))
@pytest.mark.parametrize(("draw_value", "is_drawn"), [(-1.0, False), (1.0, True)])
def test_a_player_that_dislikes_draws_plays_on(
    model: PolicyValueNet, root: RootRule, draw_value: float, is_drawn: bool
) -> None:
    """White may make the fourth occurrence of the start position."""
    games = games_from(STANDARD_SFEN)
    for ply in range(11):
        usi = ("5i5h", "5a5b", "5h5i", "5b5a")[ply % 4]
        games.step(np.array([games.game(0).find_move(usi)]))
    choose = SearchingPolicy(model, SearchSpec(300, None, root, draw_value))
    index = choose(games, np.arange(1), np.zeros(1))[0]
    chosen = Move(array("H", games.game(0).legal)[index]).to_usi()
    assert (chosen == "5b5a") == is_drawn


@pytest.mark.parametrize("draw_value", [-1.0, -0.3, 1.0])
@pytest.mark.parametrize("simulations", [1, 40])
def test_a_judgement_counts_a_draw_as_half(
    simulations: int, draw_value: float, model: PolicyValueNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mostly_drawn(*position: Any) -> tuple[Floats, Floats, Floats]:
        logits, values, _ = network_outputs(*position)
        return logits, np.zeros_like(values), np.full_like(values, 0.97)

    monkeypatch.setattr("keisei_ray.players.searching.network_outputs", mostly_drawn)
    choose = SearchingPolicy(model, SearchSpec(simulations, None, draw_value=draw_value))
    games = games_from(STANDARD_SFEN)
    for _ in range(4):  # Moves for both sides, as a player of `generate` against itself does.
        games.step(choose(games, np.arange(1), np.zeros(1)))
        assert [judgement.evaluation for judgement in choose.judgements()] == [0]


def test_temperature_follows_the_visits_and_leaves_lost_moves_out() -> None:
    moves = [root_move(30), root_move(10), root_move(0), root_move(60, LOST)]
    uniforms = (np.arange(4000) + 0.5) / 4000
    chosen = [choose_root_move(moves, 1.0, uniform) for uniform in uniforms]
    assert np.bincount(chosen, minlength=4).tolist() == [3000, 1000, 0, 0]
    chosen = [choose_root_move(moves, 0.5, uniform) for uniform in uniforms]
    assert np.bincount(chosen, minlength=4).tolist() == [3600, 400, 0, 0]
    assert choose_root_move(moves, 0.0, 0.99) == 0
    assert choose_root_move([root_move(9), root_move(1, WON)], 1.0, 0.0) == 1


def test_halving_at_the_root_plays_the_mate_and_samples_the_improved_policy(
    model: PolicyValueNet,
) -> None:
    spec = SearchSpec(8, None, "gumbel")

    def chosen(sfen: str, temperature: float, uniform: float) -> str:
        games = games_from(sfen)
        choose = SearchingPolicy(model, spec, temperature)
        index = choose(games, np.arange(1), np.full(1, uniform))[0]
        return Move(array("H", games.game(0).legal)[index]).to_usi()

    mate = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
    assert [chosen(mate, 1.0, uniform) for uniform in (0.0, 0.99)] == ["G*5b", "G*5b"]
    sampled = [chosen(STANDARD_SFEN, 2.0, uniform) for uniform in np.linspace(0, 0.999, 40)]
    assert len(set(sampled)) > 5
    assert len({chosen(STANDARD_SFEN, 0.0, uniform) for uniform in (0.0, 0.5, 0.99)}) == 1


@pytest.mark.parametrize(
    ("num_games", "spec", "leaves"),
    [
        (64, SearchSpec(800, None), 1),
        (1, SearchSpec(800, None), 16),
        (1, SearchSpec(50, None), 3),
        (1, SearchSpec(5, None), 1),
        (8, SearchSpec(None, 1.0), 4),
    ],
)
def test_few_games_put_more_leaves_of_each_into_a_pass(
    num_games: int, spec: SearchSpec, leaves: int
) -> None:
    assert leaves_per_step(num_games, spec) == leaves


def test_a_player_with_a_search_plays_a_long_mate(model: PolicyValueNet) -> None:
    sfen = "7+BS/lkg2+N3/6+N1p/lPS1p2+L1/p5pBP/5P3/P4RPPL/SNR2GSK1/7N1 b 2G8P 153"
    games = games_from(sfen)
    index = SearchingPolicy(model, SearchSpec(200, None))(games, np.arange(1), np.zeros(1))[0]
    mates = MateSearch(games.game(0))
    mates.run(lambda: False, 10**6)
    assert len(mates.line) == 7
    assert array("H", games.game(0).legal)[index] == mates.line[0]


@pytest.mark.parametrize(
    ("num_games", "spec", "positions"),
    [
        (64, SearchSpec(800, None), 800),
        (1, SearchSpec(1, None), 1),
        (1, SearchSpec(10**6, None), 2000),
        (1, SearchSpec(None, 0.5), 1000),
        (40, SearchSpec(None, 0.1), 5),
        (40, SearchSpec(200, 1.0), 50),
        (40, SearchSpec(200, 60.0), 200),
    ],
)
def test_a_mate_is_looked_for_as_long_as_the_games_can_afford(
    num_games: int, spec: SearchSpec, positions: int
) -> None:
    assert mate_positions(num_games, spec) == positions


def test_what_a_search_of_one_simulation_finds_is_what_the_network_says() -> None:
    games, model = games_from(STANDARD_SFEN), shaken_model()
    choose = SearchingPolicy(model, SearchSpec(1, None))
    (chosen,) = choose(games, np.arange(1), np.zeros(1))
    _, (value,), _ = network_outputs(model, games.boards, games.hands, games.scalars)
    assert abs(value) > 0.001
    expected = Judgement(centipawns(float(value)), ((array("H", games.game(0).legal)[chosen], 1),))
    assert choose.judgements() == [expected]


def test_a_proven_root_is_judged_by_its_proof(model: PolicyValueNet) -> None:
    games = games_from(MATE_IN_THREE)
    choose = SearchingPolicy(model, SearchSpec(1500, None))
    (chosen,) = choose(games, np.arange(1), np.zeros(1))
    assert choose.judgements() == [
        Judgement(MAX_EVAL, ((array("H", games.game(0).legal)[chosen], 1),))
    ]


def test_the_visits_of_gumbel_are_its_policy_in_thousandths(model: PolicyValueNet) -> None:
    games = games_from(STANDARD_SFEN, STANDARD_SFEN)
    choose = SearchingPolicy(model, SearchSpec(40, None, "gumbel"))
    choose(games, np.arange(2), np.zeros(2))
    for judgement in choose.judgements():
        assert sum(count for _, count in judgement.visits) == pytest.approx(1000, abs=15)


@pytest.mark.parametrize(
    ("moves", "counts", "expected"),
    [
        ([(5, UNPROVEN), (0, UNPROVEN), (2, DRAWN)], [5, 0, 2], ((0, 5), (2, 2))),
        ([(9, LOST), (1, UNPROVEN)], [9, 1], ((1, 1),)),
        ([(9, UNPROVEN), (1, WON)], [9, 1], ((1, 1),)),
        ([(3, LOST), (9, LOST)], [3, 9], ((1, 1),)),
        ([(0, UNPROVEN)], [0], ((0, 1),)),
        ([(3, UNPROVEN), (4, UNPROVEN)], [250, 750, 0], ((0, 250), (1, 750))),
    ],
)
def test_visits_to_learn_from(
    moves: list[tuple[int, int]], counts: list[int], expected: Visits
) -> None:
    """The moves are numbered."""
    found = [root_move(*move)._replace(move=number) for number, move in enumerate(moves)]
    assert useful_visits(found, counts) == expected

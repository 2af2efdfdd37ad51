"""Moves chosen by a policy: sampled, greedy, random, finishing."""

import numpy as np
import pytest
import torch
from rsshogi.core import Board, Move

from keisei_ray.network.model import build_model
from keisei_ray.players.policies import (
    Choose,
    Ints,
    Uniforms,
    choose_greedy,
    choose_greedy2,
    choose_random,
    choose_random_mates,
    finishing,
    likeliest_without_repeating,
    network_policy,
    partly_random,
    sample_legal,
)
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.tiny import tiny_config


def test_sampling_follows_the_softmax_over_legal_labels() -> None:
    """Chi-square over 30,000 draws in each of three rows with 4, 1 and 30 legal labels."""
    rng = np.random.default_rng(0)
    counts, draws = [4, 1, 30], 30_000
    labels = [rng.choice(1496, count, replace=False) for count in counts]
    logits = rng.normal(0, 1.5, (3, 1496)).astype(np.float32)
    tallies = [np.zeros(count) for count in counts]
    rows = np.repeat(np.arange(3), draws // 30)
    for _ in range(30):
        offsets = np.concatenate([[0], np.cumsum(np.take(counts, rows))]).astype(np.int64)
        flat = np.concatenate([labels[row] for row in rows]).astype(np.int16)
        choices, log_probs = sample_legal(logits[rows], flat, offsets, rng.random(len(rows)))
        for row in range(3):
            tallies[row] += np.bincount(choices[rows == row], minlength=counts[row])
            exact = logits[row, labels[row]].astype(np.float64)
            exact -= np.log(np.exp(exact).sum())
            picked = choices[rows == row]
            np.testing.assert_allclose(log_probs[rows == row], exact[picked], atol=1e-5)
    for row, count in enumerate(counts):
        odds = np.exp(logits[row, labels[row]].astype(np.float64))
        expected = draws * odds / odds.sum()
        assert tallies[row].shape == (count,)
        statistic = ((tallies[row] - expected) ** 2 / expected).sum()
        # Five standard deviations of a chi-square variable above its mean.
        assert statistic <= count - 1 + 5 * np.sqrt(2 * count)


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_the_edges_of_the_uniform_stay_within_the_row(uniform: float) -> None:
    logits = np.random.default_rng(1).normal(0, 30, (200, 1496)).astype(np.float32)
    counts = np.random.default_rng(2).integers(1, 60, 200)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    labels = np.concatenate([np.arange(count) for count in counts]).astype(np.int16)
    choices, log_probs = sample_legal(logits, labels, offsets, np.full(200, uniform))
    assert ((choices >= 0) & (choices < counts)).all()
    assert np.isfinite(log_probs).all()
    assert (log_probs <= 0).all()


def lone_game(sfen: str) -> VectorGames:
    return VectorGames(1, max_plies=50, rng_for_game=np.random.default_rng, sfens=[sfen])


def chosen(choose: Choose, sfen: str) -> set[str]:
    """Every move that some uniform number makes the policy choose."""
    board = Board(sfen)
    moves = [move.to_usi() for move in board.legal_moves()]
    games = lone_game(sfen)
    lane = np.array([0])
    draws = [*np.linspace(0, 1, 200, endpoint=False), np.nextafter(1.0, 0.0)]
    return {moves[int(choose(games, lane, np.array([u]))[0])] for u in draws}


def test_greedy_mates_rather_than_takes() -> None:
    # A gold dropped on 5b mates; the rook on 9g could be taken instead.
    sfen = "4k4/9/4P4/9/9/9/r8/R8/4K4 b G 1"
    mates = chosen(choose_greedy, sfen)
    for usi in mates:
        board = Board(sfen)
        board.apply_move(Move.from_usi(usi))
        assert board.is_in_check()
        assert not board.legal_moves()
    assert mates


def test_greedy_takes_the_dearest_piece_and_draws_among_equals() -> None:
    # Two rooks and a pawn can be taken: it takes either rook, never the pawn.
    sfen = "4k4/9/9/9/r8/P3p3r/4P3P/9/4K4 b - 1"
    assert chosen(choose_greedy, sfen) == {"9f9e", "1g1f"}


def test_greedy2_takes_what_is_free_and_leaves_what_is_defended() -> None:
    # The rook may take a pawn that a gold defends, or one that nothing defends.
    sfen = "k8/9/4g4/4p4/9/9/4R3p/9/K8 b - 1"
    assert chosen(choose_greedy, sfen) == {"5g5d", "5g1g"}
    assert chosen(choose_greedy2, sfen) == {"5g1g"}


def test_greedy2_saves_the_piece_that_would_be_taken() -> None:
    # A pawn attacks the silver, which nothing defends: it moves away, or takes the pawn.
    sfen = "k8/9/9/9/p8/S8/9/9/8K b - 1"
    assert chosen(choose_greedy2, sfen) == {"9f9e"}


def test_greedy2_mates_and_does_not_let_itself_be_mated() -> None:
    mates = chosen(choose_greedy2, "4k4/9/4P4/9/9/9/r8/R8/4K4 b G 1")
    assert mates == chosen(choose_greedy, "4k4/9/4P4/9/9/9/r8/R8/4K4 b G 1")
    # White threatens to mate by a gold on 5h. Taking the other gold does not stop that.
    sfen = "4k4/9/9/9/8g/9/4p4/9/4K3R b g 1"
    assert chosen(choose_greedy, sfen) == {"1i1e"}
    for usi in chosen(choose_greedy2, sfen):
        board = Board(sfen)
        board.apply_move(Move.from_usi(usi))
        assert board.solve_mate_in_one() is None


def test_random_with_mates_mates_where_it_can() -> None:
    sfen = "4k4/9/4P4/9/9/9/r8/R8/4K4 b G 1"
    mates = chosen(choose_random_mates, sfen)
    assert mates
    assert mates <= chosen(choose_greedy2, sfen)
    everything = {move.to_usi() for move in Board(STANDARD_SFEN).legal_moves()}
    assert chosen(choose_random_mates, STANDARD_SFEN) == everything


def test_a_partly_random_player_plays_that_share_of_its_moves_at_random() -> None:
    sfen = "k8/9/4g4/4p4/9/9/4R3p/9/K8 b - 1"
    games = lone_game(sfen)
    moves = [move.to_usi() for move in Board(sfen).legal_moves()]
    choose = partly_random(choose_greedy2, 0.25)
    draws = np.linspace(0, 1, 1000, endpoint=False)
    picks = [int(choose(games, np.array([0]), np.array([u]))[0]) for u in draws]
    best = moves.index("5g1g")
    assert picks[250:] == [best] * 750
    assert sorted(set(picks[:250])) == list(range(len(moves)))


def test_the_choice_among_lanes_is_that_of_each_lane_alone() -> None:
    sfens = ("k8/9/4g4/4p4/9/9/4R3p/9/K8 b - 1", STANDARD_SFEN)
    games = VectorGames(6, max_plies=50, rng_for_game=np.random.default_rng, sfens=sfens)
    lanes, uniforms = np.array([4, 1, 3]), np.array([0.3, 0.9, 0.5])
    together = choose_greedy2(games, lanes, uniforms)
    alone = [int(choose_greedy2(games, lanes[i : i + 1], uniforms[i : i + 1])[0]) for i in range(3)]
    assert together.tolist() == alone


def test_random_chooses_every_legal_move() -> None:
    board = Board(STANDARD_SFEN)
    assert chosen(choose_random, STANDARD_SFEN) == {move.to_usi() for move in board.legal_moves()}


def test_temperature_zero_is_the_limit_of_sampling() -> None:
    model = build_model(tiny_config().model, seed=1).eval()
    with torch.no_grad():
        model.policy_head.weight.mul_(100)
    best = chosen(network_policy(model), STANDARD_SFEN)
    assert len(best) == 1
    assert chosen(network_policy(model, 1e-6), STANDARD_SFEN) == best
    assert len(chosen(network_policy(model, 1.0), STANDARD_SFEN)) > 1


def bare_game(value: float) -> tuple[list[int], list[int]]:
    """Moves, and earlier occurrences of the positions, of a network that values all positions so.

    Few pieces, so that it soon moves back and forth if nothing hinders it.
    """
    model = build_model(tiny_config().model, seed=1).eval()
    with torch.no_grad():
        model.policy_head.weight.mul_(100)
        model.material_weight.zero_()
        model.value_out.weight.zero_()
        model.value_out.bias[:] = torch.tensor([5.0 * value, -5.0, -5.0 * value])
    choose = network_policy(model)
    games = lone_game("4k4/9/9/9/9/9/9/4G4/4K4 b - 1")
    moves, earlier = [], []
    for _ in range(45):
        choice = choose(games, np.array([0]), np.zeros(1))
        moves.append(int(choice[0]))
        games.step(choice)
        earlier.append(int(games.scalars[0, 0]))
    return moves, earlier


def test_a_network_at_temperature_zero_repeats_positions_only_where_it_is_losing() -> None:
    moves, earlier = bare_game(0.0)
    assert max(earlier) == 0
    losing, repeated = bare_game(-1.0)
    first = repeated.index(1)
    assert losing[:first] == moves[:first]
    assert losing[first] != moves[first]


@pytest.mark.parametrize(
    ("sfen", "order"),
    [("4k4/9/9/9/9/9/9/9/K8 b - 1", [2, 1, 0]), ("4k4/9/9/9/1r7/9/9/9/K8 b - 1", [0, 0, 0])],
    ids=["three moves", "one move"],
)
def test_the_likeliest_move_that_repeats_nothing_is_played(sfen: str, order: list[int]) -> None:
    """Black's king goes out and back, White's meanwhile too. Where all moves repeat, the best."""
    game = Game(sfen, max_plies=99)
    legal = [move.to_usi() for move in Board(sfen).legal_moves()]
    best = len(legal) - 1
    scores = np.arange(len(legal), dtype=np.float64)
    found = []
    for _ in order:
        found.append(likeliest_without_repeating(game, scores, best))
        usi = legal[found[-1]]
        for move in (usi, "5a4a", usi[2:] + usi[:2], "4a5a") if len(found) < 3 else ():
            assert game.play(Move.from_usi(move).value) is None
    assert found == order


def test_finishing_mates_where_it_can_and_asks_the_inner_policy_elsewhere() -> None:
    mate_sfen = "8k/9/8P/9/9/9/9/9/K8 b G 1"
    games = VectorGames(
        8, max_plies=50, rng_for_game=np.random.default_rng, sfens=(mate_sfen, STANDARD_SFEN)
    )
    lanes = np.arange(8)
    asked: list[int] = []

    def last_move(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        asked.extend(lanes.tolist())
        return np.diff(games.legal_offsets)[lanes] - 1

    mating = games.mate_in_one()
    with_mate = np.flatnonzero(mating >= 0)
    assert 0 < len(with_mate) < 8
    choices = finishing(last_move)(games, lanes, np.zeros(8))
    assert sorted(asked) == sorted(set(range(8)) - set(with_mate.tolist()))
    assert (choices[with_mate] == mating[with_mate]).all()
    result = games.step(choices)
    assert result.terminated[with_mate].all()
    assert (result.rewards[with_mate] == 1).all()

"""Matches: pairs of games, openings, colours, and results that must follow by symmetry."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from rsshogi.core import Board, Move

from keisei_ray.config.sections import ModelConfig
from keisei_ray.evaluation.matches import (
    MatchSettings,
    PlayedGame,
    match_score,
    pair_scores,
    play_match,
)
from keisei_ray.evaluation.score_intervals import score_interval
from keisei_ray.network.model import build_model
from keisei_ray.players.player import (
    Player,
    checkpoint_player,
)
from keisei_ray.players.policies import (
    Ints,
    Uniforms,
    choose_greedy,
    choose_random,
    network_policy,
)
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.saved_runs import save_untrained

RANDOM = Player("random", choose_random)
GREEDY = Player("greedy", choose_greedy)
TINY = ModelConfig(depth=1, width=8, value_hidden=8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint of an untrained learner."""
    run_dir = tmp_path_factory.mktemp("run")
    save_untrained(run_dir, timestep=200, seed=2)
    return run_dir


def tiny_player(seed: int, temperature: float = 0.0) -> Player:
    return Player(f"tiny {seed}", network_policy(build_model(TINY, seed=seed).eval(), temperature))


def play(first: Player, second: Player, num_games: int, **settings: Any) -> list[PlayedGame]:
    streams = (settings.pop("stream", 0), settings.pop("other_stream", 1))
    lanes = settings.pop("num_lanes", 64)
    match = MatchSettings(num_games, **({"seed": 3, "max_plies": 160} | settings))
    return sorted(
        play_match((first, second), match, streams=streams, num_lanes=lanes),
        key=lambda game: game.index,
    )


# Results that must follow


@pytest.mark.slow
def test_random_against_random_is_even_from_both_colors() -> None:
    games = play(RANDOM, RANDOM, 200, max_plies=400)
    for is_black in (True, False):
        scores = [game.score for game in games if game.is_black == is_black]
        interval = score_interval(scores)
        assert interval.low < 0.5 < interval.high
        assert interval.high - interval.low < 0.2
    assert sum(game.outcome in ("win", "loss") for game in games) > 60


def test_greedy_beats_random() -> None:
    assert score_interval(pair_scores(play(GREEDY, RANDOM, 60, max_plies=320))).low > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [(RANDOM, GREEDY), (tiny_player(1), tiny_player(2)), (tiny_player(1, 1.0), RANDOM)],
    ids=["random-greedy", "argmax-argmax", "sampled-random"],
)
def test_swapped_players_swap_every_game(first: Player, second: Player) -> None:
    games = play(first, second, 12)
    swapped = play(second, first, 12, stream=1, other_stream=0)
    for game in games:
        partner = swapped[game.index ^ 1]  # The other game of the pair.
        assert partner.moves == game.moves
        assert partner.score == 1 - game.score
        assert partner.is_black != game.is_black


@pytest.mark.slow
def test_weights_against_themselves_are_even(saved_run: Path) -> None:
    likeliest = checkpoint_player(saved_run)
    assert set(pair_scores(play(likeliest, likeliest, 20))) == {0.5}
    sampled = checkpoint_player(saved_run, temperature=1.0)
    interval = score_interval(pair_scores(play(sampled, sampled, 40)))
    assert interval.low < 0.5 < interval.high


# Matches


def test_both_games_of_a_pair_start_from_one_opening_and_pairs_differ() -> None:
    # There are 31 openings of at most one ply; 20 drawn freely would hardly all differ.
    games = play(RANDOM, RANDOM, 40, max_plies=30, random_opening_plies=1)
    openings = []
    for black, white in zip(games[::2], games[1::2], strict=True):
        assert black.is_black
        assert not white.is_black
        assert black.opening_plies == white.opening_plies
        plies = black.opening_plies
        assert black.moves.split()[:plies] == white.moves.split()[:plies]
        board = Board(STANDARD_SFEN)
        for usi in black.moves.split()[:plies]:
            board.apply_move(Move.from_usi(usi))
        openings.append(board.to_sfen())
    assert len(set(openings)) == len(openings)
    assert len({game.moves for game in games}) == len(games)


def test_openings_repeat_only_where_there_are_no_others() -> None:
    games = play(GREEDY, RANDOM, 6, max_plies=20, random_opening_plies=0)
    assert [game.opening_plies for game in games] == [0] * 6


def test_every_scheduled_game_is_counted_on_few_lanes_as_on_many() -> None:
    many = play(GREEDY, RANDOM, 30, num_lanes=64)
    few = play(GREEDY, RANDOM, 30, num_lanes=7)
    assert [game.index for game in few] == list(range(30))
    assert few == many


def test_the_seed_alone_decides_the_match() -> None:
    assert play(RANDOM, GREEDY, 6) == play(RANDOM, GREEDY, 6)
    assert play(RANDOM, GREEDY, 6) != play(RANDOM, GREEDY, 6, seed=4)


def test_each_player_is_asked_once_a_ply_and_only_where_it_moves() -> None:
    asked: list[tuple[str, frozenset[int]]] = []

    def spy(name: str) -> Player:
        def choose(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
            asked.append((name, frozenset(lanes.tolist())))
            for lane in lanes:
                is_black = games.turns[lane] == 0
                assert is_black == ((games.game_index[lane] % 2 == 0) == (name == "first"))
            return choose_random(games, lanes, uniforms)

        return Player(name, choose)

    play(spy("first"), spy("second"), 8, max_plies=12)
    # At most 12 plies, and each player is asked at most once per ply.
    assert len(asked) <= 2 * 12
    assert frozenset.union(asked[0][1], asked[1][1]) == frozenset(range(8))
    assert [name for name, _ in asked[:2]] == ["first", "second"]


def test_a_game_cut_by_the_ply_cap_counts_half_and_is_reported_apart() -> None:
    games = play(RANDOM, RANDOM, 10, max_plies=12, random_opening_plies=4)
    assert Counter(game.outcome for game in games)["truncated"] >= 8
    assert all(game.score == 0.5 for game in games if game.outcome == "truncated")
    assert all(game.plies <= 12 for game in games)


def played_game(index: int, outcome: str, plies: int) -> PlayedGame:
    return PlayedGame(index, index % 2 == 0, outcome, "mate", plies, 2, "")  # type: ignore[arg-type]


def test_the_score_of_a_match_by_hand() -> None:
    games = [
        played_game(0, "win", 10),
        played_game(1, "loss", 20),
        played_game(2, "draw", 30),
        played_game(3, "truncated", 60),
    ]
    score = match_score([games[2], games[0], games[3], games[1]], wall_time_s=9.0)
    assert (score.games, score.wins, score.draws, score.losses, score.truncated) == (4, 1, 1, 1, 1)
    assert score.score == 0.5
    assert score.as_black_score == 0.75
    assert score.as_white_score == 0.25
    assert score.mean_plies == 30
    assert score.wall_time_s == 9.0
    assert 0 <= score.score_low < 0.5 < score.score_high <= 1

"""Players, matches and the evaluate command: truth test 6, and checkpoints that must not play."""

import io
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rsshogi.core import Board, Move

from keisei_ray.cli import main
from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError, ConfigError
from keisei_ray.evaluation import command
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, pair_scores, play_match
from keisei_ray.evaluation.score_intervals import score_interval
from keisei_ray.learning.learner import Learner
from keisei_ray.network.model import build_model
from keisei_ray.players.player import (
    Player,
    checkpoint_player,
    open_player,
)
from keisei_ray.players.policies import (
    Ints,
    Uniforms,
    choose_greedy,
    choose_random,
    finishing,
    network_policy,
)
from keisei_ray.players.saved_model import find_checkpoint, load_model
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.vector_games import VectorGames
from keisei_ray.storage import checkpoint

RANDOM = Player("random", choose_random)
GREEDY = Player("greedy", choose_greedy)
TINY = ModelConfig(depth=1, width=8, value_hidden=8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the checkpoints of two untrained learners, as the driver saves them."""
    run_dir = tmp_path_factory.mktemp("run")
    for timestep, seed in ((100, 1), (200, 2)):
        config = resolve_config(
            None,
            {},
            ["model.depth=1", "model.width=8", "model.value_hidden=8", f"run.seed={seed}"],
            {},
        )
        learner = Learner(resolve_auto(config, 1, 0))
        info: dict[str, str | int | float | bool | None] = {
            "weights_version": 0,
            "weights_digest": learner.weights_digest(),
            "model": config.model.model_dump_json(),
        }
        checkpoint.save(run_dir / "checkpoints", timestep, learner.state_files(), info)
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


# Truth test 6


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


@pytest.mark.parametrize(
    ("first", "second"),
    [(RANDOM, GREEDY), (tiny_player(1), tiny_player(2)), (tiny_player(1, 1.0), RANDOM)],
    ids=["random-greedy", "argmax-argmax", "sampled-random"],
)
def test_swapped_players_swap_every_game(first: Player, second: Player) -> None:
    games = play(first, second, 12)
    swapped = play(second, first, 12, stream=1, other_stream=0)
    for game in games:
        partner = swapped[game.index ^ 1]  # The same pair, the other seat.
        assert partner.moves == game.moves
        assert partner.score == 1 - game.score
        assert partner.is_black != game.is_black


def test_weights_against_themselves_are_even(saved_run: Path) -> None:
    likeliest = checkpoint_player(saved_run)
    assert set(pair_scores(play(likeliest, likeliest, 20))) == {0.5}
    sampled = checkpoint_player(saved_run, temperature=1.0)
    interval = score_interval(pair_scores(play(sampled, sampled, 40)))
    assert interval.low < 0.5 < interval.high


# Matches


def test_both_games_of_a_pair_start_from_one_opening_and_pairs_differ() -> None:
    # Few openings of at most one ply: 31, of which 20 drawn freely would hardly all differ.
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
    # At most 12 rounds, in each of them each player at most once.
    assert len(asked) <= 2 * 12
    assert frozenset.union(asked[0][1], asked[1][1]) == frozenset(range(8))
    assert [name for name, _ in asked[:2]] == ["first", "second"]


def test_a_game_cut_by_the_cap_counts_half_and_is_told_apart() -> None:
    games = play(RANDOM, RANDOM, 10, max_plies=12, random_opening_plies=4)
    assert Counter(game.outcome for game in games)["truncated"] >= 8
    assert all(game.score == 0.5 for game in games if game.outcome == "truncated")
    assert all(game.plies <= 12 for game in games)


# Players


def lone_game(sfen: str) -> VectorGames:
    return VectorGames(1, max_plies=50, rng_for_game=np.random.default_rng, sfens=[sfen])


def answers(player: Player, sfen: str) -> set[str]:
    """Every move that some draw makes the player choose."""
    board = Board(sfen)
    moves = [move.to_usi() for move in board.legal_moves()]
    games = lone_game(sfen)
    lane = np.array([0])
    draws = [*np.linspace(0, 1, 200, endpoint=False), np.nextafter(1.0, 0.0)]
    return {moves[int(player.choose(games, lane, np.array([u]))[0])] for u in draws}


def test_greedy_mates_rather_than_takes() -> None:
    # A gold dropped on 5b mates; the rook on 9g could be taken instead.
    sfen = "4k4/9/4P4/9/9/9/r8/R8/4K4 b G 1"
    mates = answers(GREEDY, sfen)
    for usi in mates:
        board = Board(sfen)
        board.apply_move(Move.from_usi(usi))
        assert board.is_in_check()
        assert not board.legal_moves()
    assert mates


def test_greedy_takes_the_dearest_piece_and_draws_among_equals() -> None:
    # Two rooks and a pawn hang: either rook, never the pawn.
    sfen = "4k4/9/9/9/r8/P3p3r/4P3P/9/4K4 b - 1"
    assert answers(GREEDY, sfen) == {"9f9e", "1g1f"}


def test_random_chooses_every_legal_move() -> None:
    board = Board(STANDARD_SFEN)
    assert answers(RANDOM, STANDARD_SFEN) == {move.to_usi() for move in board.legal_moves()}


def test_temperature_zero_is_the_limit_of_sampling() -> None:
    model = build_model(TINY, seed=1).eval()
    with torch.no_grad():
        model.policy_head.weight.mul_(100)
    best = answers(Player("argmax", network_policy(model)), STANDARD_SFEN)
    assert len(best) == 1
    assert answers(Player("cold", network_policy(model, 1e-6)), STANDARD_SFEN) == best
    assert len(answers(Player("warm", network_policy(model, 1.0)), STANDARD_SFEN)) > 1


# Checkpoints


def test_run_directory_and_checkpoints_directory_mean_the_newest(saved_run: Path) -> None:
    newest = saved_run / "checkpoints" / "step-000000000200"
    for path in (saved_run, saved_run / "checkpoints", newest):
        assert find_checkpoint(path).path == newest
    older = newest.with_name("step-000000000100")
    assert find_checkpoint(older).path == older


def test_damaged_newest_is_skipped_in_a_run_and_refused_by_name(
    saved_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "copy"
    shutil.copytree(saved_run, run_dir)
    newest = run_dir / "checkpoints" / "step-000000000200"
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert find_checkpoint(run_dir).timestep == 100
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint_player(newest)
    shutil.rmtree(newest.with_name("step-000000000100"))
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        open_player(f"checkpoint:{run_dir}")


def test_weights_other_than_the_checkpoint_names_do_not_play(
    saved_run: Path, tmp_path: Path
) -> None:
    """Whole in itself and of the right shape, yet not the weights that were saved."""
    newest = find_checkpoint(saved_run)
    older = checkpoint.load(newest.path.with_name("step-000000000100"))
    mixed = checkpoint.load(checkpoint.save(tmp_path, 200, older.files, newest.info))
    with pytest.raises(CheckpointError, match="digest"):
        load_model(mixed)


def test_evaluated_weights_are_the_saved_ones(saved_run: Path) -> None:
    expected = build_model(TINY, seed=2).state_dict()
    model = load_model(find_checkpoint(saved_run))
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())


def test_checkpoint_without_model_section_is_refused(saved_run: Path, tmp_path: Path) -> None:
    newest = find_checkpoint(saved_run)
    for info in ({}, newest.info | {"model": "{}x"}, newest.info | {"model": '{"depth": 0}'}):
        saved = checkpoint.load(checkpoint.save(tmp_path, 1, newest.files, info))
        with pytest.raises(CheckpointError, match="model"):
            load_model(saved)


@pytest.mark.parametrize("inside", ["", "checkpoints"])
def test_directory_without_a_checkpoint_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    with pytest.raises(CheckpointError):
        find_checkpoint(tmp_path)


# The command


def run_evaluate(saved_run: Path, **arguments: Any) -> tuple[dict[str, Any], str]:
    screen = io.StringIO()
    settings: dict[str, Any] = {"player": f"checkpoint:{saved_run}", "opponent": "random"}
    options = command.EvaluateOptions(**({"num_games": 4} | settings | arguments))
    result = command.evaluate(options, Console(file=screen, width=100))
    return result, screen.getvalue()


def test_result_adds_up_and_is_json(saved_run: Path) -> None:
    result, screen = run_evaluate(saved_run, opponent="greedy", num_games=6)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for part, games in (("total", 6), ("as_black", 3), ("as_white", 3)):
        counts = result[part]
        assert counts["games"] == games
        assert sum(counts[k] for k in ("wins", "draws", "losses", "truncated")) == games
    half = 0.5 * (result["total"]["draws"] + result["total"]["truncated"])
    score = (result["total"]["wins"] + half) / 6
    assert result["score"]["center"] == pytest.approx(score)
    assert result["player"]["weights_digest"] == find_checkpoint(saved_run).info["weights_digest"]
    assert f"{100 * score:.1f}%" in screen


def test_odd_number_of_games_is_refused(saved_run: Path) -> None:
    with pytest.raises(ConfigError, match="Use 6"):
        run_evaluate(saved_run, num_games=5)


def test_interrupt_reports_finished_games_and_exits_130(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> object:
        yield from itertools.islice(play_match(*args, **kwargs), 3)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "play_match", interrupted)
    file = tmp_path / "result.json"
    arguments = ["--checkpoint", str(saved_run), "--opponent", "greedy", "--games", "8"]
    assert main(["evaluate", *arguments, "--json", str(file)]) == 130
    result = json.loads(file.read_text())
    assert result["interrupted"]
    assert result["total"]["games"] == result["games_finished"] == 3


def test_interrupt_before_any_game_is_reported_too(
    saved_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "play_match", interrupted)
    result, screen = run_evaluate(saved_run)
    assert result["score"] is None
    assert "0 of 4 games" in screen


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

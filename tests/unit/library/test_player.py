"""The library's player: its policy, values and moves are those of the matches' player."""

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keisei_ray
from keisei_ray import NetworkPlayer
from keisei_ray.errors import CheckpointError, ConfigError, PositionError
from keisei_ray.players.player import open_player
from keisei_ray.players.policies import network_outputs
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.shogi.game import Game, usi_text
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.saved_runs import save_untrained

MATED = "4k4/4G4/4P4/9/9/9/9/9/4K4 w 2r2b3g4s4n4l17p 1"
DECLARED = "RB7/4K4/SSSSGGGG1/9/9/9/9/9/4k4 b 10P 1"


def legal_usi(game: Game) -> list[str]:
    return [usi_text(move) for move in array("H", game.legal)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    save_untrained(path, timestep=100, weights_version=7)
    return path


@pytest.fixture(scope="module")
def player(run_dir: Path) -> NetworkPlayer:
    return keisei_ray.load(run_dir)


def test_a_player_says_which_checkpoint_it_is(player: NetworkPlayer, run_dir: Path) -> None:
    assert player.checkpoint == str(run_dir / "checkpoints" / "step-000000000100")
    assert (player.timestep, player.weights_version) == (100, 7)


def test_an_evaluation_is_that_of_the_network_for_the_side_to_move(
    player: NetworkPlayer, run_dir: Path
) -> None:
    games = VectorGames(3, max_plies=99, rng_for_game=np.random.default_rng)
    for _ in range(5):
        games.step(np.array([3, 8, 11]))
    sfens = [games.current_sfen(lane) for lane in range(3)]
    logits, values, draws = network_outputs(
        load_model(open_checkpoint(run_dir)[1]), games.boards, games.hands, games.scalars
    )
    for lane, found in enumerate(player.evaluate(sfens)):
        labels = games.legal_labels[games.legal_offsets[lane] : games.legal_offsets[lane + 1]]
        probs = np.exp(logits[lane][labels].astype(np.float64))
        expected = probs / probs.sum()
        moves = legal_usi(games.game(lane))
        assert found.sfen == sfens[lane]
        assert found.policy == pytest.approx(dict(zip(moves, expected, strict=True)))
        assert list(found.policy.values()) == sorted(found.policy.values(), reverse=True)
        assert found.value == pytest.approx(float(values[lane]))
        assert found.draw == pytest.approx(float(draws[lane]))
        assert found.win - found.loss == pytest.approx(found.value)
        assert found.win + found.draw + found.loss == pytest.approx(1)


def test_a_single_position_gives_a_single_evaluation(player: NetworkPlayer) -> None:
    assert player.evaluate("startpos").policy == player.evaluate(["startpos"])[0].policy
    assert player.evaluate([]) == []


def test_where_the_game_is_over_the_rules_answer(player: NetworkPlayer) -> None:
    mated, declared = player.evaluate([MATED, DECLARED])
    assert (mated.policy, mated.value, mated.loss) == ({}, -1.0, 1.0)
    assert (declared.policy, declared.value, declared.win) == ({}, 1.0, 1.0)
    for sfen in (MATED, DECLARED):
        with pytest.raises(PositionError, match=r"the game is over\. Expected one that goes on"):
            player.move(sfen)


def test_a_move_is_that_of_the_same_player_in_a_match(player: NetworkPlayer, run_dir: Path) -> None:
    opening = ["7g7f", "3c3d", "2g2f"]
    games = VectorGames(1, max_plies=99, rng_for_game=np.random.default_rng)
    for usi in opening:
        games.step(np.array([games.find_move(0, usi)]))
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        ("", {}),
        ("?simulations=60", {"simulations": 60}),
        ("?simulations=8&root=gumbel", {"simulations": 8, "root": "gumbel"}),
    )
    for ending, how in ways:
        with open_player(f"checkpoint:{run_dir}{ending}") as other:
            choice = other.choose(games, np.arange(1), np.zeros(1))[0]
        expected = legal_usi(games.game(0))[choice]
        assert player.move(moves=opening, **how) == expected


def test_a_drawn_move_follows_its_seed(player: NetworkPlayer) -> None:
    drawn = [player.move(temperature=1.0, seed=seed) for seed in range(8)]
    assert drawn == [player.move(temperature=1.0, seed=seed) for seed in range(8)]
    assert len(set(drawn)) > 2


@pytest.mark.parametrize(
    ("sfen", "moves", "complaint"),
    [
        ("nonsense", [], "position 'nonsense' is not an SFEN: "),
        ("9/9/9/9/9/9/9/9/9 b - 1", [], "king is missing; .* Expected a possible position"),
        ("startpos", ["7g7e"], r"move '7g7e' \(ply 1\) cannot be played"),
        (MATED.replace(" w ", " b "), [], "the side to move could take the king"),
        (MATED.replace("4k4/", "9/"), [], "White king is missing"),
    ],
)
def test_an_impossible_position_or_move_is_refused(
    player: NetworkPlayer, sfen: str, moves: list[str], complaint: str
) -> None:
    with pytest.raises(PositionError, match=complaint):
        player.move(sfen, moves=moves)


@pytest.mark.parametrize(
    "limits",
    [
        {"simulations": 0},
        {"simulations": 2.5},
        {"simulations": "5"},
        {"seed": -1},
        {"seed": 1.5},
        {"seconds": 0.0},
        {"seconds": np.nan},
        {"temperature": -1.0},
        {"root": "best", "simulations": 8},
        {"root": "gumbel", "seconds": 1.0},
    ],
    ids=str,
)
def test_limits_without_sense_are_refused(player: NetworkPlayer, limits: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(limits))} = .*: expected "):
        player.move(**limits)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_whole_numbers(player: NetworkPlayer) -> None:
    move = player.move(simulations=4, temperature=1.0, seed=3)
    limits: dict[str, Any] = {"simulations": np.int64(4), "seed": np.uint8(3)}
    assert player.move(temperature=1.0, **limits) == move


@pytest.mark.filterwarnings("error")
def test_every_temperature_is_taken(player: NetworkPlayer) -> None:
    for tiny in (5e-324, 1e-300, 1e-44):
        assert player.move(temperature=tiny, seed=1) == player.move()
    for huge in (1e39, 1e300):
        drawn = {player.move(temperature=huge, seed=seed) for seed in range(8)}
        assert drawn == {player.move(temperature=1e9, seed=seed) for seed in range(8)}


def test_a_path_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone: not a directory"):
        keisei_ray.load(tmp_path / "gone")

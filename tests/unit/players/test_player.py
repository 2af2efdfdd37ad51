"""Players by the text that names them."""

from pathlib import Path

import numpy as np
import pytest

from keisei_ray.config.player_spec import POOL_KINDS, SCRIPTED_KINDS, PlayerKind
from keisei_ray.errors import PlayerError
from keisei_ray.players.player import open_player
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.saved_runs import save_untrained

MATE_IN_THREE = "3k1n1G1/ng2s2LB/4gp1+N1/1p7/2p5S/4g2P1/6P1P/p3K1b1L/P+l5+n1 w SL7P2rs3p 118"


def test_a_kind_that_is_not_allowed_where_the_player_is_opened_is_refused() -> None:
    with pytest.raises(
        PlayerError, match=r"unknown player 'checkpoint:x'\. .* greedy, greedy2, random, usi:"
    ):
        open_player("checkpoint:x", kinds=POOL_KINDS)


@pytest.mark.parametrize("name", SCRIPTED_KINDS)
def test_every_scripted_player_opens_and_chooses_legal_moves(name: PlayerKind) -> None:
    games = VectorGames(2, max_plies=30, rng_for_game=np.random.default_rng, save_moves=False)
    with open_player(name) as player:
        assert player.name == name
        choices = player.choose(games, np.arange(2), np.array([0.1, 0.9]))
    games.step(choices)


def test_a_checkpoint_with_simulations_looks_ahead(tmp_path: Path) -> None:
    save_untrained(tmp_path, timestep=100, seed=1)
    games = VectorGames(1, max_plies=300, rng_for_game=np.random.default_rng, sfens=[MATE_IN_THREE])
    with open_player(f"checkpoint:{tmp_path}?simulations=1500") as player:
        assert player.name == "step-000000000100+1500sims"
        assert player.identity["timestep"] == 100
        for _ in range(3):
            result = games.step(player.choose(games, np.arange(1), np.zeros(1)))
    assert [(end.reason, end.plies) for end in result.finished] == [("mate", 3)]


def test_a_search_does_not_go_with_finishing_mates() -> None:
    with pytest.raises(PlayerError, match="a search finds mates in one without --finish-mates"):
        open_player("checkpoint:runs/x?simulations=5", finish_mates=True)

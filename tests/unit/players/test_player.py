"""Players by the text that names them."""

import pytest

from keisei_ray.config.player_spec import POOL_KINDS
from keisei_ray.errors import PlayerError
from keisei_ray.players.player import open_player


def test_a_kind_that_is_not_allowed_where_the_player_is_opened_is_refused() -> None:
    with pytest.raises(
        PlayerError, match=r"unknown player 'checkpoint:x'\. .* greedy, random, usi:"
    ):
        open_player("checkpoint:x", kinds=POOL_KINDS)

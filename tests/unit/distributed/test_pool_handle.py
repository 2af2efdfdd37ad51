"""The driver's side of the opponent pool, as far as it needs no running Ray."""

from pathlib import Path

import pytest

from keisei_ray.distributed.pool_handle import PoolHandle
from keisei_ray.rollouts.actor_state import ActorState, GamesState, PairingState
from keisei_ray.telemetry.events import EventBus
from tests.helpers.tiny import N, tiny_config


@pytest.mark.parametrize(
    ("opponents", "networks", "missing"),
    [
        (("", "greedy"), (), []),
        (("v1", "greedy2"), ("v1",), ["greedy2", "v1"]),
        (("", "greedy"), ("greedy",), ["greedy"]),
        (("", ""), ("",), [""]),
    ],
)
def test_what_an_actors_state_names_and_the_run_lacks_is_missing(
    tmp_path: Path, opponents: tuple[str, ...], networks: tuple[str, ...], missing: list[str]
) -> None:
    """A file of another program may call a scripted member a network."""
    config = tiny_config(pool={"share": 0.5, "members": ["greedy"]})
    pool = PoolHandle(config, EventBus(), tmp_path, None)
    state = ActorState(
        0, 0, 1, 0, 60, GamesState(N, ()), PairingState(opponents=opponents, networks=networks)
    )
    assert pool.missing(state) == missing

"""Where the time of a run went, computed from its records."""

import pytest

from keisei_ray.bench.end_to_end import stage_shares
from tests.helpers.setting_values import make_config

CONFIG = make_config(
    self_play={"games_per_actor": 4, "rollout_length": 8}, learner={"num_threads": 2}
)
ACTING = ("env_time_s", "opponents_time_s", "forward_time_s", "sample_time_s", "pack_time_s")
LEARNING = ("unpack_time_s", "advantages_time_s", "gradients_time_s", "optimizer_time_s")


def metrics(wall_time_s: float, rollouts: int) -> dict[str, float]:
    return {
        "wall_time_s": wall_time_s,
        "batch_timesteps": 32 * rollouts,
        "publish_time_s": 0.125,
    }


def test_stages_count_rollouts_and_threads_and_leave_the_rest_as_idle() -> None:
    """Two updates in 10 s of two cores, with three rollouts and one; the first only begins it."""
    stages = dict.fromkeys((*ACTING, *LEARNING), 0.25) | {"gradients_time_s": 2.0}
    shares = stage_shares(
        [metrics(100.0, 9), metrics(107.0, 3), metrics(110.0, 1)], [stages] * 3, CONFIG, 2
    )
    assert shares.pop("gradients") == pytest.approx(2 * 2 * 2.0 / 20)
    assert shares.pop("publishing") == pytest.approx(2 * 0.125 / 20)
    assert [shares.pop(name) for name in ("unpacking", "advantages", "optimizer")] == [
        pytest.approx(2 * 0.25 / 20)
    ] * 3
    idle = shares.pop("idle")
    assert list(shares.values()) == [pytest.approx(4 * 0.25 / 20)] * len(ACTING)
    assert idle == pytest.approx(1 - 8 / 20 - 0.25 / 20 - 1.5 / 20 - 5 / 20)

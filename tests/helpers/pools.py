"""Opponent pools with given results."""

import json
from typing import Any

from keisei_ray.config.sections import PoolConfig
from keisei_ray.selfplay.pool import Pool

BEATEN, FEARED, EVEN = (2.0, 2.0), (2.0, 0.0), (6.0, 3.0)
"""(games, points); with the prior of two games at half a point the scores are 3/4, 1/4, 1/2."""


def pool_config(**values: Any) -> PoolConfig:
    return PoolConfig.model_validate({"share": 0.5} | values)


def pool_with(counts: dict[str, tuple[float, float]], **values: Any) -> Pool:
    """Returns a pool with these (games, points) counted; a name v<number> is a snapshot."""
    scripted = [name for name in counts if name[0] != "v"]
    pool = Pool(pool_config(members=scripted, **values))
    rows = [
        {
            "name": name,
            "weights_version": None if name in scripted else int(name[1:]),
            "digest": "" if name in scripted else "d" * 64,
            "games": games,
            "points": points,
            "games_total": int(games),
        }
        for name, (games, points) in counts.items()
    ]
    pool.restore(json.dumps({"members": rows}))
    return pool

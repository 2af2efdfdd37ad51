"""Connecting to a cluster that Ray refuses. No Ray is started."""

import pytest
import ray

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import connect
from keisei_ray.errors import ClusterError


@pytest.mark.parametrize(
    ("raised", "advice"),
    [
        (Exception("The current node timed out during startup."), "overloaded: try again"),
        (RuntimeError("Failed to start the dashboard"), "dashboard_port"),
        (OSError("no space"), "run `ray stop`"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_whatever_ray_raises_at_its_start_is_one_line_with_advice(
    raised: Exception, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", refuse)
    # Other tests may have a cluster up in this process, which is to stay up.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with (
        pytest.raises(ClusterError, match=advice) as caught,
        connect(Config.model_validate({"cluster": {"address": "local"}}), environ={}),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is raised

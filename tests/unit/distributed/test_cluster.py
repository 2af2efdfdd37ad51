"""Connecting to a cluster that Ray refuses. No Ray is started."""

import re
import stat
from pathlib import Path

import pytest
import ray

from keisei_ray.config.schema import Config
from keisei_ray.distributed import cluster
from keisei_ray.distributed.cluster import connect, keep_token_private
from keisei_ray.errors import ClusterError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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
    raised: Exception, advice: str, home: Path, monkeypatch: pytest.MonkeyPatch
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
    assert mode_of(home / ".ray" / "auth_token") == 0o600, "made before Ray would make it"


def test_rays_token_is_made_for_this_user_only(home: Path) -> None:
    keep_token_private({})
    token = home / ".ray" / "auth_token"
    assert mode_of(token) == 0o600
    first = token.read_text()
    assert re.fullmatch("[0-9a-f]{64}", first)
    token.chmod(0o644)
    keep_token_private({"RAY_AUTH_MODE": "token"})
    assert (mode_of(token), token.read_text()) == (0o600, first)


@pytest.mark.parametrize(
    "environ",
    [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_TOKEN_PATH": "/x"}],
    ids=str,
)
def test_a_token_that_ray_does_not_use_is_not_made(environ: dict[str, str], home: Path) -> None:
    keep_token_private(environ)
    assert list(home.iterdir()) == []


def test_a_home_that_cannot_be_written_is_left_to_ray(home: Path) -> None:
    (home / ".ray").write_text("a file")
    keep_token_private({})


def test_each_of_several_learners_has_a_bundle_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(cluster, "placement_group", lambda bundles, **_: asked.append(bundles))
    learner = {"num_learners": 2, "device": "cuda", "num_gpus": 1.0}
    config = Config.model_validate({"learner": learner})
    found = cluster.Cluster("", 1, 16, 2, 0, "")
    cluster.learner_placement_group(config, found)
    assert asked == [[{"CPU": 1.0, "GPU": 1.0}] * 2]

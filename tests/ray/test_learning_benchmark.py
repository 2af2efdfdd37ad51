"""The learning benchmark with a real run: trained, matched, not done twice."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from keisei_ray.bench.learning import Target, run_learning
from keisei_ray.config.resolver import resolve_config
from keisei_ray.distributed.cluster import Cluster
from tests.helpers.program import DEBUG_CONFIG

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RANDOM_FINISHING = Target("random", 0.95, is_finishing=True, within_s=300)


@pytest.fixture
def settings(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run of one actor on the Ray that is there."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    return [
        f"cluster.address={cluster.address}",
        "self_play.num_actors=1",
        "tracking.view=lines",
    ]


def test_a_real_run_is_trained_matched_and_not_done_twice(
    settings: list[str], tmp_path: Path
) -> None:
    config = resolve_config(DEBUG_CONFIG, {}, settings, {})
    targets = (RANDOM_FINISHING, Target("random", 0.0, is_finishing=False, within_s=None))

    def bench() -> dict[str, object]:
        return run_learning(
            config,
            seeds=[4],
            minutes=30,
            num_games=2,
            out_dir=tmp_path,
            console=Console(quiet=True),
            targets=targets,
        )

    first = bench()
    saved = json.loads((tmp_path / "points.json").read_text())
    assert sorted({entry["timestep"] for entry in saved}) == [1024, 2048]
    assert len(saved) == 2 * len(targets)
    assert all(entry["wall_time_s"] > 0 and entry["games"] == 2 for entry in saved)
    assert first["targets"][1]["timestep"] == {"4": 1024}  # type: ignore[index]
    assert json.loads((tmp_path / "seed-4" / "config.json").read_text())["run"]["seed"] == 4

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = bench()
    assert second["points"] == first["points"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before

"""The curves that W&B, TensorBoard and Ray Tune draw of a run."""

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.curves import CurvePoints, curve_points
from tests.helpers.run_events import evaluated, updated


def test_an_updates_numbers_have_the_names_of_metrics_jsonl() -> None:
    points = curve_points(updated(3, grad_norm=None))
    assert points is not None
    assert (points.timestep, points.values["timestep"], points.values["sps"]) == (3000, 3000, 1000)
    undefined_or_text = {"amp_dtype", "amp_scale", "grad_norm"}
    assert list(points.values) == [name for name in METRIC_NAMES if name not in undefined_or_text]


def test_a_match_is_drawn_by_opponent_and_kind() -> None:
    bare = curve_points(evaluated(5, "greedy", wins=16))
    assert bare is not None
    assert bare.timestep == 5000
    assert bare.values["evaluation/bare/greedy"] == 0.5
    low, high = (bare.values[f"evaluation/bare/greedy_{bound}"] for bound in ("low", "high"))
    assert low < 0.5 < high
    finishing = curve_points(evaluated(5, "greedy", wins=32, finishing=True))
    assert finishing is not None
    assert finishing.values["evaluation/finishing/greedy"] == 1.0


def test_earlier_versions_share_one_curve() -> None:
    for version, opponent, timestep in ((5, "v3", 5000), (9, "v8", 9000)):
        points = curve_points(evaluated(version, opponent, wins=16))
        assert points is not None
        assert points.timestep == timestep
        assert points.values["evaluation/bare/earlier"] == 0.5


def test_the_elo_curve_is_of_the_newest_version() -> None:
    ratings = (
        Rating("v9", 380.0, 250.0, 450.0, 32),
        Rating("v10", 300.0, 250.0, 350.0, 32),
        Rating("v10+mate1", 500.0, None, 600.0, 32),
        Rating("random", 0.0, 0.0, 0.0, 64),
    )
    expected = {
        "elo/bare": 300.0,
        "elo/bare_low": 250.0,
        "elo/bare_high": 350.0,
        "elo/finishing": 500.0,
        "elo/finishing_high": 600.0,
    }
    assert curve_points(ev.RatingsFitted(ratings, 11_000)) == CurvePoints(11_000, expected)
    unknown = (Rating("v11", None, None, None, 0),)
    assert curve_points(ev.RatingsFitted(unknown, 12_000)) is None

"""Names of the metrics that a trial reports."""

from keisei_ray.config.schema import Config
from keisei_ray.tracking.curves import curve_points
from keisei_ray.tune.trial_metrics import metric_names
from tests.helpers.run_events import evaluated, updated


def test_the_reported_names_are_those_of_tensorboard_and_wandb() -> None:
    """All of them: whatever an event of a run charts can be optimised."""
    names = metric_names(Config.model_validate({"evaluation": {"interval_timesteps": 100}}))
    for event in (updated(1), evaluated(5, "greedy", wins=3), evaluated(5, "v3", wins=3)):
        points = curve_points(event)
        assert points is not None
        assert {name for name in points.values if name != "timestep"} <= set(names)

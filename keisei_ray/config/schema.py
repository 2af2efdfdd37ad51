"""The one configuration tree: its sections, the sizes that follow from them, the checks.

Neither torch nor Ray is imported, so a configuration can be checked on a machine that has neither.
`keisei_ray.config.resolver` merges the routes by which settings are given into one `Config`.
"""

from typing import Self

from pydantic import model_validator

from keisei_ray.config import checks
from keisei_ray.config.sections import (
    CheckpointConfig,
    ClusterConfig,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    PoolConfig,
    ProfileConfig,
    RunConfig,
    ScheduleConfig,
    Section,
    SelfPlayConfig,
    TrackingConfig,
    WireConfig,
)
from keisei_ray.errors import ConfigError


class Config(Section):
    """All settings of a run. `Config()` is a valid small run."""

    run: RunConfig = RunConfig()
    """One training run as a whole."""
    self_play: SelfPlayConfig = SelfPlayConfig()
    """How games are played and cut into rollouts."""
    pool: PoolConfig = PoolConfig()
    """Who else than itself the learner plays."""
    model: ModelConfig = ModelConfig()
    """The network."""
    learner: LearnerConfig = LearnerConfig()
    """The PPO update and its optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Who waits for whom."""
    wire: WireConfig = WireConfig()
    """How rollouts and weights are packed."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When the run is saved and what is kept."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Matches that measure the newest weights while training goes on."""
    cluster: ClusterConfig = ClusterConfig()
    """The Ray cluster to start or to join."""
    tracking: TrackingConfig = TrackingConfig()
    """What the run shows and records."""
    profile: ProfileConfig = ProfileConfig()
    """Traces of where the time goes, in `profile/` of the run directory."""

    @property
    def timesteps_per_rollout(self) -> int:
        """T * N: rows of one rollout."""
        return self.self_play.rollout_length * self.self_play.games_per_actor

    @property
    def effective_rollouts_per_update(self) -> int | None:
        """R, or None where it waits for `autosize.resolve_auto` or follows the cluster."""
        if self.schedule.mode == "lockstep":
            assert self.self_play.num_actors != "auto", "refused by the tree's own check"
            return self.self_play.num_actors
        return self.schedule.rollouts_per_update

    @property
    def effective_max_lag(self) -> int:
        """Largest policy lag, in updates, with which a rollout may be consumed."""
        return 0 if self.schedule.mode == "lockstep" else self.schedule.max_policy_lag

    @property
    def timesteps_per_update(self) -> int:
        """R * T * N: rows of one update.

        Raises:
            ConfigError: R is still open.
        """
        rollouts = self.effective_rollouts_per_update
        if rollouts is None:
            raise ConfigError(
                "schedule.rollouts_per_update is null, expected a number by now. "
                "Set it, or call autosize.resolve_auto first."
            )
        return rollouts * self.timesteps_per_rollout

    @model_validator(mode="after")
    def _check_across_sections(self) -> Self:
        checks.check_opening(self.self_play)
        checks.check_lockstep(self.schedule, self.self_play)
        checks.check_minibatches(self.self_play, self.learner, self.effective_rollouts_per_update)
        checks.check_pool(self.pool)
        checks.check_kept_checkpoints(self.checkpoint)
        checks.check_cluster(self.cluster)
        return self

"""The one configuration tree: its sections, and the sizes that follow from them.

T: plies of each game in a rollout. N: games of an actor. R: rollouts in one update.

Neither torch nor Ray is imported, so a configuration can be checked on a machine that has neither.
`keisei_ray.config.resolver` makes a `Config` of what the user gave.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError, model_validator

from keisei_ray.config import checks
from keisei_ray.config.sections import (
    CheckpointConfig,
    ClusterConfig,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    PoolConfig,
    PretrainConfig,
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
    self_play: SelfPlayConfig = SelfPlayConfig()
    pool: PoolConfig = PoolConfig()
    pretrain: PretrainConfig = PretrainConfig()
    model: ModelConfig = ModelConfig()
    learner: LearnerConfig = LearnerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    wire: WireConfig = WireConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    profile: ProfileConfig = ProfileConfig()

    @property
    def timesteps_per_rollout(self) -> int:
        """Timesteps of one rollout: T * N."""
        return self.self_play.rollout_length * self.self_play.games_per_actor

    @property
    def effective_rollouts_per_update(self) -> int | None:
        """Rollouts in one update (R); None while that is left to the hardware.

        `autosize.resolve_auto` decides it, except where it follows the size of the cluster.
        """
        if self.schedule.mode == "lockstep":
            assert self.self_play.num_actors != "auto", "refused by checks.check_lockstep"
            return self.at_most_max_actors(self.self_play.num_actors)
        return self.schedule.rollouts_per_update

    def at_most_max_actors(self, num_actors: int) -> int:
        """Returns how many of so many self-play actors are started."""
        return min(num_actors, self.schedule.max_actors or num_actors)

    @property
    def effective_max_lag(self) -> int:
        """Largest policy lag, in updates, with which a rollout may be consumed."""
        return 0 if self.schedule.mode == "lockstep" else self.schedule.max_policy_lag

    @property
    def timesteps_per_update(self) -> int:
        """Timesteps of one update: R * T * N. Its rows are the trained plies among them.

        Raises:
            ConfigError: R is still left to the hardware.
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
        checks.check_self_play_device(self.self_play)
        checks.check_minibatches(self.self_play, self.learner, self.effective_rollouts_per_update)
        checks.check_learners(self.learner, self.effective_rollouts_per_update)
        checks.check_pool(self.pool)
        checks.check_start_anchor(self.learner, self.run)
        checks.check_pretrain(self.pretrain, self.self_play, self.learner)
        checks.check_kept_checkpoints(self.checkpoint, self.evaluation)
        checks.check_cluster(self.cluster)
        return self


def validated(values: Mapping[str, Any]) -> Config:
    """Makes the settings of a run from values of which the program has decided some.

    Raises:
        ConfigError: what it has decided does not go with a setting that was given.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise ConfigError(str(detail.get("ctx", {}).get("error", detail["msg"]))) from error

"""What actors tell the driver: small, plain records that import neither torch nor Ray."""

from dataclasses import dataclass

from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.rollouts.rollout import RolloutHeader


@dataclass(frozen=True)
class ProcessInfo:
    """Where an actor runs and what it sees."""

    pid: int
    node: str
    num_visible_gpus: int
    device: str
    """Name of the device its network runs on."""
    num_parameters: int


@dataclass(frozen=True)
class Trace:
    """What torch.profiler recorded of one call in an actor."""

    name: str
    """Of its file."""
    content: bytes
    """Chrome trace, JSON, gzipped."""


@dataclass(frozen=True)
class CollectStages:
    """Seconds of `CollectReport.collect_time_s` by what they were spent on."""

    env_time_s: float = 0.0
    """Rules, legal moves, mates in one, recording."""
    opponents_time_s: float = 0.0
    """Players of the pool choosing their moves."""
    forward_time_s: float = 0.0
    """Forward passes of the network under training."""
    sample_time_s: float = 0.0
    """Drawing moves from its policy."""
    pack_time_s: float = 0.0
    """Counting distinct positions and packing the rollout."""


@dataclass(frozen=True)
class UpdateStages:
    """Seconds of `UpdateReport.update_time_s` by what they were spent on."""

    unpack_time_s: float = 0.0
    """Unpacking and validating rollouts."""
    advantages_time_s: float = 0.0
    """Advantages, value targets, and putting the rows of all rollouts together."""
    gradients_time_s: float = 0.0
    """Forward and backward passes of all minibatches; on CUDA, copying the rows there too."""
    optimizer_time_s: float = 0.0
    """Clipping and optimizer steps."""


@dataclass(frozen=True)
class CollectReport:
    """What the driver reads of a rollout; the rollout itself it only forwards."""

    header: RolloutHeader
    games: tuple[FinishedGame, ...]
    """Games that ended in this rollout."""
    trained_timesteps: int
    """Rows that the learner's own policy played; the others are an opponent's."""
    distinct_positions: float
    """Distinct positions over rows, see `Rollout.distinct_positions`."""
    raw_bytes: int
    wire_bytes: int
    collect_time_s: float
    """Wall time of the whole call in the actor."""
    sample_sfen: str
    """Position of the actor's first game after the last ply."""
    sample_last_move: str
    """The ply that led there in USI, empty at the start of a game."""
    stages: CollectStages = CollectStages()
    """Parts of collect_time_s."""
    trace: Trace | None = None
    """Of this call, if it was profiled."""


@dataclass(frozen=True)
class UpdateReport:
    """What one update did; the learner's part of a metrics record."""

    weights_version: int
    """Version of the weights that came out."""
    weights_digest: str
    batch_timesteps: int
    rollout_bytes_raw: int
    rollout_bytes_wire: int
    weights_bytes_wire: int
    policy_loss: float
    value_loss: float
    entropy: float
    """Mean over rows and minibatches, nats, over legal moves."""
    approx_kl: float
    """Mean over the last epoch that ran."""
    clip_fraction: float
    explained_variance: float
    learning_rate: float
    ent_coef: float
    """Weight of the entropy bonus in this update."""
    grad_norm: float
    """Mean L2 norm before clipping."""
    amp_dtype: str
    amp_scale: float | None
    """Loss scale, None where nothing is scaled."""
    amp_skipped: int
    """Optimizer steps skipped in this update because a scaled gradient overflowed."""
    policy_lag_mean: float
    policy_lag_max: int
    first_log_ratio: float
    """Root mean square log ratio of the first minibatch; 0 within float error when lag is 0."""
    optimizer_steps: int
    update_time_s: float
    publish_time_s: float
    stages: UpdateStages = UpdateStages()
    """Parts of update_time_s."""
    trace: Trace | None = None
    """Of this update, if it was profiled."""


@dataclass(frozen=True)
class MatchScore:
    """What a finished match came to, for its first player."""

    games: int
    wins: int
    draws: int
    losses: int
    truncated: int
    """Games cut by the ply cap."""
    score: float
    """Mean over games: a win 1, a draw or a truncated game 1/2."""
    score_low: float
    """Of the 95% interval, made from pairs."""
    score_high: float
    mean_plies: float
    as_black_score: float
    as_white_score: float
    wall_time_s: float
    """Of the match."""


@dataclass(frozen=True)
class EvaluationResult:
    """A finished match of the background evaluation: whose weights, against whom, how it went."""

    timestep: int
    """Of the run when the weights were published."""
    weights_version: int
    weights_digest: str
    """As published with the weights."""
    player: str
    """v{weights_version}, and +mate1 behind it where mates in one are found by the rules."""
    opponent: str
    finishing: bool
    match: MatchScore
    run_time_s: float
    """Wall time of the run when the weights were published, over all resumes."""


@dataclass(frozen=True)
class Rating:
    """A player's line in the Elo table; 95% interval."""

    name: str
    elo: float | None
    """Over the anchor; None where no chain of games gives one."""
    low: float | None
    """None where nothing that was observed bounds it."""
    high: float | None
    games: int

"""Reports of actors to the driver: small, plain records that import neither torch nor Ray."""

from dataclasses import dataclass

from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.rollouts.rollout import RolloutHeader


@dataclass(frozen=True)
class ProcessInfo:
    """An actor's process: where it runs and with which network."""

    pid: int
    node: str
    """IP address of the node."""
    device: str
    """Name of the device that its network runs on."""
    num_parameters: int
    """Parameters of the network."""


@dataclass(frozen=True)
class Trace:
    """The profile that torch.profiler took of one call in an actor."""

    name: str
    """Name of its file."""
    content: bytes
    """Chrome trace, JSON, gzipped."""


@dataclass(frozen=True)
class CollectStages:
    """Seconds of `CollectReport.collect_time_s` by what they were spent on."""

    env_time_s: float = 0.0
    """Rules, legal moves, mates in one, recording."""
    opponents_time_s: float = 0.0
    """Players of the pool choosing their moves. On a GPU: sending snapshots the positions, and
    waiting for what they have not finished while the CPU stepped other games."""
    forward_time_s: float = 0.0
    """Forward passes of the network under training. On a GPU: sending it the positions, and
    waiting for what it has not finished while the CPU stepped other games."""
    sample_time_s: float = 0.0
    """Drawing moves from its policy; on a GPU, reading the moves that were drawn there."""
    pack_time_s: float = 0.0
    """Counting distinct positions, packing the rollout and the actor's state."""


@dataclass(frozen=True)
class UpdateStages:
    """Seconds of `UpdateReport.update_time_s` by what they were spent on."""

    unpack_time_s: float = 0.0
    """Unpacking and validating rollouts."""
    advantages_time_s: float = 0.0
    """Advantages, value targets, and putting the rows of all rollouts together."""
    gradients_time_s: float = 0.0
    """Forward and backward passes of all minibatches; on CUDA, copying the rows there too, and all
    waiting for the device."""
    optimizer_time_s: float = 0.0
    """Clipping and optimizer steps; on CUDA, only queuing them."""


@dataclass(frozen=True)
class BenchedMember:
    """A member of the opponent pool that an actor can no longer play against."""

    name: str
    cause: str
    """Reason in words: it could not be started, or what it did in a game."""


@dataclass(frozen=True)
class HeldOutFigures:
    """How well a network does on positions of games that it was not trained on."""

    positions: int
    """Number of the positions."""
    top1: float
    """Share of the positions whose recorded move is the network's likeliest."""
    top5: float
    """Share of the positions whose recorded move is among its five likeliest."""
    policy_loss: float
    """Cross-entropy of the policy with the recorded move, nats, mean."""
    value_error: float
    """Squared error of the value against the game's result in [-1, 1], mean."""
    calibration_error: float
    """Difference between predicted and actual score, in [0, 1], mean over ten ranges of the
    predicted score weighted by their positions."""


@dataclass(frozen=True)
class CollectReport:
    """Report on one rollout. The driver reads it, and forwards the rollout itself unread."""

    header: RolloutHeader
    games: tuple[FinishedGame, ...]
    """Games that ended in this rollout."""
    trained_timesteps: int
    """Plies at which the learner was to move. They are trained on; the others are an opponent's."""
    distinct_positions: float
    """Distinct positions over plies, see `Rollout.distinct_positions`."""
    raw_bytes: int
    """Size of the rollout, unpacked."""
    wire_bytes: int
    """Size of the rollout, packed."""
    collect_time_s: float
    """Wall time of the whole call in the actor."""
    sample_sfen: str
    """Position of the actor's first game after the last ply."""
    sample_last_move: str
    """Ply that led to `sample_sfen`, in USI; empty at the start of a game."""
    stages: CollectStages = CollectStages()
    """Parts of collect_time_s."""
    benched: tuple[BenchedMember, ...] = ()
    """Members of the pool that failed in this call."""
    trace: Trace | None = None
    """Profile of this call, if one was taken."""
    state: bytes = b""
    """State of the actor after this rollout, see `rollouts/actor_state.py`; empty if it has none.
    """
    reader_state: bytes = b""
    """State of a reader of records after this rollout, see `rollouts/reader_state.py`; empty in
    self-play."""
    held_out: HeldOutFigures | None = None
    """Measurement on held-out games in this call, if one was made."""
    records: str = ""
    """Counts of what a reader of records has used and left out in its pass, in words; empty in
    self-play."""
    notices: tuple[str, ...] = ()
    """Messages for the user."""


@dataclass(frozen=True)
class UndoneUpdate:
    """Undoing of a whole update, after which the learner is as it was before it."""

    cause: str
    """Quantity that is not finite, and the place in the update."""
    is_rate_halved: bool
    """Whether the learning rate is halved from now on, because it was the last of several."""


@dataclass(frozen=True)
class Publication:
    """Figures of a version that has been packed to be published."""

    weights_digest: str
    """Digest of the weights, see `network/weights.py`."""
    weights_bytes_wire: int
    publish_time_s: float


@dataclass(frozen=True)
class UpdateReport:
    """Report on one update: the learner's part of the metrics.

    Fields that have the name of a metric have its unit and meaning, see `UpdateMetrics`.
    """

    weights_version: int
    batch_timesteps: int
    rollout_bytes_raw: int
    rollout_bytes_wire: int
    weights_bytes_wire: int
    policy_loss: float
    mate_loss: float
    """Mean cross-entropy over forced mates, nats; 0 where there are none."""
    value_loss: float
    entropy: float
    approx_kl: float
    """KL divergence from the policy that played to the updated one, mean over the last epoch."""
    kl_proximal: float
    """KL divergence from the learner's policy before the update, mean over the last epoch."""
    truncated_weights: float
    """Share of rows whose importance weight was cut."""
    forced_timesteps: int
    """Rows that are forced mates in one."""
    steps_undone: int
    """Optimizer steps that the KL stop took back: 0, or 1 if it ended the update."""
    clip_fraction: float
    explained_variance: float
    learning_rate: float
    ent_coef: float
    """Weight of the entropy bonus in this update."""
    grad_norm: float
    amp_dtype: str
    amp_scale: float | None
    amp_skipped: int
    """Optimizer steps skipped in this update because a scaled gradient overflowed."""
    policy_lag_mean: float
    policy_lag_max: int
    first_log_ratio: float
    """Root mean square log ratio of the first minibatch; 0 within float error when lag is 0."""
    optimizer_steps: int
    """Optimizer steps made in this update."""
    update_time_s: float
    publish_time_s: float
    stages: UpdateStages = UpdateStages()
    """Parts of update_time_s."""
    trace: Trace | None = None
    """Profile of this update, if one was taken."""
    undone: UndoneUpdate | None = None
    """Cause if the update was undone: its losses are then NaN, and it made no optimizer step."""
    kl_start: float | None = None
    """Estimate of the KL divergence from the policy that the run began with, in nats; None where
    nothing pulls towards that."""
    kl_start_coef: float = 0.0
    """Weight of that pull in this update."""
    notice: str = ""
    """Message about this update that the user should see as a warning; empty: there is none."""


@dataclass(frozen=True)
class MatchScore:
    """Result of a finished match, for its first player."""

    games: int
    wins: int
    draws: int
    losses: int
    truncated: int
    """Games stopped by the ply cap."""
    score: float
    """Mean points over the games: a win is 1, a draw or a truncated game 1/2."""
    score_low: float
    """Lower bound of the score's 95% confidence interval, made from pairs of games."""
    score_high: float
    """Upper bound of that interval."""
    mean_plies: float
    """Mean length of the games."""
    as_black_score: float
    """Score in the games that the first player had black."""
    as_white_score: float
    """Score in the games that the first player had white."""
    wall_time_s: float
    """Time that the match took."""
    pairs: tuple[int, int, int, int, int, int] | None = None
    """Pairs of games with the same opening by their result for the first player, both colours: won
    both, won one and drawn one, drawn both, won one and lost one, drawn one and lost one, lost
    both. Truncated games are drawn here. None in records of older versions."""


@dataclass(frozen=True)
class EvaluationResult:
    """A finished match of the background evaluation: the weights, the opponent, the result."""

    timestep: int
    """Timestep of the run when the weights were published."""
    weights_version: int
    weights_digest: str
    """Digest that was published with the weights."""
    player: str
    """Name of the player: `v{weights_version}`, with `+mate1` after it where mates in one are found
    by the rules."""
    opponent: str
    """Name of the opponent."""
    finishing: bool
    """Whether the player found mates in one by the rules."""
    match: MatchScore
    run_time_s: float
    """Wall time of the run when the weights were published, over all resumes."""


@dataclass(frozen=True)
class Rating:
    """A player's line in the Elo table."""

    name: str
    elo: float | None
    """Elo over the anchor; None where no chain of games leads to the anchor."""
    low: float | None
    """Lower bound of the 95% confidence interval; None where no result bounds it."""
    high: float | None
    """Upper bound of that interval; None where no result bounds it."""
    games: int
    """Games that the player played."""

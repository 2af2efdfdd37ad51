"""The sections of the configuration: every setting, its default, its meaning and its limits.

Models are frozen, refuse unknown keys, and never read a file, an environment variable or a clock.
What concerns several sections is checked in `keisei_ray.config.checks`.

T: `self_play.rollout_length`. N: `self_play.games_per_actor`. R: rollouts in one update.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from keisei_ray.config.player_spec import EVALUATION_KINDS, POOL_KINDS, PlayerKind, parse_player
from keisei_ray.errors import PlayerError

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, finite numbers, described fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_elsewhere(cls, value: object, info: ValidationInfo) -> object:
        """Lax conversion would otherwise read true as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation is not bool:
            raise ValueError("a bool where none is expected")
        return value


class RunConfig(Section):
    """One training run as a whole."""

    run_dir: str | None = None
    """Directory, or URI (s3://bucket/runs/first), of everything the run writes; null: runs/<UTC
    time>."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    """Root of every random stream: weights, games, openings, minibatch order."""
    total_timesteps: PositiveInt = 10_000_000
    """Plies to train on; the run ends at the first update that reaches it."""
    resume: str | None = None
    """`latest` (newest good checkpoint of run_dir), a checkpoint's path or URI; null: fresh run."""


class SelfPlayConfig(Section):
    """How games are played and cut into rollouts."""

    num_actors: PositiveInt | Literal["auto"] = 2
    """Self-play actors, one process each; auto: one for each CPU that learner and evaluator leave,
    also of nodes that come later."""
    games_per_actor: PositiveInt = 32
    """N: games an actor plays side by side; the rows of one forward pass."""
    rollout_length: PositiveInt = 64
    """T: plies of each game in one rollout."""
    max_plies: Annotated[int, Field(ge=2, le=4096)] = 320
    """Plies, opening included, after which a game is truncated."""
    random_opening_plies: NonNegativeInt = 24
    """Each new game starts after 0 to this many uniformly random legal plies, not trained on."""
    finish_mates: bool = True
    """Whether a mate in one that rsshogi's solver sees is played at once, whatever the policy
    would do; the policy is trained on that ply as if it had chosen it."""
    start_positions: tuple[str, ...] = ()
    """SFENs of which each game draws its start; empty: the standard position."""


class PoolConfig(Section):
    """The opponent pool: who else than itself the learner plays in self-play."""

    share: Fraction = 0.0
    """Share of new games that the learner plays against a member of the pool; 0: pure self-play."""
    members: tuple[str, ...] = ()
    """Members that are there from the start and stay: `greedy`, `random` or `usi:COMMAND`."""
    snapshot_interval_timesteps: PositiveInt | None = 200_000
    """The newest weights join whenever the timestep crosses a multiple of this; null: never."""
    max_snapshots: PositiveInt = 8
    """Snapshots in the pool; a further one takes the place of the one that the learner beats most
    surely."""
    networks_per_actor: PositiveInt = 2
    """Snapshots that an actor plays against at a time, and the most it holds."""
    pfsp: Literal["hard", "even"] = "hard"
    """What draws an opponent, x being the learner's score against it. hard: 1 - x, those that beat
    the learner. even: x (1 - x), those of its own strength."""
    pfsp_power: NonNegativeFloat = 2.0
    """Exponent of that weight; 0: all alike."""
    scripted_share: Fraction | None = None
    """Share of the pool's games that `members` take, once there are snapshots; null: no fixed
    share, all are weighted together."""

    @field_validator("members")
    @classmethod
    def _check_members(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        _check_players(members, POOL_KINDS)
        if len(set(members)) < len(members):
            raise ValueError("a member is named twice. Name each once")
        return members


class ModelConfig(Section):
    """The network: a residual tower with a spatial policy head and a value head."""

    depth: PositiveInt = 4
    """Residual blocks."""
    width: PositiveInt = 64
    """Channels of the tower."""
    activation: Literal["relu", "silu"] = "relu"
    """Non-linearity of tower and heads."""
    squeeze_excitation: bool = False
    """Whether each block scales its channels by a gate computed from the whole board."""
    value_hidden: PositiveInt = 64
    """Units of the value head's hidden layer."""
    value_head: Literal["wdl", "scalar"] = "wdl"
    """wdl: win, draw and loss probabilities, value = P(win) - P(loss). scalar: one number."""
    attackers: bool = False
    """Whether the stem also sees which pieces attack each square along which line."""
    material_prior: NonNegativeFloat = 0.2
    """First value of the learned factor on the material count that the value head starts from: at
    0.2 a pawn ahead is worth tanh(0.2) = 0.2. 0: no such count."""


class LearnerConfig(Section):
    """The PPO update and its optimizer (AdamW)."""

    learning_rate: PositiveFloat = 5e-4
    """Learning rate at timestep 0."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls over run.total_timesteps."""
    lr_final_fraction: Fraction = 0.1
    """Learning rate at the end, as a share of learning_rate; ignored by `constant`."""
    gamma: Fraction = 0.997
    """Discount per ply."""
    gae_lambda: Fraction = 0.8
    """Decay of the advantage's carry; 0 is one-step TD, 1 the full return."""
    clip_coef: PositiveFloat = 0.2
    """The policy ratio is clipped to 1 +- this."""
    ent_coef: NonNegativeFloat = 0.01
    """Weight of the entropy bonus at timestep 0."""
    ent_final_fraction: NonNegativeFloat = 1.0
    """That weight at the end, as a share of ent_coef; it changes evenly over
    run.total_timesteps."""
    vf_coef: NonNegativeFloat = 0.5
    """Weight of the value loss."""
    max_grad_norm: PositiveFloat = 1.0
    """The gradient's global norm is clipped to this."""
    num_epochs: PositiveInt = 4
    """Passes over an update's rows."""
    num_minibatches: PositiveInt = 8
    """Optimizer steps per epoch; must divide the rows of an update."""
    target_kl: PositiveFloat | None = 0.1
    """An update stops when it has moved approx_kl by 1.5 times this; null: never."""
    normalize_advantages: bool = True
    """Whether advantages get mean 0 and deviation 1 over each update."""
    micro_batch: PositiveInt | None = 256
    """Rows a CPU replica works on at once, so that activations stay in cache; null: all. On CUDA a
    minibatch is never split."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""
    adam_eps: PositiveFloat = 1e-5
    """Adam's epsilon."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision of the update; auto: bf16 on CUDA, off on CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the update runs; auto: cuda when the cluster has a GPU."""
    num_gpus: PositiveFloat = 1.0
    """Ray's reservation when the device is cuda; a fraction shares one GPU with other runs."""
    num_threads: PositiveInt | None = None
    """Single-threaded replicas that share each minibatch on a CPU; null: from the cluster's CPUs
    (1 on CUDA)."""


class ScheduleConfig(Section):
    """Who waits for whom."""

    mode: Literal["overlap", "lockstep"] = "overlap"
    """overlap: actors play on while the learner learns. lockstep: they take turns; strictly
    on-policy and reproducible."""
    rollouts_per_update: PositiveInt | None = None
    """R: rollouts in one update; null: num_actors in lockstep, else chosen from the CPUs, anew
    whenever their number changes if num_actors is auto."""
    max_policy_lag: NonNegativeInt = 1
    """Updates by which the weights that played may trail the learner's; 0 in lockstep."""
    actor_threads: PositiveInt = 1
    """Torch threads of each actor."""


class WireConfig(Section):
    """How rollouts and weights are packed for the object store."""

    zstd_level: Annotated[int, Field(ge=1, le=19)] = 1
    """Compression level: 1 is fastest."""
    weights_format: Literal["lossless", "half"] = "lossless"
    """half: actors play with weights rounded to 16 bits, half the bytes."""


class CheckpointConfig(Section):
    """When the run is saved and what is kept."""

    interval_timesteps: PositiveInt = 200_000
    """A checkpoint whenever the timestep crosses a multiple of this; the end always saves."""
    keep_last: PositiveInt = 3
    """Newest checkpoints kept."""
    keep_every_timesteps: PositiveInt | None = None
    """Besides, the first checkpoint after each multiple of this is kept for good; null: none."""
    upload_timeout_s: PositiveFloat = 120.0
    """Seconds that the end of a run waits for the last upload, where run.run_dir is a URI."""


class EvaluationConfig(Section):
    """Matches that measure the newest weights while training goes on."""

    interval_timesteps: PositiveInt | None = None
    """Matches are played whenever the timestep crosses a multiple of this; null: none."""
    num_games: Annotated[int, Field(ge=2, multiple_of=2)] = 32
    """Games of each match; even, since every opening is played from both colours."""
    opponents: tuple[str, ...] = ("random", "greedy", "snapshots")
    """Each `snapshots` (own earlier versions) or as for `run.py evaluate --opponent`. Elo is
    over `random`: without it, or a chain of games to it, there is none."""
    finishing: bool = True
    """Whether each match is also played with every mate in one found by the rules library."""
    max_plies: Annotated[int, Field(ge=16, le=4096)] = 320
    """Plies, opening included, after which a game is truncated and counts half."""
    temperature: NonNegativeFloat = 0.3
    """0: the likeliest move, by which two networks mostly repeat each other into a draw; above:
    sampled from softmax(logits / temperature)."""
    num_cpus: NonNegativeFloat = 0.0
    """Ray's reservation for the evaluator; 0: it takes what others leave, at lowest priority."""
    finish_timeout_s: NonNegativeFloat = 60.0
    """Seconds that matches under way get at the end of a run before they are abandoned."""

    @field_validator("opponents")
    @classmethod
    def _check_opponents(cls, opponents: tuple[str, ...]) -> tuple[str, ...]:
        _check_players(opponents, EVALUATION_KINDS)
        if len(set(opponents)) < len(opponents) or not opponents:
            raise ValueError("it is empty or names an opponent twice. Name each once")
        return opponents


class ClusterConfig(Section):
    """The Ray cluster to start or to join."""

    address: str | None = None
    """Address of a running cluster, `auto` to find one, `local` to start one; null: RAY_ADDRESS
    if set, else start one."""
    num_cpus: PositiveInt | None = None
    """CPUs offered by a cluster started here; null: all."""
    num_gpus: NonNegativeInt | None = None
    """GPUs offered by a cluster started here; null: all."""
    object_store_bytes: Annotated[int, Field(ge=75 * 2**20)] | None = None
    """Object store of a cluster started here; null: Ray's choice. Ray needs at least 75 MiB."""
    dashboard: bool = False
    """Whether a cluster started here serves Ray's dashboard, on loopback."""
    dashboard_port: Annotated[int, Field(ge=1, le=65535)] = 8265
    """Port of the dashboard."""
    wait_for_nodes_s: NonNegativeFloat = 0.0
    """Seconds that a run which does not fit the cluster waits for it to grow; 0: it is refused."""
    start_timeout_s: PositiveFloat = 120.0
    """Seconds in which actors must answer before the run gives up."""
    max_actor_deaths: NonNegativeInt = 3
    """Deaths of one actor within death_window_s that are put right; one more ends the run."""
    death_window_s: PositiveFloat = 60.0
    """Seconds over which deaths of an actor are counted."""


class TrackingConfig(Section):
    """What the run shows and records."""

    view: Literal["auto", "rich", "lines", "none"] = "auto"
    """Terminal output; auto: rich on a terminal, else lines."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe record written to run.log."""
    subscribers: tuple[str, ...] = ()
    """Extra event subscribers, each `package.module:callable`."""
    save_moves: bool = True
    """Whether games.jsonl holds each game's moves."""
    tensorboard: bool = False
    """Whether RUN_DIR/tensorboard gets event files; needs the extra `tensorboard`."""
    ray_metrics: bool = True
    """Whether Ray's Prometheus port exports the run's metrics, e.g. for cluster/grafana."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases; offline: into the run directory, for `wandb sync`."""
    wandb_project: str = "keisei-ray"
    """Project of the W&B run."""
    wandb_entity: str | None = None
    """User or team that owns it; null: the account's default."""
    wandb_group: str | None = None
    """Group of the W&B run; null: none."""
    wandb_name: str | None = None
    """Name of the W&B run; null: that of the run directory."""
    wandb_tags: tuple[str, ...] = ()
    """Tags of the W&B run."""
    close_timeout_s: PositiveFloat = 20.0
    """Seconds that all subscribers together get at the end, e.g. for uploads under way."""


class ProfileConfig(Section):
    """Traces of where the time goes, in `profile/` of the run directory."""

    updates: NonNegativeInt = 0
    """Updates, and rollouts of actor 0, to trace by torch.profiler, which slows them down; with
    them Ray's timeline is saved at the end. 0: none of it."""
    first_update: PositiveInt = 3
    """The first of them, counted from 1 in the learner's process, and in the actor's; before it
    things warm up."""


def _check_players(texts: Sequence[str], kinds: Sequence[PlayerKind]) -> None:
    """Refuses a text that is not a player of one of these kinds."""
    for text in texts:
        try:
            parse_player(text, kinds)
        except PlayerError as error:
            raise ValueError(str(error).rstrip(".")) from error

"""Sections of the configuration: every setting with its default, meaning and limits.

The docstring of a setting is what `run.py config --describe` and the documentation show: meaning
and unit, without default and limits, which they read from the field. The models are frozen, refuse
unknown keys, and never read a file, an environment variable or a clock. Settings of several
sections are checked against each other in `keisei_ray.config.checks`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

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
    model_validator,
)

from keisei_ray.config.player_spec import EVALUATION_KINDS, POOL_KINDS, PlayerKind, parse_player
from keisei_ray.config.subscriber_entries import SubscriberEntry, check_entries
from keisei_ray.errors import PlayerError

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, finite numbers, described fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_elsewhere(cls, value: object, info: ValidationInfo) -> object:
        """Refuses true and false for numbers; pydantic would read true as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation is not bool:
            raise ValueError("a bool where none is expected")
        return value


class RunConfig(Section):
    """One training run as a whole."""

    run_dir: str | None = None
    """Directory of everything that the run writes, or its URI, e.g. s3://bucket/runs/first. null:
    runs/<UTC time>."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    """Root of every random stream: weights, games, openings, minibatch order."""
    total_timesteps: PositiveInt = 10_000_000
    """Plies to train on. The run ends at the first update that reaches this number."""
    resume: str | None = None
    """Checkpoint to continue from: `latest` for the newest intact one in run_dir, or a path or URI.
    null: a fresh run."""
    init_from: str | None = None
    """Checkpoint, run or URI whose network a fresh run starts from, with a new optimizer. The run's
    network may have more blocks or channels; it then begins with the same outputs. null: a new
    network."""


class SelfPlayConfig(Section):
    """Self-play: how games are played and cut into rollouts."""

    num_actors: PositiveInt | Literal["auto"] = 2
    """Number of self-play actors, one process each. auto: one for each CPU that learner and
    evaluator leave free, also on nodes that join later; at most schedule.max_actors. auto:0.5 is
    auto with an auto_share of 0.5."""
    auto_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of these CPUs that num_actors auto takes, on a cluster that other runs use too. A
    number of actors is not changed by it."""
    games_per_actor: PositiveInt = 32
    """Games that an actor plays side by side (N). One forward pass serves all of them."""
    rollout_length: PositiveInt = 32
    """Plies of each game in one rollout (T)."""
    max_plies: Annotated[int, Field(ge=2, le=4096)] = 320
    """Plies, opening included, after which a game is truncated."""
    random_opening_plies: NonNegativeInt = 24
    """Largest number of random plies that open a game. Each new game gets a random number from 0 to
    this and as many uniformly random legal plies, which are not trained on."""
    finish_mates: bool = True
    """Whether a mate in one that rsshogi's solver finds is played at once, whatever the player
    prefers: the learner, and its opponents from the pool. The value is trained on that ply like on
    any other, the policy with learner.mate_coef."""
    start_positions: tuple[str, ...] = ()
    """Start positions as SFEN, of which each game gets one at random. Empty: the standard one."""
    amp: Literal["auto", "off", "bf16"] = "auto"
    """Precision in which the actors' networks compute their residual tower. auto: that of the
    update if both are on CPUs or both on CUDA; on CPUs beside a GPU, bf16 where the CPUs of all
    nodes have instructions for it. off: float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the actors' networks. The games themselves are played on CPUs. auto: cuda where the
    cluster has a GPU and it pays, by the network's size and the number of games and actors; else
    cpu."""
    num_gpus: PositiveFloat | None = None
    """GPUs that Ray reserves for each actor if the device is cuda. null: an equal part of what the
    learner leaves, which on a single GPU is half of it."""

    @model_validator(mode="before")
    @classmethod
    def _split_share(cls, values: Any) -> Any:
        """Reads `auto:0.5` as two settings."""
        asked = values.get("num_actors") if isinstance(values, dict) else None
        if isinstance(asked, str) and asked.startswith("auto:"):
            return values | {"num_actors": "auto", "auto_share": asked.removeprefix("auto:")}
        return values


class PoolConfig(Section):
    """Opponent pool: the players other than itself that the learner meets in self-play."""

    share: Fraction = 0.0
    """Share of new games in which the learner plays a member of the pool. 0: pure self-play."""
    members: tuple[str, ...] = ()
    """Members that are in the pool from the start and stay: `greedy`, `greedy2`, `random` or
    `usi:COMMAND`.
    With self_play.finish_mates they also play every mate in one. An engine that fails gets no more
    games in this session."""
    snapshot_interval_timesteps: PositiveInt | None = 200_000
    """Timesteps between two snapshots: the newest weights join the pool whenever the timestep
    crosses a multiple of this. null: never."""
    max_snapshots: PositiveInt = 8
    """Largest number of snapshots in the pool. A further one replaces the one against which the
    learner scores highest."""
    networks_per_actor: PositiveInt = 2
    """Largest number of snapshots that an actor holds and plays against at a time."""
    pfsp: Literal["hard", "even"] = "hard"
    """Weight by which opponents are chosen (prioritized fictitious self-play), with x the learner's
    score against one. hard: 1 - x, which prefers opponents that beat the learner. even: x (1 - x),
    which prefers opponents of its own strength."""
    pfsp_power: Annotated[float, Field(ge=0, le=16)] = 2.0
    """Exponent of the weight by which opponents are chosen. 0: all are equally likely."""
    scripted_share: Fraction | None = None
    """Share of the pool's games that go to `members` as soon as there are snapshots. null: no fixed
    share; members and snapshots are weighted together."""

    @field_validator("members")
    @classmethod
    def _check_members(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        _check_players(members, POOL_KINDS)
        if len(set(members)) < len(members):
            raise ValueError("a member is named twice. Name each once")
        return members


class PretrainConfig(Section):
    """Pretraining: learning from game records instead of self-play (`run.py pretrain`)."""

    records: tuple[str, ...] = ()
    """Files and directories of game records to learn from, or URIs of some (`s3://`, `gs://`), in
    place of self-play. Empty: there is self-play."""
    held_out: Fraction = 0.05
    """Share of the games that are not learned from, chosen by a hash of each game; the network is
    measured on them."""
    held_out_positions: PositiveInt = 4096
    """Largest number of held-out positions that the network is measured on."""
    held_out_interval_timesteps: PositiveInt = 200_000
    """Timesteps between two such measurements."""
    shuffle_positions: PositiveInt = 100_000
    """Positions of which a reader mixes the order, about 600 bytes of its memory each."""
    duplicate_memory: PositiveInt = 1_048_576
    """Games that a reader remembers in a pass to find duplicates, 8 bytes each, 16 where hcpe3
    stands beside other formats; of more games, some duplicates are not found. Each of several
    readers remembers its own."""
    eval_weight: Fraction = 0.5
    """Weight of a recorded evaluation in the value's target; the result has the rest. Where there
    is no evaluation, the result has all."""
    eval_scale: PositiveFloat = 600.0
    """Centipawns at which an evaluation means a chance of winning of 73%, by the formula
    1 / (1 + exp(-evaluation / eval_scale))."""
    policy_target: Literal["visits", "played"] = "visits"
    """Move that the policy learns where a record has the visits of a search (hcpe3). visits: one
    drawn in proportion to them, another in each pass. played: the one that was played, as in all
    other records."""
    mirror: bool = True
    """Whether half of the positions, chosen anew in each pass, are mirrored left to right. The
    rules are the same there, so a network learns from twice as many examples."""
    min_rating: float | None = None
    """Lowest rating of both players of a game; a game without ratings is then left out. null: all
    games."""
    results: tuple[Literal["black_win", "white_win", "draw"], ...] = (
        "black_win",
        "white_win",
        "draw",
    )
    """Results of the games to learn from. A game cut by a ply cap counts as a draw."""
    min_plies: NonNegativeInt = 0
    """Fewest moves of a game, but for hcpe and psv, whose games need not be whole."""
    max_plies: PositiveInt | None = None
    """Most moves of a game. null: no limit."""
    first_ply: NonNegativeInt = 0
    """Moves at the start of each game that are not learned from."""
    checks: Literal["all", "none", "only"] = "all"
    """Positions to learn from: all, none in which the mover is in check, or only those."""
    max_eval: PositiveInt | None = None
    """Largest recorded evaluation of a position, in centipawns for either side. null: no limit."""

    @field_validator("results")
    @classmethod
    def _check_results(cls, results: tuple[str, ...]) -> tuple[str, ...]:
        if not results:
            raise ValueError("it is empty. Name at least one")
        return results


class ModelConfig(Section):
    """Network: a residual tower with a spatial policy head and a value head."""

    depth: PositiveInt = 1
    """Number of residual blocks."""
    width: PositiveInt = 32
    """Channels of the residual tower."""
    activation: Literal["relu", "silu"] = "relu"
    """Activation function of the tower and the heads."""
    squeeze_excitation: bool = False
    """Whether each block scales its channels by a gate computed from the whole board."""
    value_hidden: PositiveInt = 64
    """Units of the value head's hidden layer."""
    value_head: Literal["wdl", "scalar"] = "wdl"
    """Output of the value head. wdl: probabilities of win, draw and loss; the value is P(win) -
    P(loss). scalar: one number."""
    attackers: bool = True
    """Whether the first layer also sees which pieces attack each square, and along which line."""
    origins: bool = True
    """Whether the policy also looks at the square that a move comes from, not only at the one that
    it goes to."""
    material_prior: NonNegativeFloat = 0.2
    """Initial value of a learned factor: that many times the material count is added to the output
    of the value head. At 0.2 a pawn ahead is worth tanh(0.2) = 0.2. 0: the material count is not
    used."""


class LearnerConfig(Section):
    """PPO update and its optimizer."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """Rule of the optimizer's steps. muon: AdamW's, but those of the kernels in the residual blocks
    are made nearly orthogonal. In pretraining it learns more from as many positions."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate at timestep 0."""
    lr_schedule: Literal["constant", "linear", "cosine", "adaptive"] = "linear"
    """Shape of the learning rate's decay over run.total_timesteps. adaptive: no decay; after each
    update it is raised or lowered so that updates change the policy by about lr_adaptive_kl."""
    lr_final_fraction: Fraction = 0.1
    """Learning rate at the end of the run, as a share of learning_rate. Ignored where lr_schedule
    is constant or adaptive."""
    lr_adaptive_kl: PositiveFloat = 0.02
    """Policy change of an update, as kl_proximal in nats, that lr_schedule adaptive aims at."""
    gamma: Fraction = 0.997
    """Discount per ply."""
    gae_lambda: Fraction = 0.8
    """Lambda of generalized advantage estimation: 0 is one-step TD, 1 the full return."""
    clip_coef: PositiveFloat = 0.2
    """Clipping range of the policy ratio: it is clipped to 1 - clip_coef and 1 + clip_coef."""
    max_importance_weight: Annotated[float, Field(ge=1)] = 2.0
    """Upper bound of the weight of a ply that older weights played: the probability of its move by
    the learner's weights over that by the weights that played it."""
    mate_coef: NonNegativeFloat = 0.0
    """Weight of the loss that moves the policy to the mates in one that self_play.finish_mates
    played: cross-entropy on these plies, which have no other policy loss. 0, from which the network
    learns most, leaves them to the value. In pretraining each recorded move has weight 1."""
    ent_coef: NonNegativeFloat = 0.01
    """Weight of the entropy bonus at timestep 0."""
    ent_final_fraction: NonNegativeFloat = 1.0
    """Weight of the entropy bonus at the end of the run, as a share of ent_coef. It changes
    linearly over run.total_timesteps."""
    vf_coef: NonNegativeFloat = 0.5
    """Weight of the value loss."""
    kl_start_coef: NonNegativeFloat = 0.0
    """Weight, at timestep 0, of a penalty on leaving the policy that run.init_from began with: its
    KL divergence in nats, against normalized advantages. 0: no penalty."""
    kl_start_until: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the run over which kl_start_coef fades to 0, linearly."""
    max_grad_norm: PositiveFloat = 1.0
    """Global norm that gradients are clipped to."""
    num_epochs: PositiveInt = 2
    """Passes over the rows of an update."""
    num_minibatches: PositiveInt = 16
    """Optimizer steps per epoch. It must divide the timesteps of an update (R x T x N)."""
    target_kl: PositiveFloat | None = 0.1
    """Policy change at which an update stops early: when a minibatch shows a KL divergence of 1.5
    times this between the policy at the start of the update and now, by more than its standard
    error, the last optimizer step is undone. null: never."""
    normalize_advantages: bool = True
    """Whether advantages are normalized to mean 0 and standard deviation 1 over each update."""
    micro_batch: PositiveInt | None = 256
    """Rows that a CPU replica works on at once, so that activations stay in the cache. null: all
    rows of its minibatch. On CUDA a minibatch is never split."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""
    adam_eps: PositiveFloat = 1e-5
    """Epsilon of AdamW."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Precision in which the update computes the residual tower; weights, heads and losses are
    float32. auto: bf16 on CUDA, and on CPUs that have instructions for it; else off."""
    compile: Literal["auto", "off"] = "auto"
    """Whether torch.compile joins the kernels of the network in the update, if the device is cuda,
    and a minibatch is launched as one CUDA graph. It takes 10 to 30 s in a learner's first update.
    auto: where triton, a C compiler and Python's headers are found, and torch can."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the update. auto: cuda if the cluster has a GPU, else cpu."""
    num_gpus: PositiveFloat | None = None
    """GPUs that Ray reserves for each learner if the device is cuda. A fraction shares one GPU with
    other runs. null: 1, or 0.5 where self-play shares the cluster's only GPU."""
    num_learners: PositiveInt = 1
    """Learner processes, each of which computes a share of every update from a share of its
    rollouts, on a GPU of its own if the device is cuda. The update is that of one learner. At most
    one for each rollout of an update."""
    num_threads: PositiveInt | None = None
    """Single-threaded replicas that share each minibatch on a CPU, of each learner. null: chosen
    from the cluster's CPUs; 1 on CUDA."""


class ScheduleConfig(Section):
    """Order of self-play and learning: who waits for whom."""

    mode: Literal["auto", "overlap", "lockstep"] = "auto"
    """Order of self-play and learning. overlap: actors play on while the learner learns. lockstep:
    they take turns, which is strictly on-policy and reproducible. auto: lockstep on one machine
    whose cores actors and learner would share, else overlap."""
    max_actors: PositiveInt | None = None
    """Largest number of self-play actors that are started, of those that num_actors asks for. null:
    all of them. Chosen where mode is auto: one for each core in lockstep."""
    rollouts_per_update: PositiveInt | None = None
    """Rollouts in one update (R). null: one of each actor in lockstep; else chosen from the CPUs,
    and again whenever their number changes if num_actors is auto."""
    max_policy_lag: NonNegativeInt = 1
    """Largest number of updates by which the weights that played a rollout may trail the learner's
    when it is consumed. In lockstep there is no lag."""
    actor_threads: PositiveInt = 1
    """Torch threads of each self-play actor."""
    tune_batch: bool = False
    """Whether a fresh run measures its node's cores first, for some ten seconds, and replaces
    self_play.games_per_actor (by a quarter to four times of it) and learner.micro_batch by the
    smallest sizes that are about as fast as any. self_play.rollout_length follows, so that rollouts
    have as many plies. On GPUs nothing is replaced."""


class WireConfig(Section):
    """Packing of rollouts and weights for the object store."""

    zstd_level: Annotated[int, Field(ge=1, le=19)] = 1
    """Zstandard compression level; 1 is the fastest."""
    weights_format: Literal["lossless", "half"] = "lossless"
    """Precision of the weights that actors play with. lossless: as the learner has them. half:
    rounded to 16 bits, in half the bytes."""


class CheckpointConfig(Section):
    """Checkpoints: when the run is saved, and what is kept."""

    interval_timesteps: PositiveInt = 200_000
    """Timesteps between two checkpoints: one is saved whenever the timestep crosses a multiple of
    this, and one at the end of the run."""
    keep_last: PositiveInt = 3
    """Number of newest checkpoints to keep."""
    keep_every_timesteps: PositiveInt | None = None
    """Timesteps between two checkpoints that are kept for good, besides the newest: the first one
    after each multiple of this. null: none."""
    keep_best: NonNegativeInt = 0
    """Number of checkpoints with the highest Elo to keep, besides the newest. The Elo is that of
    the background evaluation, whose interval must be a multiple of this section's. While weights
    are being evaluated, their checkpoint stays. 0: ratings do not matter."""
    standby: bool = True
    """Whether a small process holds the newest finished update in memory, and saves it if the
    run's own process is killed. It takes the memory of two more states of the learner: 8 MB at
    4x64, 0.6 GB at 20x256."""
    upload_timeout_s: PositiveFloat = 120.0
    """Seconds that the end of a run waits for its last upload, if run.run_dir is a URI."""


class EvaluationConfig(Section):
    """Background evaluation: matches that measure the newest weights while training goes on."""

    interval_timesteps: PositiveInt | None = 50_000
    """Timesteps between two evaluations: matches are played whenever the timestep crosses a
    multiple of this, and max_cpu_share allows it. null: no evaluation. In the trials of a sweep
    there is none unless the sweep sets this."""
    max_cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Largest share of the cluster's CPUs that matches may take of the session so far. A match
    beyond it waits, and of weights that wait only the newest are measured; at the end of the run
    nothing waits. 1: matches are played whenever they are due, as in the trials of a sweep."""
    num_games: Annotated[int, Field(ge=2, multiple_of=2)] = 32
    """Games of each match. The number is even because every opening is played from both colours."""
    opponents: tuple[str, ...] = ("random", "greedy?random=0.5", "greedy", "greedy2", "snapshots")
    """Opponents of the newest weights: `snapshots` for earlier weights of the run, or any player
    that `run.py evaluate --opponent` takes. Elo is relative to `random`: there is none unless
    matches connect the network with a scripted player."""
    adapt_opponents: bool = True
    """Whether opponents are left out while matches against them say little: those with a newest
    score over 0.8 or under 0.2, but for the nearest of the too strong and, where none lies between,
    the nearest of the too weak. A session meets each once before that. false: every evaluation
    meets all, as in the trials of a sweep."""
    finishing: bool = True
    """Whether each match is also played with the network playing every mate in one that the rules
    library finds."""
    max_plies: Annotated[int, Field(ge=16, le=4096)] = 320
    """Plies, opening included, after which a game is truncated and counts half."""
    temperature: NonNegativeFloat = 0.3
    """Temperature of the networks' moves. 0: the likeliest move, but none that goes back to a
    position of the game unless it is all but lost. Above: sampled from softmax(logits /
    temperature)."""
    num_cpus: NonNegativeFloat = 0.0
    """CPUs that Ray reserves for the evaluator. 0: none; it runs at the lowest priority on what the
    others leave."""
    finish_timeout_s: NonNegativeFloat = 60.0
    """Seconds that the matches which are left at the end of a run get before they are abandoned.
    A run that is stopped does not wait for them."""

    @field_validator("opponents")
    @classmethod
    def _check_opponents(cls, opponents: tuple[str, ...]) -> tuple[str, ...]:
        _check_players(opponents, EVALUATION_KINDS)
        if len(set(opponents)) < len(opponents) or not opponents:
            raise ValueError("it is empty or names an opponent twice. Name each once")
        return opponents


class ClusterConfig(Section):
    """Ray cluster to start or to join."""

    address: str | None = None
    """Address of the Ray cluster: HOST:PORT to join one, `auto` to find a running one, `local` to
    start one. null: RAY_ADDRESS if it is set, else `local`."""
    num_cpus: PositiveInt | None = None
    """CPUs of a cluster started here. null: all of this machine."""
    num_gpus: NonNegativeInt | None = None
    """GPUs of a cluster started here. null: all of this machine."""
    object_store_bytes: Annotated[int, Field(ge=75 * 2**20)] | None = None
    """Bytes of the object store of a cluster started here; Ray needs at least 75 MiB. null: chosen
    by Ray."""
    dashboard: bool = False
    """Whether a cluster started here serves Ray's dashboard, for this machine only."""
    dashboard_port: Annotated[int, Field(ge=1, le=65535)] = 8265
    """Port of Ray's dashboard."""
    wait_for_nodes_s: NonNegativeFloat = 0.0
    """Seconds to wait for the cluster to grow if the run does not fit it. 0: the run is refused at
    once."""
    start_timeout_s: PositiveFloat = 120.0
    """Seconds that a starting process has to answer. An actor that does not counts as dead and is
    replaced; a learner that does not ends the run."""
    call_timeout_s: PositiveFloat | None = 300.0
    """Fewest seconds that a rollout, an update or a match may take before its process counts as
    dead and is replaced. It gets ten times the longest that one like it has taken, if that is more,
    and 24 times this before the first has finished. null: it is waited for without limit."""
    max_actor_deaths: NonNegativeInt = 3
    """Deaths of one self-play actor, of the learner or of the evaluator after which it is replaced,
    within death_window_s or in a row without a successful start between (for the evaluator: a
    finished match). One more ends the run; one more of the evaluator ends only the evaluation."""
    death_window_s: PositiveFloat = 60.0
    """Seconds over which the deaths for max_actor_deaths are counted."""


class TrackingConfig(Section):
    """Tracking: what the run shows and records."""

    view: Literal["auto", "rich", "lines", "none"] = "auto"
    """Terminal output. auto: rich on a terminal, else lines."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe level of the records written to run.log."""
    subscribers: tuple[SubscriberEntry, ...] = ()
    """Additional subscribers to the run's events, each by the name of an installed entry point or
    as `package.module:callable`. One with settings of its own is given as `{NAME: {KEY: VALUE}}`.
    """
    save_moves: bool = True
    """Whether games.jsonl holds the moves of each game."""
    tensorboard: bool = False
    """Whether event files are written to RUN_DIR/tensorboard. Needs the extra `tensorboard`."""
    ray_metrics: bool = True
    """Whether the run's metrics are exported on Ray's Prometheus port, e.g. for cluster/grafana."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases tracking. offline: into the run directory, for `wandb sync`."""
    wandb_project: str = "keisei-ray"
    """Project of the W&B run."""
    wandb_entity: str | None = None
    """User or team that owns the W&B run. null: the account's own choice."""
    wandb_group: str | None = None
    """Group of the W&B run. null: none."""
    wandb_name: str | None = None
    """Name of the W&B run. null: the name of the run directory."""
    wandb_tags: tuple[str, ...] = ()
    """Tags of the W&B run."""
    close_timeout_s: PositiveFloat = 20.0
    """Seconds that all subscribers together have to finish at the end, e.g. uploads in progress."""

    @field_validator("subscribers")
    @classmethod
    def _check_subscribers(
        cls, entries: tuple[SubscriberEntry, ...]
    ) -> tuple[SubscriberEntry, ...]:
        check_entries(entries)
        return entries


class ProfileConfig(Section):
    """Profiles of where the time goes, in `profile/` of the run directory."""

    updates: NonNegativeInt = 0
    """Number of updates, and of rollouts of actor 0, to profile by torch.profiler, which slows them
    down. Ray's timeline is saved at the end as well. 0: nothing is profiled."""
    first_update: PositiveInt = 3
    """First update to profile, counted from 1 in the learner's process, and first rollout, counted
    in the actor's. The calls before it warm up."""


def _check_players(texts: Sequence[str], kinds: Sequence[PlayerKind]) -> None:
    """Refuses a text that is not a player of one of these kinds."""
    for text in texts:
        try:
            parse_player(text, kinds)
        except PlayerError as error:
            raise ValueError(str(error).rstrip(".")) from error

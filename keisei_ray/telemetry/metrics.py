"""Every metric's name, unit and meaning, in one table, and the rates computed from counts.

One record of these metrics is published after each update and becomes one line of
`metrics.jsonl`. Names and order are fixed: people and scripts rely on them. Nothing here keeps
a count; the driver's `Progress` does, and these functions turn its counts into figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

MetricValue: TypeAlias = int | float | str | None
MetricRecord: TypeAlias = Mapping[str, MetricValue]


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str
    """Key in `metrics.jsonl`."""
    type: Literal["int", "float", "str"]
    """What the value is. A float may be None (null) where it is undefined; the others never."""
    unit: str
    """Unit of the value, "" for a pure number."""
    meaning: str
    """What it says. "This update" means: of the rollouts that this update consumed."""


METRICS: Final[tuple[Metric, ...]] = (
    Metric("timestep", "int", "plies", "In all rollouts that the learner has been given, once."),
    Metric("update", "int", "updates", "Updates done since the run began, over all resumes."),
    Metric("weights_version", "int", "updates", "Version published by this update."),
    Metric("wall_time_s", "float", "s", "Time the run has been going, over all resumes."),
    Metric("sps", "float", "plies/s", "This update's timesteps over the time since the last one."),
    Metric("sps_total", "float", "plies/s", "timestep over wall_time_s: the run, end to end."),
    Metric("games_total", "int", "games", "Finished in consumed rollouts; each counts once."),
    Metric("black_wins", "int", "games", "Of games_total, won by black (the first player)."),
    Metric("white_wins", "int", "games", "Of games_total, won by white."),
    Metric("draws", "int", "games", "Of games_total, drawn by repetition."),
    Metric("truncated", "int", "games", "Of games_total, stopped by the ply cap."),
    Metric("game_length_mean", "float", "plies", "Of this update's games; null if none ended."),
    Metric("policy_loss", "float", "", "Clipped surrogate loss, mean over optimizer steps."),
    Metric("value_loss", "float", "", "Value loss before vf_coef, mean over optimizer steps."),
    Metric("entropy", "float", "nats", "Of the masked policy, mean over this update's rows."),
    Metric("approx_kl", "float", "nats", "k3 estimate between acting and updated policy."),
    Metric("clip_fraction", "float", "share", "Rows whose ratio left [1 - clip, 1 + clip]."),
    Metric("explained_variance", "float", "", "Of the value targets by the values; 1 is perfect."),
    Metric("learning_rate", "float", "", "The rate that this update's optimizer steps used."),
    Metric("grad_norm", "float", "", "Gradient norm before clipping, mean over optimizer steps."),
    Metric("amp_dtype", "str", "", "Autocast type of forward and loss: off, bf16 or fp16."),
    Metric("amp_scale", "float", "", "Loss scale; null without a scaler (off, bf16)."),
    Metric(
        "amp_skipped", "int", "steps", "Optimizer steps of this update that the scaler skipped."
    ),
    Metric("policy_lag_mean", "float", "updates", "Learner's version - rollout's, at consumption."),
    Metric("policy_lag_max", "int", "updates", "Largest lag among this update's rollouts."),
    Metric("batch_timesteps", "int", "plies", "In this update's rollouts: its rows."),
    Metric("rollout_bytes_raw", "int", "bytes", "Of this update's rollouts, unpacked."),
    Metric("rollout_bytes_wire", "int", "bytes", "Of this update's rollouts, packed."),
    Metric("weights_bytes_wire", "int", "bytes", "Of the published weights, packed."),
    Metric("collect_time_s", "float", "s", "An actor's time for one rollout, mean of this update."),
    Metric(
        "update_time_s", "float", "s", "The learner's time for this update, unpacking included."
    ),
    Metric("publish_time_s", "float", "s", "From updated weights to their object reference."),
    Metric("wait_time_s", "float", "s", "The learner's idle time before this update's rollouts."),
    Metric("actors_alive", "int", "actors", "Self-play actors that are up."),
    Metric("actor_restarts", "int", "actors", "Self-play actors replaced since the run began."),
)
"""The contract: one row a key of `metrics.jsonl`, in the order in which they are written."""

METRIC_NAMES: Final[tuple[str, ...]] = tuple(metric.name for metric in METRICS)

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (float, int, type(None)),
    "str": (str,),
}


def check(record: MetricRecord) -> None:
    """Refuse a record that is not exactly the table.

    Args:
        record: one update's metrics. Any order.

    Raises:
        ValueError: a name is missing or is not in the table, or a value is of another type than
            the table's (a bool is no int; numpy scalars must be converted by the caller).
    """
    missing = [name for name in METRIC_NAMES if name not in record]
    extra = sorted(set(record) - set(METRIC_NAMES))
    if missing or extra:
        raise ValueError(
            f"metrics record differs from the table: missing {missing}, not in the table {extra}. "
            "Emit every name of keisei_ray.telemetry.metrics.METRICS and no other."
        )
    for metric in METRICS:
        value = record[metric.name]
        if isinstance(value, bool) or not isinstance(value, _TYPES[metric.type]):
            raise ValueError(
                f"metric {metric.name} = {value!r} is a {type(value).__name__}, "
                f"expected {metric.type}."
            )


def in_order(record: MetricRecord) -> dict[str, MetricValue]:
    """A checked copy of `record` with its keys in the table's order.

    Raises:
        ValueError: as `check`.
    """
    check(record)
    return {name: record[name] for name in METRIC_NAMES}


def per_second(count: float, seconds: float) -> float | None:
    """A rate: timesteps consumed in an interval over that interval's seconds.

    Both rates of the contract are this function: `sps` of the timesteps and time since the last
    update, `sps_total` of the run's `timestep` and `wall_time_s`. Nothing is smoothed.

    Args:
        count: what was counted, >= 0.
        seconds: how long it took, >= 0.

    Returns:
        count / seconds, or None where no time has passed.

    Raises:
        ValueError: either is negative; a clock or a counter has gone backwards.
    """
    if count < 0 or seconds < 0:
        raise ValueError(f"rate of {count} in {seconds} s: both must be >= 0.")
    return count / seconds if seconds > 0 else None


def mean(total: float, count: int) -> float | None:
    """`total / count`, or None of nothing. `game_length_mean` is this of plies and games."""
    return total / count if count else None


def share(part: float, whole: float) -> float | None:
    """`part / whole` in [0, 1], or None of nothing."""
    return part / whole if whole else None


def remaining_s(timestep: int, total_timesteps: int, rate: float | None) -> float | None:
    """Seconds until `total_timesteps` at `rate` timesteps a second.

    Returns:
        0.0 once the total is reached; None where the rate is unknown or zero.
    """
    if timestep >= total_timesteps:
        return 0.0
    return (total_timesteps - timestep) / rate if rate else None

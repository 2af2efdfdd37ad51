"""The metrics of one update as one typed record, and the table of their names and meanings.

One `UpdateMetrics` is published after each update and becomes one line of `metrics.jsonl`. Names
and order are fixed: people and scripts rely on them. Nothing here keeps a count; the driver's
`Progress` does.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Final, Literal, TypeAlias, get_args, get_type_hints

from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.rates import mean, per_second
from keisei_ray.telemetry.reports import CollectReport, UpdateReport

MetricValue: TypeAlias = int | float | str | None
MetricRecord: TypeAlias = Mapping[str, MetricValue]


@dataclass(frozen=True)
class Metric:
    """One row of a table of metrics, for documentation and reports."""

    name: str
    """Key in the JSON lines file."""
    type: Literal["int", "float", "str"]
    """Type of the value. A float may be None (null in a file) where it is undefined."""
    unit: str
    """Unit of the value, "" for a pure number."""
    meaning: str
    """Meaning in one or two sentences, from the field's docstring."""


@dataclass(frozen=True, eq=False)
class UpdateMetrics(Mapping[str, MetricValue]):
    """Metrics of one update, in the order in which they are written.

    The record is also a mapping, for readers that choose metrics by name: `metrics["sps"]` is
    `metrics.sps`. The annotation of each field holds its unit. "This update" means the rollouts
    that the update consumed. Values are None where they are undefined, and where a file holds null
    in place of a value that was not finite.

    Raises:
        ValueError: a value is of another type than its field (a bool does not count as an int;
            numpy scalars must be converted by the caller).
    """

    timestep: Annotated[int, "plies"]
    """Plies in all rollouts that finished updates have consumed, each counted once."""
    update: Annotated[int, "updates"]
    """Updates done since the run began, over all resumes."""
    weights_version: Annotated[int, "updates"]
    """Version of the weights that this update published."""
    wall_time_s: Annotated[float, "s"]
    """Time that the run has been going, over all resumes."""
    sps: Annotated[float | None, "plies/s"]
    """Timesteps of this update over the time since the last update."""
    sps_total: Annotated[float | None, "plies/s"]
    """Ratio of timestep to wall_time_s: the rate of the whole run."""
    games_total: Annotated[int, "games"]
    """Games finished in consumed rollouts, each counted once."""
    black_wins: Annotated[int, "games"]
    """Games of games_total that black (the first player) won."""
    white_wins: Annotated[int, "games"]
    """Games of games_total that white won."""
    draws: Annotated[int, "games"]
    """Games of games_total drawn by repetition."""
    truncated: Annotated[int, "games"]
    """Games of games_total stopped by the ply cap."""
    game_length_mean: Annotated[float | None, "plies"]
    """Mean length of the games that ended in this update; null if none ended."""
    policy_loss: Annotated[float | None, ""]
    """Clipped surrogate loss, mean over the rows of all minibatches processed; in pretraining the
    cross-entropy with the recorded moves."""
    value_loss: Annotated[float | None, ""]
    """Value loss before vf_coef, mean over the rows of all minibatches processed."""
    entropy: Annotated[float | None, "nats"]
    """Entropy of the policy over legal moves, mean over the rows of all minibatches processed."""
    approx_kl: Annotated[float | None, "nats"]
    """Estimate (k3) of the KL divergence between the acting and the updated policy, mean over the
    last epoch that ran."""
    clip_fraction: Annotated[float | None, "fraction"]
    """Fraction of the rows of all minibatches processed whose probability ratio left
    [1 - clip_coef, 1 + clip_coef]."""
    explained_variance: Annotated[float | None, ""]
    """Fraction of the variance of the value targets that the values explain; 1 is perfect. The
    values are those that the plies were played with; in pretraining the network's, over the rows of
    all minibatches processed, each before its optimizer step."""
    learning_rate: Annotated[float, ""]
    """Learning rate of this update's optimizer steps."""
    grad_norm: Annotated[float | None, ""]
    """Gradient norm before clipping, mean over optimizer steps."""
    amp_dtype: Annotated[str, ""]
    """Autocast type of forward pass and loss: off, bf16 or fp16."""
    amp_scale: Annotated[float | None, ""]
    """Loss scale; null without a scaler (off, bf16)."""
    amp_skipped: Annotated[int, "steps"]
    """Optimizer steps of this update that the loss scaler skipped."""
    policy_lag_mean: Annotated[float, "updates"]
    """Learner's weights version minus the rollout's at consumption, mean over this update."""
    policy_lag_max: Annotated[int, "updates"]
    """Largest policy lag among this update's rollouts."""
    batch_timesteps: Annotated[int, "plies"]
    """Timesteps of this update: all plies in its rollouts, those of opponents included."""
    rollout_bytes_raw: Annotated[int, "bytes"]
    """Size of this update's rollouts, unpacked."""
    rollout_bytes_wire: Annotated[int, "bytes"]
    """Size of this update's rollouts, packed."""
    weights_bytes_wire: Annotated[int, "bytes"]
    """Size of the published weights, packed."""
    collect_time_s: Annotated[float | None, "s"]
    """Time of an actor for one rollout, mean over this update's rollouts."""
    update_time_s: Annotated[float, "s"]
    """Time of the learner for this update, unpacking included."""
    publish_time_s: Annotated[float, "s"]
    """Time to pack weights and state, beside the next update where its rollouts are there."""
    wait_time_s: Annotated[float, "s"]
    """Time that the learner was idle before this update's rollouts came."""
    actors_alive: Annotated[int, "actors"]
    """Self-play actors that are up."""
    actor_restarts: Annotated[int, "actors"]
    """Deaths of self-play actors after which the run went on, over all resumes."""
    updates_undone: Annotated[float | None, "updates"]
    """Updates that were undone because they made something infinite or not a number, over all
    resumes."""

    def __post_init__(self) -> None:
        """Refuses a value of another type than its field."""
        for metric in METRICS:
            value = self[metric.name]
            if isinstance(value, bool) or not isinstance(value, _TYPES[metric.type]):
                raise ValueError(
                    f"metric {metric.name} = {value!r} is a {type(value).__name__}, "
                    f"expected {metric.type}."
                )

    def __getitem__(self, name: str) -> MetricValue:
        """Returns a metric by its name."""
        value: MetricValue = self.__dict__[name]
        return value

    def __iter__(self) -> Iterator[str]:
        """Yields the names in their order."""
        return iter(METRIC_NAMES)

    def __len__(self) -> int:
        """Returns the number of metrics."""
        return len(METRIC_NAMES)


def table_of(record: type) -> tuple[Metric, ...]:
    """Reads the table of metrics off a record's fields: units and docstrings.

    Args:
        record: a dataclass with `Annotated[type, unit]` fields, each followed by its docstring.

    Returns:
        One row a field, in the order of the fields.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(definition, ast.ClassDef)
    meanings = {}
    for field, docstring in zip(definition.body, definition.body[1:], strict=False):
        match field, docstring:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                meanings[name] = " ".join(text.split())
    hints = get_type_hints(record, include_extras=True)
    rows = []
    for name in (field.name for field in fields(record)):
        value_type, unit = get_args(hints[name])
        rows.append(Metric(name, _type_name(value_type), unit, meanings[name]))
    return tuple(rows)


def _type_name(value_type: object) -> Literal["int", "float", "str"]:
    if value_type in (float, float | None):
        return "float"
    return "int" if value_type is int else "str"


METRICS: Final = table_of(UpdateMetrics)
"""Table of the keys of `metrics.jsonl`, in the order in which they are written."""

METRIC_NAMES: Final[tuple[str, ...]] = tuple(metric.name for metric in METRICS)
"""Keys of `metrics.jsonl` in their order."""

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (float, int, type(None)),
    "str": (str,),
}


def update_metrics(
    progress: Progress,
    report: UpdateReport,
    collected: Sequence[CollectReport],
    *,
    since_last_s: float,
    waited_s: float,
    actors_alive: int,
) -> UpdateMetrics:
    """Builds the metrics of an update.

    Args:
        progress: the run's counts, this update and its wall time included.
        report: the learner's report of the update.
        collected: the actors' reports of the update's rollouts.
        since_last_s: seconds since the last update finished.
        waited_s: seconds that the learner was idle for want of rollouts.
        actors_alive: self-play actors that answer.
    """
    games = [game for c in collected for game in c.games]
    return UpdateMetrics(
        timestep=progress.timestep,
        update=progress.updates,
        weights_version=report.weights_version,
        wall_time_s=progress.wall_time_s,
        sps=per_second(report.batch_timesteps, since_last_s),
        sps_total=per_second(progress.timestep, progress.wall_time_s),
        games_total=progress.games_total,
        black_wins=progress.black_wins,
        white_wins=progress.white_wins,
        draws=progress.draws,
        truncated=progress.truncated,
        game_length_mean=mean(sum(game.plies for game in games), len(games)),
        policy_loss=report.policy_loss,
        value_loss=report.value_loss,
        entropy=report.entropy,
        approx_kl=report.approx_kl,
        clip_fraction=report.clip_fraction,
        explained_variance=report.explained_variance,
        learning_rate=report.learning_rate,
        grad_norm=report.grad_norm,
        amp_dtype=report.amp_dtype,
        amp_scale=report.amp_scale,
        amp_skipped=report.amp_skipped,
        policy_lag_mean=report.policy_lag_mean,
        policy_lag_max=report.policy_lag_max,
        batch_timesteps=report.batch_timesteps,
        rollout_bytes_raw=report.rollout_bytes_raw,
        rollout_bytes_wire=report.rollout_bytes_wire,
        weights_bytes_wire=report.weights_bytes_wire,
        collect_time_s=mean(sum(c.collect_time_s for c in collected), len(collected)),
        update_time_s=report.update_time_s,
        publish_time_s=report.publish_time_s,
        wait_time_s=waited_s,
        actors_alive=actors_alive,
        actor_restarts=progress.actor_restarts,
        updates_undone=progress.updates_undone,
    )

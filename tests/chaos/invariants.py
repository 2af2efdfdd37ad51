"""Invariants of a run directory: true at every moment, after any fault.

Each function reads the directory and returns the violations as sentences; an empty list is good.
They hold while the run goes on as well: files are read in an order in which a living writer can
only be ahead of what was read first.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.actor_state import BYTES_PER_MOVE, read_states
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import (
    ACTORS_FILE,
    CHECKPOINTS_DIR,
    EVENTS_FILE,
    GAMES_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PROGRESS_FILE,
)
from keisei_ray.telemetry.progress import Progress
from tests.helpers.program import json_records

TRIES: Final = 5
"""How often the newest checkpoint is looked for: a living run removes old ones meanwhile."""


def violations(run_dir: Path, *, must_be_saved: bool) -> list[str]:
    """Returns everything that is wrong in a run directory.

    Args:
        run_dir: of a run that goes on or has ended.
        must_be_saved: whether a checkpoint has to be there.
    """
    metrics = json_records(run_dir / METRICS_FILE)
    saved = newest_usable(run_dir)
    if saved is not None:
        # Every ply that a checkpoint counts was on record before it was saved.
        metrics = json_records(run_dir / METRICS_FILE)
    games = json_records(run_dir / GAMES_FILE)
    found = [*wrong_metrics(metrics), *wrong_games(metrics, games)]
    if saved is not None:
        found += wrong_progress(saved, metrics, games)
    elif must_be_saved:
        found.append("no checkpoint can be used")
    return [*found, *wrong_events(json_records(run_dir / EVENTS_FILE))]


def wrong_metrics(metrics: list[dict[str, Any]]) -> Iterator[str]:
    """Yields where `metrics.jsonl` is not the record of one run.

    The timestep is the sum of the batches, updates are numbered from 1, and versions and the wall
    time only grow.
    """
    total = 0
    before: Mapping[str, Any] = {"weights_version": -1, "wall_time_s": 0.0, "games_total": 0}
    for number, record in enumerate(metrics, start=1):
        total += record["batch_timesteps"]
        if record["update"] != number:
            yield f"line {number} of metrics.jsonl is update {record['update']}"
            return
        if record["batch_timesteps"] <= 0 or record["timestep"] != total:
            yield f"update {number}: timestep {record['timestep']}, the batches sum to {total}"
            return
        for name in ("weights_version", "wall_time_s", "games_total"):
            if record[name] < before[name]:
                yield f"update {number}: {name} fell from {before[name]} to {record[name]}"
        if record["weights_version"] == before["weights_version"]:
            yield f"update {number}: weights version {record['weights_version']} comes twice"
        if record["policy_lag_max"] > 1:
            yield f"update {number}: policy lag {record['policy_lag_max']}, at most 1 is allowed"
        before = record


def wrong_games(metrics: list[dict[str, Any]], games: list[dict[str, Any]]) -> Iterator[str]:
    """Yields where `games.jsonl` and `metrics.jsonl` differ.

    Every game counts once, and after each update as many are on record as it counts.
    """
    ids = [game["game_id"] for game in games]
    if len(set(ids)) < len(ids):
        yield f"{len(ids) - len(set(ids))} games are on record twice"
    times = [game["timestep"] for game in games]
    if times != sorted(times):
        yield "the timesteps of games.jsonl fall"
    by_result = ("black_wins", "white_wins", "draws", "truncated")
    steps = np.array(times, np.int64)
    for record in metrics:
        on_record = int(np.searchsorted(steps, record["timestep"], side="right"))
        if on_record != record["games_total"]:
            yield (
                f"update {record['update']} counts {record['games_total']} games, on record are "
                f"{on_record}"
            )
            return
        if sum(record[name] for name in by_result) != record["games_total"]:
            yield f"update {record['update']}: the results do not sum to the games"
            return


def wrong_progress(
    saved: Checkpoint, metrics: list[dict[str, Any]], games: list[dict[str, Any]]
) -> Iterator[str]:
    """Yields where the counts of a checkpoint contradict each other or the records."""
    progress = Progress.from_json(saved.files[PROGRESS_FILE])
    name = saved.path.name
    if progress.timestep != saved.timestep:
        yield f"{name} holds the progress of timestep {progress.timestep}"
    known = {record["timestep"]: record for record in metrics} | {0: None}
    if progress.timestep not in known:
        yield f"{name}: no update of metrics.jsonl ends there"
    record = known.get(progress.timestep)
    if record is not None:
        for key in ("games_total", "black_wins", "white_wins", "draws", "truncated"):
            if getattr(progress, key) != record[key]:
                yield f"{name}: {key} {getattr(progress, key)}, metrics.jsonl has {record[key]}"
        if (progress.updates, progress.weights_version) != (
            record["update"],
            record["weights_version"],
        ):
            yield f"{name} is of another update than metrics.jsonl has at its timestep"
    on_record = sum(game["timestep"] <= progress.timestep for game in games)
    if on_record != progress.games_total:
        yield f"{name} counts {progress.games_total} games, on record are {on_record}"
    if record is not None:
        yield from wrong_accounts(progress, record["batch_timesteps"])
    if (missing := plies_missing(saved, games)) < 0:
        yield f"{name} counts {-missing} plies fewer than its games have"


def wrong_accounts(progress: Progress, batch: int) -> Iterator[str]:
    """Yields where plies are missing or count twice.

    All that actors have delivered was consumed, is counted as lost (rejected plies too), or waits
    for an update: at most what two updates take, for the policy lag is at most 1.
    """
    waiting = progress.timesteps_collected - progress.timestep - progress.timesteps_lost
    if not 0 <= waiting <= 2 * batch:
        yield (
            f"{progress.timesteps_collected} plies delivered - {progress.timestep} consumed - "
            f"{progress.timesteps_lost} lost = {waiting}, expected 0 to {2 * batch}"
        )


def plies_missing(saved: Checkpoint, games: list[dict[str, Any]]) -> int:
    """Returns how many plies a checkpoint counts that are in no game.

    Every ply counted is in a finished game on record, or in one that an actor goes on with: 0. The
    games in play of an actor that died, or that a resume could not keep, are missing.
    """
    finished: int = sum(
        g["plies"] - g["opening_plies"] for g in games if g["timestep"] <= saved.timestep
    )
    in_play = sum(
        len(game.moves) // BYTES_PER_MOVE - game.opening_plies
        for state in read_states(saved.files[ACTORS_FILE]).values()
        for game in state.games.games
    )
    return saved.timestep - finished - in_play


def wrong_events(events: list[dict[str, Any]]) -> Iterator[str]:
    """Yields what the run's newest session called an error, other than in `run_ended`."""
    kinds = [event["kind"] for event in events]
    newest = len(kinds) - kinds[::-1].index("run_started") if "run_started" in kinds else 0
    for event in events[newest:]:
        if event["kind"] == "notice" and event["level"] == "ERROR":
            yield f"a notice of level ERROR: {event['message'][:200]}"


def newest_usable(run_dir: Path) -> Checkpoint | None:
    """Reads the newest checkpoint from which a run can go on: whole, readable and finite."""
    for _ in range(TRIES):
        gone = False
        for path in reversed(_named(run_dir)):
            try:
                saved = checkpoint.load(path)
                Progress.from_json(saved.files[PROGRESS_FILE])
            except CheckpointError:
                gone |= not path.exists()
                continue
            if is_finite(saved):
                return saved
        if not gone:
            return None
    return None


def is_finite(saved: Checkpoint) -> bool:
    """Returns whether all weights of a checkpoint are numbers."""
    weights = load(saved.files[MODEL_FILE])
    return all(bool(np.isfinite(values).all()) for values in weights.values())


def not_finite(run_dir: Path) -> list[str]:
    """Returns which sound checkpoints hold weights that are not numbers."""
    found = []
    for path in _named(run_dir):
        try:
            if not is_finite(checkpoint.load(path)):
                found.append(f"{path.name} has weights that are not finite")
        except CheckpointError:
            continue
    return found


def _named(run_dir: Path) -> list[Path]:
    return sorted((run_dir / CHECKPOINTS_DIR).glob("step-*"))

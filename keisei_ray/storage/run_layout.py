"""Names of the files and directories in a run directory, and in the directory of a sweep.

The only module that spells them; a test looks for copies elsewhere. It reads and writes nothing.
The same names are used below the URI of a remote run. `wandb/` is not listed here: the library
wandb makes it. Neither are the files of Ray Tune, which begin with `TUNE_PREFIXES`.
"""

import re
from typing import Final

# Records and settings, directly in the run directory.

CONFIG_FILE: Final = "config.json"
"""The effective configuration, written when a run or its newest resume begins. Also in each
checkpoint, as it was when that was saved."""
METRICS_FILE: Final = "metrics.jsonl"
"""One record per update."""
GAMES_FILE: Final = "games.jsonl"
"""One record per finished self-play game."""
EVENTS_FILE: Final = "events.jsonl"
"""Lifecycle, faults and recoveries, one record per event."""
DIAGNOSTICS_FILE: Final = "diagnostics.jsonl"
"""Slower measurements than the metrics, one record each."""
EVALUATIONS_FILE: Final = "evaluations.jsonl"
"""One record per finished match of a background evaluation."""
MATCHES_FILE: Final = "matches.jsonl"
"""One record per match that `evaluate` or `ladder` played with a checkpoint of the run."""
RATINGS_FILE: Final = "ratings.json"
"""The Elo table of all matches so far, rewritten after each evaluation."""
HUMAN_GAMES_FILE: Final = "human_games.jsonl"
"""One record per finished game of a person against the run's network, written by `web`."""
LOG_FILE: Final = "run.log"
"""The log, with tracebacks."""
REPORT_FILE: Final = "report.html"
"""The page that `report` writes if no other file is named."""
WANDB_RUN_ID_FILE: Final = "wandb-run-id"
"""The id of the run at W&B, so that a resumed run goes on there."""
RUN_ID_FILE: Final = "run-id"
"""An id that a remote run and its local copy share."""
WRITER_FILE: Final = ".writer"
"""Token of the session that may write to a remote run. At the URI only."""
LOCK_FILE: Final = ".lock"
"""The process that writes to the run, while it runs, see `storage/run_lock.py`."""
WRITABLE_FILE: Final = ".writable"
"""Empty file that is made and removed to find out whether a URI can be written."""

# Directories in the run directory.

CHECKPOINTS_DIR: Final = "checkpoints"
"""Checkpoints, one directory each, see `checkpoint_name`."""
POOL_DIR: Final = "pool"
"""Weights of the opponent pool's snapshots, see `pool_weights_name`."""
POOL_WEIGHTS_GLOB: Final = "v*.bin"
"""Pattern of the files in POOL_DIR."""
EVALUATED_DIR: Final = "evaluated"
"""Weights of earlier versions that evaluations still play against."""
EVALUATED_SUFFIX: Final = ".weights"
"""End of the names in EVALUATED_DIR, after the number of the evaluation."""
HUMAN_GAMES_DIR: Final = "human_games"
"""The games of HUMAN_GAMES_FILE in formats that other shogi programs read."""
TENSORBOARD_DIR: Final = "tensorboard"
"""Event files for TensorBoard."""
PROFILE_DIR: Final = "profile"
"""Traces of torch.profiler, and TIMELINE_FILE."""
TIMELINE_FILE: Final = "timeline.json"
"""The timeline of Ray's tasks, in PROFILE_DIR."""

# Files of a checkpoint, besides CONFIG_FILE.

MANIFEST_FILE: Final = "manifest.json"
"""Size and SHA-256 of each file of a checkpoint."""
MODEL_FILE: Final = "model.safetensors"
"""The network's weights."""
LEARNER_FILE: Final = "learner.pt"
"""State of optimizer, AMP scaler and random generator."""
PROGRESS_FILE: Final = "progress.json"
"""Counts of the run: timesteps, updates, games."""
ACTORS_FILE: Final = "actors.msgpack"
"""State of each self-play actor: games in play, see `rollouts/actor_state.py`."""
READERS_FILE: Final = "readers.msgpack"
"""Place of each reader of records, see `rollouts/reader_state.py`. In pretraining only."""
POOL_FILE: Final = "pool.json"
"""The opponent pool's members and the learner's results against them."""

# Directory of a sweep, in which each trial has its run directory.

SWEEP_FILE: Final = "sweep.json"
"""The sweep file and its base configuration, as the sweep began."""
SWEEP_RESULTS_FILE: Final = "results.json"
"""All trials, best first."""
BEST_CONFIG_FILE: Final = "best.yaml"
"""Configuration of the best trial, for `run.py --config`."""
TUNE_CHECKPOINT_DIR: Final = ".tune-checkpoint"
"""A trial's checkpoint in its run directory, while Ray Tune copies it."""
ORIGIN_FILE: Final = "origin.json"
"""The trial that saved a checkpoint of Ray Tune, within that checkpoint."""
TUNE_PREFIXES: Final = ("checkpoint_", "error.")
"""Beginnings of the names that Ray Tune itself uses in a trial's directory."""

# Parts of names.

CHECKPOINT_GLOB: Final = "step-*"
"""Pattern of the checkpoints in CHECKPOINTS_DIR, unfinished uploads included."""
TEMPORARY_PREFIX: Final = ".tmp-"
"""Beginning of what is still being written or removed."""
REPLACED_SUFFIX: Final = ".replaced"
"""End of the name of a checkpoint while another takes its place."""
SUPERSEDED: Final = "superseded"
"""Part of the name of what a resumed run has set aside, see `storage/superseded.py`."""

_CHECKPOINT: Final = re.compile(r"step-\d{12,}")


def checkpoint_name(timestep: int) -> str:
    """Returns the name of a checkpoint's directory, `step-000000001234`."""
    return f"step-{timestep:012d}"


def is_checkpoint_name(name: str) -> bool:
    """Returns whether a directory in CHECKPOINTS_DIR is named as a checkpoint is."""
    return bool(_CHECKPOINT.fullmatch(name))


def timestep_of(name: str) -> int:
    """Returns the timestep that a checkpoint's directory is named after.

    Raises:
        ValueError: no number in it.
    """
    return int(name.removeprefix("step-"))


def pool_weights_name(snapshot: str, digest: str) -> str:
    """Returns the name of a snapshot's file in POOL_DIR, `v12-0123456789abcdef.bin`.

    Args:
        snapshot: name of the pool's member, `v12`.
        digest: SHA-256 of its packed weights.
    """
    return f"{snapshot}-{digest[:16]}.bin"


def evaluated_weights_name(number: int) -> str:
    """Returns the name of a file in EVALUATED_DIR, `000012.weights`."""
    return f"{number:06d}{EVALUATED_SUFFIX}"

"""Benchmark of learning: training runs from random weights, and the scores of their checkpoints.

For each seed the trainer runs in a process of its own, as a user would start it, until its time is
over. Then its checkpoints play matches against fixed opponents, with and without the rule that
finishes mates. The matches are played after the training, so they do not slow it down. The result
is the wall time and the plies after which a checkpoint first reached each target.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from keisei_ray.config.schema import Config
from keisei_ray.errors import BenchmarkError
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, pair_scores, play_match
from keisei_ray.evaluation.score_intervals import score_interval
from keisei_ray.evaluation.summary import plain
from keisei_ray.players.player import Player, open_player
from keisei_ray.players.policies import finishing, network_policy
from keisei_ray.players.saved_model import load_model
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.checkpoint import Checkpoint, load
from keisei_ray.storage.run_layout import CHECKPOINT_GLOB, CHECKPOINTS_DIR

STOP_TIMEOUT_S = 120.0
"""Time limit for a run to save and end after its time is over."""


@dataclass(frozen=True)
class Target:
    """A score that a player has to reach against an opponent."""

    opponent: str
    """Specification of the opponent, e.g. `random`."""
    score: float
    is_finishing: bool
    """Whether the player plays every mate in one, found by the rules library."""
    within_s: float | None
    """Wall time that is allowed; None without a limit."""

    @property
    def text(self) -> str:
        """Description for a table."""
        player = "finishing" if self.is_finishing else "bare"
        return f"{player} {self.score:g} against {self.opponent}"


TARGETS = (
    Target("random", 0.95, is_finishing=True, within_s=300),
    Target("random", 0.95, is_finishing=False, within_s=1200),
    Target("greedy", 0.50, is_finishing=True, within_s=None),
    Target("greedy", 0.50, is_finishing=False, within_s=None),
)


@dataclass(frozen=True)
class Point:
    """Score of one checkpoint against one opponent."""

    seed: int
    timestep: int
    wall_time_s: float
    """Time from the start of the run's process, before Ray starts, to the checkpoint on disk."""
    opponent: str
    is_finishing: bool
    games: int
    wins: int
    draws: int
    truncated: int
    losses: int
    score: float
    score_low: float
    score_high: float
    mean_plies: float


def run_learning(
    config: Config,
    *,
    seeds: Sequence[int],
    minutes: float,
    num_games: int,
    out_dir: Path,
    console: Console,
    targets: Sequence[Target] = TARGETS,
) -> dict[str, Any]:
    """Trains with each seed from random weights and finds out when each target was reached.

    A run that `out_dir` already holds is not trained again, and a match that was played is not
    played again: an interrupted benchmark continues where it stopped.

    Args:
        config: configuration of the runs; seed and directory are replaced.
        seeds: seeds of the runs, one each.
        minutes: wall time of each run, from the start of its process.
        num_games: games of each match; an even number.
        out_dir: gets `seed-S/` for each run, and `points.json`.
        console: where progress and tables are printed.
        targets: scores to be reached.

    Returns:
        Settings, scores and targets as JSON types.

    Raises:
        BenchmarkError: a run failed.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    points = _read_points(out_dir / "points.json")
    for seed in seeds:
        run_dir = out_dir / f"seed-{seed}"
        if not (run_dir / CHECKPOINTS_DIR).exists():
            with console.status(f"seed {seed}: training for {minutes:g} minutes"):
                train_for(config, seed, run_dir, minutes * 60)
        done = {(p.timestep, p.opponent, p.is_finishing) for p in points if p.seed == seed}
        with console.status(f"seed {seed}: matches"):
            for point in match_checkpoints(run_dir, seed, targets, num_games, done):
                points.append(point)
                _write_points(out_dir / "points.json", points)
        console.print(curve_table(seed, [p for p in points if p.seed == seed]))
    outcomes = [target_outcome(target, seeds, points) for target in targets]
    console.print(_target_table(outcomes))
    return {
        "seeds": list(seeds),
        "minutes": minutes,
        "config": config.model_dump(mode="json"),
        "points": [asdict(point) for point in points],
        "targets": outcomes,
    }


def train_for(config: Config, seed: int, run_dir: Path, seconds: float) -> None:
    """Runs the trainer in a process of its own; asks it to stop and save when its time is over.

    Raises:
        BenchmarkError: the run ended with an error, or did not stop when it was asked to.
    """
    file = run_dir.parent / f"seed-{seed}.json"
    values = config.model_dump(mode="json")
    values["run"].update(seed=seed, run_dir=str(run_dir), resume=None)
    # Every checkpoint plays its matches afterwards; until then all cores are for the training.
    values["evaluation"]["interval_timesteps"] = None
    write_atomically(file, json.dumps(values, indent=2).encode())
    log = run_dir.parent / f"seed-{seed}.log"
    command = [sys.executable, "-m", "keisei_ray", "train", "--config", str(file)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | {"COLUMNS": "120"}
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise BenchmarkError(
                    f"seed {seed}: the run did not stop within {STOP_TIMEOUT_S:g} s; see {log}."
                ) from None
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_TIMEOUT_S)
            raise
    if code not in (0, 130):
        raise BenchmarkError(f"seed {seed}: the run ended with exit code {code}; see {log}.")


def match_checkpoints(
    run_dir: Path,
    seed: int,
    targets: Sequence[Target],
    num_games: int,
    done: set[tuple[int, str, bool]],
) -> Iterable[Point]:
    """Yields the score of each checkpoint of a run against each target's opponent.

    Args:
        run_dir: the run.
        seed: the run's seed, used for the matches too.
        targets: the targets, for their opponents and kinds of player.
        num_games: games of each match.
        done: (timestep, opponent, is finishing) of matches that were played before.
    """
    wanted = sorted({(target.opponent, target.is_finishing) for target in targets})
    for path in sorted((run_dir / CHECKPOINTS_DIR).glob(CHECKPOINT_GLOB)):
        saved = load(path)
        for opponent, is_finishing in wanted:
            if (saved.timestep, opponent, is_finishing) not in done:
                yield match_checkpoint(saved, seed, opponent, is_finishing, num_games)


def match_checkpoint(
    saved: Checkpoint, seed: int, opponent: str, is_finishing: bool, num_games: int
) -> Point:
    """Plays one match, in which the checkpoint plays its most likely moves."""
    choose = network_policy(load_model(saved))
    player = Player(saved.path.name, finishing(choose) if is_finishing else choose)
    settings = MatchSettings(num_games=num_games, seed=seed)
    games = list(play_match((player, open_player(opponent)), settings))
    low, score, high = score_interval(pair_scores(games))
    started = (saved.path.parents[1].parent / f"seed-{seed}.json").stat().st_mtime
    return Point(
        seed=seed,
        timestep=saved.timestep,
        wall_time_s=saved.path.stat().st_mtime - started,
        opponent=opponent,
        is_finishing=is_finishing,
        games=len(games),
        wins=_count(games, "win"),
        draws=_count(games, "draw"),
        truncated=_count(games, "truncated"),
        losses=_count(games, "loss"),
        score=score,
        score_low=low,
        score_high=high,
        mean_plies=sum(game.plies for game in games) / len(games),
    )


def _count(games: Sequence[PlayedGame], outcome: str) -> int:
    return sum(game.outcome == outcome for game in games)


def target_outcome(target: Target, seeds: Sequence[int], points: Sequence[Point]) -> dict[str, Any]:
    """Returns when each seed first reached a target, as JSON types; None where it never did."""
    first: dict[int, Point | None] = {}
    for seed in seeds:
        met = [
            point
            for point in points
            if point.seed == seed
            and (point.opponent, point.is_finishing) == (target.opponent, target.is_finishing)
            and point.score >= target.score
        ]
        first[seed] = min(met, key=lambda point: point.timestep) if met else None
    times = [None if p is None else p.wall_time_s for p in first.values()]
    limit = target.within_s
    return {
        "target": target.text,
        "within_s": limit,
        "wall_time_s": {str(seed): p and p.wall_time_s for seed, p in first.items()},
        "timestep": {str(seed): p and p.timestep for seed, p in first.items()},
        "is_met": all(t is not None and (limit is None or t <= limit) for t in times),
    }


def curve_table(seed: int, points: Sequence[Point]) -> Table:
    """Returns a table of scores by checkpoint, with a column for each opponent and player."""
    kinds = sorted({(point.opponent, point.is_finishing) for point in points})
    table = Table(title=f"seed {seed}", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("plies", justify="right")
    table.add_column("minutes", justify="right")
    for opponent, is_finishing in kinds:
        table.add_column(plain(f"{'finishing' if is_finishing else 'bare'} v {opponent}"))
    for timestep in sorted({point.timestep for point in points}):
        row = {(p.opponent, p.is_finishing): p for p in points if p.timestep == timestep}
        wall_time_s = next(iter(row.values())).wall_time_s
        table.add_row(
            f"{timestep:,}",
            f"{wall_time_s / 60:.1f}",
            *(_score_text(row[kind]) if kind in row else "" for kind in kinds),
        )
    return table


def _score_text(point: Point) -> str:
    bounds = f"{100 * point.score_low:.0f}-{100 * point.score_high:.0f}"
    cut = f", {100 * point.truncated / point.games:.0f}% cut" if point.truncated else ""
    return f"{100 * point.score:.1f}% ({bounds}{cut})"


def _target_table(outcomes: Sequence[dict[str, Any]]) -> Table:
    """Returns a table of when each seed reached the targets."""
    table = Table(title="targets", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("target", "allowed", "minutes, seed by seed", "plies, seed by seed", ""):
        table.add_column(column)
    for entry in outcomes:
        within = entry["within_s"]
        times, plies = entry["wall_time_s"].values(), entry["timestep"].values()
        table.add_row(
            entry["target"],
            "" if within is None else f"{within / 60:g} min",
            ", ".join("never" if t is None else f"{t / 60:.1f}" for t in times),
            ", ".join("never" if p is None else f"{p:,}" for p in plies),
            "[green]met[/]" if entry["is_met"] else "[red]missed[/]",
        )
    return table


def _read_points(path: Path) -> list[Point]:
    """Returns the scores of an earlier, interrupted benchmark.

    Raises:
        BenchmarkError: the file was not written by this benchmark.
    """
    if not path.exists():
        return []
    try:
        return [Point(**point) for point in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise BenchmarkError(
            f"{path} is not a list of points of this version ({error}). Give another directory."
        ) from error


def _write_points(path: Path, points: Sequence[Point]) -> None:
    write_atomically(path, json.dumps([asdict(point) for point in points], indent=1).encode())

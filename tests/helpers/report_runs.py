"""Run directories made up for the report's tests: any length, with or without each file."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from keisei_ray.config.schema import Config
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.run_events import record

TIMESTEPS_PER_UPDATE = 1000


def write_lines(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in records), encoding="utf-8")


def played_games(count: int, *, max_plies: int = 120) -> list[dict[str, object]]:
    """Returns records of `games.jsonl` for games of random moves."""
    games = VectorGames(8, max_plies=max_plies, rng_for_game=np.random.default_rng)
    rng = np.random.default_rng(5)
    records: list[dict[str, object]] = []
    while len(records) < count:
        for end in games.step(rng.integers(np.diff(games.legal_offsets))).finished:
            records.append(
                {
                    "timestep": TIMESTEPS_PER_UPDATE * (1 + len(records)),
                    "game_id": f"0-0-{end.index}",
                    "actor_id": 0,
                    "incarnation": 0,
                    "index": end.index,
                    "weights_version": 1,
                    "result": end.result,
                    "reason": end.reason,
                    "plies": end.plies,
                    "opening_plies": end.opening_plies,
                    "moves": end.moves,
                    "start_sfen": "",
                }
            )
    return records[:count]


def evaluation(timestep: int, opponent: str, score: float, **changes: object) -> dict[str, object]:
    """Returns the record of a match of 100 games without draws."""
    version = timestep // TIMESTEPS_PER_UPDATE
    finishing = bool(changes.get("finishing", False))
    wins = round(100 * score)
    return {
        "timestep": timestep,
        "weights_version": version,
        "weights_digest": "d" * 64,
        "player": f"v{version}" + ("+mate1" if finishing else ""),
        "opponent": opponent,
        "finishing": finishing,
        "games": 100,
        "wins": wins,
        "draws": 0,
        "losses": 100 - wins,
        "truncated": 0,
        "score": score,
        "score_low": max(0.0, score - 0.08),
        "score_high": min(1.0, score + 0.08),
        "mean_plies": 98.0,
        "as_black_score": score,
        "as_white_score": score,
        "wall_time_s": 12.0,
        "pairs": None,
        "run_time_s": float(timestep),
    } | changes


def rating(
    name: str, elo: float | None, timestep: int | None, width: float = 60.0
) -> dict[str, object]:
    low, high = (None, None) if elo is None else (elo - width, elo + width)
    return {
        "name": name, "elo": elo, "low": low, "high": high, "games": 100, "timestep": timestep
    }  # fmt: skip


def write_run(path: Path, *, updates: int, games: int = 0, events: bool = True) -> Path:
    """Writes a run of `updates` updates: its settings, metrics, games and events."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(Config().model_dump_json(indent=2), encoding="utf-8")
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(max(1, updates), 3))
    write_lines(
        path / "metrics.jsonl",
        (
            record(
                i,
                entropy=3.4 * math.exp(-i / 300) + 0.1 * noise[i - 1, 0],
                explained_variance=1 - math.exp(-i / 80) + 0.1 * noise[i - 1, 1],
                approx_kl=0.01 * math.exp(0.3 * noise[i - 1, 2]),
                value_loss=0.4 * math.exp(-i / 200) + 0.02,
                game_length_mean=None if i % 3 == 0 else 90.0 + 10 * noise[i - 1, 0],
            )
            for i in range(1, updates + 1)
        ),
    )
    write_lines(path / "games.jsonl", played_games(games) if games else [])
    started: dict[str, object] = {
        "kind": "run_started",
        "resumed_from": None,
        "timestep": 0,
        "run_dir": "runs/x",
    }
    cluster = {"num_nodes": 1, "num_cpus": 2, "num_gpus": 0}
    time = "2026-01-01T00:00:00.000+00:00"
    write_lines(
        path / "events.jsonl", [{"time": time, "cluster": cluster} | started] if events else []
    )
    return path

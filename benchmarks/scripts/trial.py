"""One learning trial on one core: self-play, update, match, in turn, without Ray.

    python benchmarks/scripts/trial.py --timesteps 76000 --out trial.jsonl \
        --set learner.learning_rate=2e-3 --set pool.share=0.5 --set 'pool.members=[greedy]'

The components are the trainer's own; only Ray and the overlap are left out. So two trials can run
side by side on two cores, and trials compare at equal plies and equal CPU time, whatever else the
machine does. With schedule.mode=overlap each rollout is played by weights that are
schedule.max_policy_lag updates old, the largest lag that a real run may have.

Each line of the output has: plies, CPU seconds of training, how games ended, the learner's
diagnostics, and scores. Against random and greedy the bare policy plays its most likely moves, with
and without the rule that finishes mates. Against each `--reference` checkpoint both players finish
mates and sample at temperature 0.3, since two deterministic players mostly repeat each other into a
draw.
`experiments.py` beside it runs many of these.
"""

import argparse
import json
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.evaluation.matches import MatchSettings, play_match
from keisei_ray.learning.learner import Learner
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.players.player import Player, checkpoint_player, open_player
from keisei_ray.players.policies import finishing, network_policy
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.selfplay.opponent_mix import SnapshotRotation
from keisei_ray.selfplay.pool import Pool
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger
from keisei_ray.telemetry.reports import UpdateReport

BASE = (
    "model.depth=1",
    "model.width=32",
    "model.attackers=false",
    "model.origins=false",
    "model.material_prior=0.05",
    "self_play.num_actors=1",
    "self_play.games_per_actor=64",
    "self_play.rollout_length=32",
    "self_play.random_opening_plies=8",
    "schedule.mode=lockstep",
    "learner.device=cpu",
    "learner.num_threads=1",
    "learner.num_epochs=4",
    "learner.num_minibatches=8",
    "learner.learning_rate=1e-3",
    "learner.lr_schedule=constant",
    "learner.target_kl=null",
    "learner.gamma=0.99",
    "learner.gae_lambda=0.8",
    "pool.share=0.5",
    "pool.members=[greedy]",
    "pool.snapshot_interval_timesteps=null",
    "tracking.save_moves=false",
)
"""Settings of every trial; `--set` overrides them."""
MAX_PLIES = 400
TEMPERATURE = 0.3
"""Temperature of both players in a match between two networks."""
REPORTED_MEANS = (
    "entropy",
    "approx_kl",
    "clip_fraction",
    "explained_variance",
    "mate_loss",
    "optimizer_steps",
)


@dataclass(frozen=True)
class Matches:
    """Matches that a trial's network plays."""

    games: int = 100
    """Games of each match."""
    opponents: tuple[str, ...] = ("random", "greedy")
    """Players met by the bare and the finishing player."""
    references: tuple[str, ...] = ()
    """Checkpoints met by the sampled player."""


def main() -> None:
    """Runs a trial from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timesteps", type=int, required=True)
    parser.add_argument("--every", type=int, help="plies between matches; default: half")
    parser.add_argument("--games", type=int, default=Matches.games)
    parser.add_argument("--opponents", nargs="*", default=Matches.opponents, metavar="PLAYER")
    parser.add_argument("--reference", nargs="*", default=[], metavar="CHECKPOINT")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    config = trial_config(options.timesteps, options.set)
    every = options.every or options.timesteps // 2
    matches = Matches(options.games, tuple(options.opponents), tuple(options.reference))
    with options.out.open("w") as out:
        for record in run(config, every, matches):
            out.write(json.dumps({"set": options.set} | record) + "\n")
            out.flush()


def trial_config(timesteps: int, settings: Sequence[str]) -> Config:
    """Returns `BASE` with other settings, for a run of `timesteps` plies."""
    total = f"run.total_timesteps={timesteps}"
    config = resolve_config(None, os.environ, [*BASE, total, *settings], {})
    return resolve_auto(config, 1, 0)


def run(config: Config, every: int, matches: Matches) -> Iterator[dict[str, Any]]:
    """Yields a record after every `every` plies that were learnt from, and at the end."""
    self_play, learner, pool = SelfPlay(config, 0, 0), Learner(config), Pool(config.pool)
    rotation, snapshots = SnapshotRotation(config, pool), {}
    snapshot_due = PeriodicTrigger(
        config.pool.snapshot_interval_timesteps or config.run.total_timesteps
    )
    due = PeriodicTrigger(every)
    torch.set_num_threads(1)
    published = deque([learner.weights()], maxlen=config.effective_max_lag + 1)
    timestep = 0
    training_s, started = 0.0, time.process_time()
    reports: list[UpdateReport] = []
    games: list[FinishedGame] = []
    while timestep < config.run.total_timesteps:
        if config.pool.snapshot_interval_timesteps and snapshot_due.is_due(timestep):
            pool.add_snapshot(learner.weights_version, learner.weights_digest())
            snapshots[pool.snapshots[-1].name] = published[-1]
        mix = rotation.next_mix(0, 0)
        self_play.set_weights(published[0])
        report, packed = self_play.collect(mix, [snapshots[name] for name in mix.snapshots])
        pool.count(report.games)
        games += report.games
        reports.append(learner.update([packed], timestep))
        published.append(learner.weights())
        timestep += config.timesteps_per_rollout
        if due.is_due(timestep) or timestep >= config.run.total_timesteps:
            training_s += time.process_time() - started
            yield {
                "timestep": timestep,
                "cpu_s": round(training_s, 1),
                **training_record(games, reports, pool, learner),
                "scores": scores(learner.model, matches),
            }
            games, reports = [], []
            started = time.process_time()


def training_record(
    games: Sequence[FinishedGame], reports: Sequence[UpdateReport], pool: Pool, learner: Learner
) -> dict[str, Any]:
    """Returns how games ended and what the updates did since the last record."""
    return {
        "games": len(games),
        "ends": dict(Counter(game.reason for game in games)),
        "mean_plies": float(np.mean([game.plies for game in games])) if games else None,
        "pool": {member.name: round(member.score, 3) for member in pool.members},
        "material_weight": float(learner.model.material_weight.detach()),
        **{name: float(np.mean([getattr(r, name) for r in reports])) for name in REPORTED_MEANS},
    }


def scores(model: PolicyValueNet, matches: Matches) -> dict[str, dict[str, float]]:
    """Returns "player v opponent" -> score and how the games ended."""
    choose = network_policy(model)
    players = [Player("bare", choose), Player("finishing", finishing(choose))]
    sampled = Player("sampled", finishing(network_policy(model, TEMPERATURE)))
    opponents = [open_player(spec) for spec in matches.opponents]
    pairs = [(player, opponent) for opponent in opponents for player in players]
    for path in matches.references:
        reference = checkpoint_player(Path(path), temperature=TEMPERATURE, finish_mates=True)
        pairs.append((sampled, reference))
    settings = MatchSettings(num_games=matches.games, seed=7, max_plies=MAX_PLIES)
    results: dict[str, dict[str, float]] = {}
    for player, opponent in pairs:
        played = list(play_match((player, opponent), settings))
        outcomes = Counter(game.outcome for game in played)
        score = sum(game.score for game in played) / matches.games
        results[f"{player.name} v {opponent.name}"] = {"score": score} | dict(outcomes)
    return results


if __name__ == "__main__":
    main()

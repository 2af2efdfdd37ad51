"""Speed of RLlib's PPO on the same game, network and minibatches.

    python benchmarks/peers/rllib_peer.py --depth 4 --width 64 --epochs 4 --seconds 60

Two env runners with 32 games each, one thread each, and a learner in the driver's process with a
thread for each core; runners and learner take turns, as PPO does. RLlib knows one player, so its
advantages are wrong for two and it does not learn Shogi: only its speed is compared. It adds a row
to each game's part of a rollout, the position after it: minibatches are that much larger, so that
an epoch has as many of them as ours. Prints one line of JSON. Needs `requirements.txt` beside it;
`compare.py` runs it.
"""

import json
import os
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from peer_options import (
    NUM_GAMES,
    NUM_MINIBATCHES,
    ROLLOUT_LENGTH,
    TIMESTEPS_PER_UPDATE,
    WARM_UP_UPDATES,
    parse,
)
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import build_model, outcome_values
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.vector_games import VectorGames

NUM_RUNNERS = 2
BITS = torch.arange(7, -1, -1, dtype=torch.uint8)
"""Places of the bits of a byte, as `numpy.packbits` has them."""


class ShogiEnv(gym.Env[dict[str, np.ndarray], int]):
    """One game of `VectorGames`; both players are the same policy."""

    def __init__(self, env_config: dict[str, Any]) -> None:
        """Starts nothing yet: each episode has a new game."""
        self.action_space = spaces.Discrete(NUM_ACTIONS)
        sizes = {"boards": 81, "hands": 14, "scalars": 3, "legal_bits": (NUM_ACTIONS + 7) // 8}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(0, 255, (size,), np.uint8) for name, size in sizes.items()}
        )
        self._seed = int(np.random.default_rng().integers(2**31))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begins the next game."""
        self._seed += 1
        self._games = VectorGames(
            1,
            max_plies=320,
            rng_for_game=lambda game: np.random.default_rng((self._seed, game)),
            random_opening_plies=24,
            save_moves=False,
        )
        return self._observe(), {}

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Plays one ply."""
        choice = np.flatnonzero(self._games.legal_labels == action)
        result = self._games.step(choice)
        over = bool(result.terminated[0]), bool(result.truncated[0])
        return self._observe(), float(result.rewards[0]), *over, {}

    def _observe(self) -> dict[str, np.ndarray]:
        games = self._games
        return {
            "boards": games.boards[0].copy(),
            "hands": games.hands[0].copy(),
            "scalars": games.scalars[0].copy(),
            "legal_bits": games.legal_bits()[0].copy(),
        }


class Network(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]
    """The trainer's own network with a mask of legal moves."""

    def setup(self) -> None:
        """Builds it."""
        settings = self.model_config
        model = ModelConfig(depth=settings["depth"], width=settings["width"])
        self.network = build_model(model, seed=0, amp=settings["amp"])

    def _forward(self, batch: dict[str, Any], **_kwargs: Any) -> dict[str, Tensor]:
        return {Columns.ACTION_DIST_INPUTS: self._outputs(batch)[0]}

    def _forward_train(self, batch: dict[str, Any], **_kwargs: Any) -> dict[str, Tensor]:
        logits, values = self._outputs(batch)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.EMBEDDINGS: values}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """[B] values; those of `_forward_train`, where it has been asked for the same rows."""
        return self._outputs(batch)[1] if embeddings is None else embeddings

    def _outputs(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """[B, A] logits, of illegal moves very low, and [B] values."""
        columns = {name: column.to(torch.uint8) for name, column in batch[Columns.OBS].items()}
        bits = columns.pop("legal_bits")
        logits, outcomes = self.network(columns["boards"], columns["hands"], columns["scalars"])
        is_legal = (bits[:, :, None] >> BITS & 1).flatten(1)[:, :NUM_ACTIONS].bool()
        return logits.masked_fill(~is_legal, -1e9), outcome_values(outcomes)[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints timesteps a second."""
    options = parse(__doc__.splitlines()[0], arguments)
    model = {"depth": options.depth, "width": options.width, "amp": options.amp}
    config = (
        PPOConfig()
        .environment(ShogiEnv, disable_env_checking=True)
        .env_runners(
            num_env_runners=NUM_RUNNERS,
            num_envs_per_env_runner=NUM_GAMES // NUM_RUNNERS,
            rollout_fragment_length=ROLLOUT_LENGTH,
            batch_mode="truncate_episodes",
        )
        .learners(num_learners=0)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=Network, model_config=model))
        .training(
            lr=5e-4,
            gamma=0.997,
            lambda_=0.8,
            train_batch_size_per_learner=TIMESTEPS_PER_UPDATE,
            minibatch_size=(TIMESTEPS_PER_UPDATE + NUM_GAMES) // NUM_MINIBATCHES,
            num_epochs=options.epochs,
            grad_clip=1.0,
            use_kl_loss=False,
            entropy_coeff=0.01,
            vf_loss_coeff=0.5,
        )
    )
    algorithm = config.build_algo()
    torch.set_num_threads(os.cpu_count() or 1)
    for _ in range(WARM_UP_UPDATES):
        algorithm.train()
    started, updates, timesteps = time.perf_counter(), 0, 0
    while updates < 3 or time.perf_counter() - started < options.seconds:
        result = algorithm.train()
        updates += 1
        timesteps += int(result["env_runners"]["num_env_steps_sampled"])
    rate = timesteps / (time.perf_counter() - started)
    algorithm.stop()
    print(json.dumps({"timesteps_per_s": round(rate, 1), "updates": updates}))


if __name__ == "__main__":
    main()

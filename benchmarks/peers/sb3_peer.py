"""Speed of Stable-Baselines3's MaskablePPO on the same game, network and minibatches.

    python benchmarks/peers/sb3_peer.py --depth 4 --width 64 --epochs 4 --seconds 60

One process: all games step together in it, and torch has a thread for each core. SB3 knows one
player, so its advantages are wrong for two and it does not learn Shogi: only its speed is compared.
Prints one line of JSON. Needs `requirements.txt` beside it; `compare.py` runs it.
"""

import itertools
import json
import os
import time
from collections.abc import Sequence
from typing import Any

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
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import build_model, outcome_values
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.vector_games import VectorGames


class ShogiVecEnv(VecEnv):
    """`VectorGames` as the environment that SB3 steps; both players are the same policy."""

    def __init__(self, num_games: int) -> None:
        """Starts the games."""
        self._games = VectorGames(
            num_games,
            max_plies=320,
            rng_for_game=np.random.default_rng,
            random_opening_plies=24,
            save_moves=False,
        )
        observation = spaces.Dict(
            {
                "boards": spaces.Box(0, 255, (81,), np.uint8),
                "hands": spaces.Box(0, 255, (14,), np.uint8),
                "scalars": spaces.Box(0, 255, (3,), np.uint8),
            }
        )
        super().__init__(num_games, observation, spaces.Discrete(NUM_ACTIONS))

    def reset(self) -> dict[str, np.ndarray]:
        """Returns the positions; the games have been started."""
        return self._observe()

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the labels for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict]]:
        """Plays one ply in each game."""
        games = self._games
        offsets = games.legal_offsets
        legal = [games.legal_labels[a:b] for a, b in itertools.pairwise(offsets)]
        choices = [
            int(np.flatnonzero(labels == action)[0])
            for labels, action in zip(legal, self._actions, strict=True)
        ]
        result = games.step(np.array(choices))
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = result.terminated | result.truncated
        for lane, board, hand, scalars in zip(
            result.final_lanes,
            result.final_boards,
            result.final_hands,
            result.final_scalars,
            strict=True,
        ):
            infos[lane] = {
                "TimeLimit.truncated": True,
                "terminal_observation": {"boards": board, "hands": hand, "scalars": scalars},
            }
        return self._observe(), result.rewards.copy(), done, infos

    def env_method(self, method_name: str, *_args: Any, **_kwargs: Any) -> list[np.ndarray]:
        """Returns the mask of legal moves of each game, the only method that is asked for."""
        assert method_name == "action_masks"
        bits = np.unpackbits(self._games.legal_bits(), axis=1)[:, :NUM_ACTIONS]
        return list(bits.astype(bool))

    def has_attr(self, attr_name: str) -> bool:
        """Whether this is the method that SB3 looks for."""
        return attr_name == "action_masks"

    def close(self) -> None:
        """Does nothing."""

    def get_attr(self, attr_name: str, indices: object = None) -> list[Any]:
        """Returns an attribute of the wrapped environments, which do not exist."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: object = None) -> None:
        """Is not used."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type, indices: object = None) -> list[bool]:
        """Says that no environment is wrapped."""
        return [False] * self.num_envs

    def _observe(self) -> dict[str, np.ndarray]:
        games = self._games
        return {
            "boards": games.boards.copy(),
            "hands": games.hands.copy(),
            "scalars": games.scalars.copy(),
        }


class Network(BaseFeaturesExtractor):
    """The trainer's own network: policy logits and value of each position in one row."""

    def __init__(self, observation_space: spaces.Dict, model: ModelConfig, amp: str) -> None:
        """Builds it."""
        super().__init__(observation_space, NUM_ACTIONS + 1)
        self.network = build_model(model, seed=0, amp=amp)  # type: ignore[arg-type]

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """[B, A + 1]."""
        boards, hands, scalars = (
            observations[name].to(torch.uint8) for name in ("boards", "hands", "scalars")
        )
        logits, outcomes = self.network(boards, hands, scalars)
        return torch.cat([logits, outcome_values(outcomes)[0][:, None]], 1)


class Split(nn.Module):
    """Takes logits and value apart."""

    latent_dim_pi, latent_dim_vf = NUM_ACTIONS, 1

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, A + 1] -> [B, A], [B, 1]."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """[B, A]."""
        return features[:, :-1]

    def forward_critic(self, features: Tensor) -> Tensor:
        """[B, 1]."""
        return features[:, -1:]


class Policy(MaskableActorCriticPolicy):
    """SB3's masked policy around `Network`, without layers of its own."""

    def _build(self, lr_schedule: Any) -> None:
        self.mlp_extractor = Split()  # type: ignore[assignment]
        self.action_net = nn.Identity()  # type: ignore[assignment]
        self.value_net = nn.Identity()  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )


class Stopwatch(BaseCallback):
    """Times of the ends of rollouts; stops after some seconds beyond the warm-up."""

    def __init__(self, seconds: float) -> None:
        """Measures for about `seconds`."""
        super().__init__()
        self.times: list[float] = []
        self._seconds = seconds

    def _on_rollout_end(self) -> None:
        self.times.append(time.perf_counter())

    def _on_step(self) -> bool:
        measured = self.times[WARM_UP_UPDATES:]
        return len(measured) < 3 or time.perf_counter() - measured[0] < self._seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints timesteps a second."""
    options = parse(__doc__.splitlines()[0], arguments)
    torch.set_num_threads(os.cpu_count() or 1)
    model = MaskablePPO(
        Policy,
        ShogiVecEnv(NUM_GAMES),
        n_steps=ROLLOUT_LENGTH,
        batch_size=TIMESTEPS_PER_UPDATE // NUM_MINIBATCHES,
        n_epochs=options.epochs,
        learning_rate=5e-4,
        gamma=0.997,
        gae_lambda=0.8,
        max_grad_norm=1.0,
        policy_kwargs={
            "features_extractor_class": Network,
            "features_extractor_kwargs": {
                "model": ModelConfig(depth=options.depth, width=options.width),
                "amp": options.amp,
            },
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"fused": True, "eps": 1e-5, "weight_decay": 0.0},
        },
        device="cpu",
    )
    stopwatch = Stopwatch(options.seconds)
    model.learn(10**9, callback=stopwatch)
    times = stopwatch.times[WARM_UP_UPDATES:]
    rate = TIMESTEPS_PER_UPDATE * (len(times) - 1) / (times[-1] - times[0])
    print(json.dumps({"timesteps_per_s": round(rate, 1), "updates": len(times) - 1}))


if __name__ == "__main__":
    main()

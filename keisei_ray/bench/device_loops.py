"""Plain loops of the network on one device, and what the device can do at most.

Used by `bench gpu`. Everything takes the device, so that all of it also runs on a CPU. A loop
returns the number of positions (or operations) done and ends with a wait for the device, so a clock
beside it measures work and not its queue.

B: positions of a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import Amp, PolicyValueNet, ResidualBlock, build_model
from keisei_ray.shogi.vector_games import VectorGames

NOMINAL_BF16_FLOPS: Final[Mapping[str, float]] = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
}
"""Part of a device's name -> bf16 operations a second by its data sheet, without sparsity. The
first that fits counts."""
PASSES_PER_CALL: Final = 8
"""Passes of a loop between two waits for the device."""
LOGITS_STD: Final = 2.0
"""Standard deviation of the policy logits of `trained_network`."""

Loop = Callable[[], int]
"""Does some work, waits for it, and returns how much it was."""


def random_games(num_games: int, *, seed: int = 0, equal: bool = False) -> VectorGames:
    """Returns games after random openings of up to 40 plies.

    Args:
        num_games: number of games, one in each lane.
        seed: seed of the openings.
        equal: whether all games have the same opening.
    """
    return VectorGames(
        num_games,
        max_plies=320,
        rng_for_game=lambda index: np.random.default_rng([seed, 0 if equal else index]),
        random_opening_plies=40,
    )


def network_inputs(games: VectorGames, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns boards, hands and scalars of all games, on the device."""
    parts = (games.boards, games.hands, games.scalars)
    boards, hands, scalars = (torch.from_numpy(part.copy()).to(device) for part in parts)
    return boards, hands, scalars


def trained_network(config: ModelConfig, *, seed: int = 0, amp: Amp = "off") -> PolicyValueNet:
    """Builds a network on the CPU in which every layer matters, as after training.

    In a new network the blocks add nothing and the policy is close to uniform, which would hide
    errors.
    """
    model = build_model(config, seed=seed, amp=amp)
    blocks = [block for block in model.blocks if isinstance(block, ResidualBlock)]
    layers = [model.stem, *(block.second for block in blocks), model.policy_head]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
        hooks = [layer.register_forward_hook(_scale_to_one) for layer in layers]
        model(*network_inputs(random_games(32), torch.device("cpu")))
        for hook in hooks:
            hook.remove()
        model.policy_head.weight.mul_(LOGITS_STD)
    return model


def _scale_to_one(layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    """Scales the weights of a layer, and what it has just put out, to a standard deviation of 1."""
    std = output.float().std()
    for parameter in layer.parameters():
        parameter.div_(std)
    return output / std


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated(once: Callable[[], object], amount: int, device: torch.device) -> Loop:
    """Returns a loop of several calls of `once`, each of which does that amount of work."""

    def loop() -> int:
        for _ in range(PASSES_PER_CALL):
            once()
        synchronize(device)
        return PASSES_PER_CALL * amount

    return loop


def forward_pass(model: PolicyValueNet, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """Returns a forward pass over a batch that lies on the device already."""

    def forward() -> None:
        with torch.no_grad():
            model(*inputs)

    return forward


def learning_step(model: PolicyValueNet, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """Returns forward pass, plain loss, backward pass and AdamW step of a resident minibatch.

    No PPO, no check, no wait.

    Args:
        model: the network, compiled or not; its weights change.
        inputs: the minibatch, where the model is.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    is_cuda = inputs[0].device.type == "cuda"
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True, capturable=is_cuda)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits, outcomes = model(*inputs)
        torch.autograd.backward(logits.logsumexp(1).mean() + outcomes.square().mean())
        optimizer.step()

    return step


def captured(work: Callable[[], object]) -> Callable[[], object]:
    """Captures the kernels of `work` as a CUDA graph and returns what launches them again.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # What libraries set up in their first calls is not captured.
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    return _Replay(graph, work)


@dataclass(frozen=True)
class _Replay:
    """Work that a CUDA graph repeats."""

    graph: torch.cuda.CUDAGraph
    """Graph of its kernels."""
    work: Callable[[], object]
    """Owner of the weights, optimizer and inputs at which they point: a graph does not own them."""

    def __call__(self) -> None:
        self.graph.replay()


def count_flops(config: ModelConfig) -> tuple[int, int]:
    """Returns the operations of a forward pass and of forward and backward pass, for one position.

    Counted by torch, on the CPU: convolutions and matrix products.
    """
    model = build_model(config, seed=0)
    inputs = network_inputs(random_games(2), torch.device("cpu"))
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(*inputs)
    with FlopCounterMode(display=False) as both:
        logits, outcomes = model(*inputs)
        torch.autograd.backward(logits.sum() + outcomes.sum())
    return forward.get_total_flops() // 2, both.get_total_flops() // 2


def matmul_loop(size: int, device: torch.device) -> Loop:
    """Returns a loop of products of two bf16 matrices [size, size]; it counts operations."""
    left = torch.randn(size, size, device=device).bfloat16()
    right = torch.randn(size, size, device=device).bfloat16()
    out = torch.empty_like(left)
    return repeated(lambda: torch.mm(left, right, out=out), 2 * size**3, device)


def nominal_flops(name: str) -> float | None:
    """Returns the bf16 operations a second of a GPU's data sheet; None for an unknown one."""
    return next((rate for part, rate in NOMINAL_BF16_FLOPS.items() if part in name), None)


def device_name(device: torch.device) -> str:
    """Returns the name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def reset_peak_memory(device: torch.device) -> None:
    """Frees what torch keeps for later, and begins to watch the memory in use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Returns the most memory of the device that tensors took since the last reset; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0

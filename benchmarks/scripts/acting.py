"""Which engine evaluates positions fastest? Torch, ONNX Runtime and OpenVINO, on one core, in turn.

    python benchmarks/scripts/acting.py --size 1x32 4x64 --rows 32 64 128

Each engine gets compact positions of random games, as self-play has them, and returns the logits of
all labels and the values; the tower is in bfloat16 where its name says so. ONNX Runtime comes with
`pip install -e '.[export]'`, OpenVINO with `pip install openvino`; without OpenVINO it is left out.
A reading is the median of the passes of half a second; the table has median, least and greatest of
the rounds, in positions/s, and how far values are from torch's in float32 at most.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.export.checking import random_positions
from keisei_ray.export.files import onnx_file
from keisei_ray.export.graphs import CompactGraph
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.network.model import PolicyValueNet, build_model, outcome_values
from keisei_ray.network.recording import evaluate

READING_S: Final = 0.5

Inputs = dict[str, npt.NDArray[np.uint8]]
Engine = Callable[[Inputs], npt.NDArray[np.float32]]
"""Positions -> their values; the logits are computed too."""


def torch_engine(model: PolicyValueNet, *, is_compiled: bool = False) -> Engine:
    """The network as actors use it, or compiled by torch."""
    forward: Any = torch.compile(model, dynamic=False) if is_compiled else partial(evaluate, model)

    @torch.inference_mode()
    def values(inputs: Inputs) -> npt.NDArray[np.float32]:
        _, outcomes = forward(*(torch.from_numpy(array) for array in inputs.values()))
        return outcome_values(outcomes)[0].numpy()

    return values


def onnx_engine(content: bytes) -> Engine:
    """ONNX Runtime, in float32: its processor kernels have no bfloat16."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["policy", "value"], inputs)[1]


def openvino_engine(content: bytes, precision: str) -> Engine:
    """OpenVINO, in `f32` or `bf16`."""
    import openvino

    core = openvino.Core()
    config = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(core.read_model(content), "CPU", config).create_infer_request()
    return lambda inputs: request.infer(inputs)["value"]


def engines(config: ModelConfig, *, with_compiled: bool) -> dict[str, Engine]:
    """All engines that are installed, with the same weights. The first is the reference."""
    full = build_model(config, seed=1).eval()
    half = build_model(config, seed=1, amp="bf16").eval()
    content = onnx_file(CompactGraph(build_model(config, seed=1).eval().requires_grad_(False)), {})
    found = {"torch float32": torch_engine(full), "torch bfloat16": torch_engine(half)}
    if with_compiled:
        found["torch.compile bfloat16"] = torch_engine(half, is_compiled=True)
    found["ONNX Runtime float32"] = onnx_engine(content)
    if find_spec("openvino"):
        found["OpenVINO float32"] = openvino_engine(content, "f32")
        found["OpenVINO bfloat16"] = openvino_engine(content, "bf16")
    return found


def positions(rows: int) -> Inputs:
    """Positions of random games."""
    found = random_positions()
    index = np.arange(rows) % len(found.boards)
    return {name: getattr(found, name)[index] for name in CompactGraph.INPUTS}


def reading(engine: Engine, inputs: Inputs) -> float:
    """Positions/s of the median pass within the time of a reading."""
    times: list[float] = []
    ends = time.perf_counter() + READING_S
    while len(times) < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        engine(inputs)
        times.append(time.perf_counter() - started)
    return len(inputs["boards"]) / statistics.median(times)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", nargs="+", default=["1x32", "4x64"], metavar="DEPTHxWIDTH")
    parser.add_argument("--rows", nargs="+", type=int, default=[32, 64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    options = parser.parse_args()
    prepare_cpu(1)
    print("| network | rows | engine | positions/s | of torch bfloat16 | values differ by |")
    print("|---|---|---|---|---|---|")
    for size in options.size:
        depth, width = map(int, size.split("x"))
        found = engines(ModelConfig(depth=depth, width=width), with_compiled=options.compile)
        for rows in options.rows:
            inputs = positions(rows)
            values = {name: engine(inputs) for name, engine in found.items()}
            rates = [
                {name: reading(engine, inputs) for name, engine in found.items()}
                for _ in range(options.rounds)
            ]
            for name in found:
                ours = [one[name] for one in rates]
                ratio = statistics.median(one[name] / one["torch bfloat16"] for one in rates)
                error = np.abs(values[name] - values["torch float32"]).max()
                print(
                    f"| {size} | {rows} | {name} | {statistics.median(ours):,.0f} "
                    f"({min(ours):,.0f} to {max(ours):,.0f}) | {ratio:.2f} | {error:.0e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

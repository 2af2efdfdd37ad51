"""Benchmark `bench gpu`: whether a GPU computes the right numbers, and how fast it trains.

First the checks of `gpu_checks`, then for each network the rates of `gpu_rates`, at last a real
training run with Ray on the GPU. Everything takes the device, so that the whole benchmark also runs
on a CPU, with tiny sizes.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import torch
from rich.console import Console

from keisei_ray.bench.command import figures_table, machine
from keisei_ray.bench.device_loops import device_name, matmul_loop, nominal_flops
from keisei_ray.bench.gpu_checks import check_first_ratio, check_outputs, check_sampling
from keisei_ray.bench.gpu_rates import (
    Sizes,
    Subject,
    measure_acting,
    measure_learning,
    measure_self_play,
    one_process,
    train_on,
)
from keisei_ray.bench.measure import Figure, rate
from keisei_ray.config.schema import Config
from keisei_ray.errors import BenchmarkError, KeiseiError

NETWORKS: Final = ((10, 128), (4, 64), (20, 256))
"""(depth, width) of the networks that are measured; the first also trains with Ray."""
COMPILE_LIMIT_S: Final = 40.0
"""Seconds that compiling the plain loops of all networks may take together."""


def require_cuda() -> torch.device:
    """Returns the CUDA device.

    Raises:
        BenchmarkError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise BenchmarkError(
            f"bench gpu needs a CUDA device; torch {torch.__version__} sees none. Run it on a "
            "machine with a GPU, with a torch that was built for CUDA."
        )
    return torch.device("cuda")


def run_gpu_benchmark(
    config: Config,
    sizes: Sizes,
    console: Console,
    device: torch.device,
    networks: Sequence[tuple[int, int]] = NETWORKS,
    compile_limit_s: float = COMPILE_LIMIT_S,
) -> dict[str, Any]:
    """Checks and measures a device; prints a line for each step and a table for each part.

    Args:
        config: all settings that are not part of `sizes`.
        sizes: sizes and durations of what is measured; all batches of acting with the first
            network, the others with the first batch only.
        console: where lines and tables are printed.
        device: the device.
        networks: depth and width of each network.
        compile_limit_s: see `COMPILE_LIMIT_S`.

    Returns:
        Machine, device, settings and every figure as JSON types. `failed` names the checks that
        failed.
    """
    started = time.perf_counter()

    def say(step: str) -> None:
        console.print(f"{time.perf_counter() - started:6.1f} s  {step}", highlight=False)

    def show(part: str, found: list[Figure]) -> None:
        console.print(figures_table(part, found))
        figures.extend(found)

    figures: list[Figure] = []
    name = device_name(device)
    nominal = nominal_flops(name)
    say(f"{name}: peak")
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # As in the learner.
    peak = _peak(sizes, device)
    nominal_tflops = nominal and nominal / 1e12
    share = nominal and peak / nominal
    show("peak", [Figure("bf16 matrices", peak / 1e12, "TFLOP/s", nominal_tflops, share)])

    checks: list[Figure] = []
    for network in networks:
        say(f"{network[0]}x{network[1]}: outputs, checked")
        checks += check_outputs(one_process(config, network, device, sizes).model, device)
    say(f"{networks[0][0]}x{networks[0][1]}: self-play, learner and sampling, checked")
    checks += _check_play(config, sizes, device, networks[0])
    console.print(figures_table("checks", checks))
    failed = [check.what for check in checks if not check.is_met]
    for what in failed:
        console.print(f"check failed: {what}", style="bold red", highlight=False)

    ideals = []
    for network in networks:
        subject = Subject(
            one_process(config, network, device, sizes),
            sizes if network == networks[0] else replace(sizes, rows=sizes.rows[:1]),
            device,
            peak,
            compile_limit_s,
            say,
        )
        subject.say(f"{subject.shape}: acting")
        found, forward = measure_acting(subject)
        show(f"{subject.shape}: acting", found)
        subject.say(f"{subject.shape}: self-play")
        found, packed = measure_self_play(subject, forward)
        show(f"{subject.shape}: self-play", found)
        subject.say(f"{subject.shape}: learning")
        found, learning = measure_learning(subject, packed)
        show(f"{subject.shape}: learning", found)
        ideals.append((subject, forward, learning))
        compile_limit_s = subject.compile_left_s
        torch.compiler.reset()  # It compiles one function for a few shapes only.
    if sizes.run_seconds:
        say("a training run with Ray")
        try:
            found = train_on(*ideals[0])
        except KeiseiError as error:  # What has been measured is kept.
            failed.append("the training run")
            console.print(f"{type(error).__name__}: {error}", style="bold red", markup=False)
        else:
            show("training with Ray", found)
    say("done")
    return {
        "machine": machine(),
        "device": {"name": name, "peak_flops": peak, "nominal_flops": nominal},
        "sizes": asdict(sizes),
        "config": config.model_dump(mode="json"),
        "seconds": time.perf_counter() - started,
        "failed": failed,
        "checks": [asdict(figure) | {"is_met": figure.is_met} for figure in checks],
        "figures": [asdict(figure) | {"is_met": figure.is_met} for figure in figures],
    }


def _peak(sizes: Sizes, device: torch.device) -> float:
    """Operations a second of a large product of bf16 matrices."""
    loop = matmul_loop(sizes.matmul, device)
    loop()
    return max(rate(loop, sizes.seconds) for _ in range(sizes.rounds))


def _check_play(
    config: Config, sizes: Sizes, device: torch.device, network: tuple[int, int]
) -> list[Figure]:
    """Checks of one network that plays and learns on the device."""
    plies = min(16, sizes.plies)
    # Shapes as in what is measured later, so that nothing is compiled twice.
    minibatches = sizes.games * plies // sizes.minibatch
    small = replace(sizes, plies=plies, num_minibatches=minibatches)
    play = one_process(config, network, device, small)
    return [*check_first_ratio(play), *check_sampling(play.model, device, sizes.draws)]

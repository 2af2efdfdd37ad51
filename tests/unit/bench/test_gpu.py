"""The benchmark of a GPU, run with tiny sizes on the CPU: its checks, and what is computed."""

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from keisei_ray.bench import gpu_checks
from keisei_ray.bench.device_loops import count_flops, nominal_flops, trained_network
from keisei_ray.bench.gpu import run_gpu_benchmark
from keisei_ray.bench.gpu_checks import check_outputs, check_sampling, chi_square_of, limited
from keisei_ray.bench.gpu_rates import Sizes, ideal_rate
from keisei_ray.cli import main
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import build_model

torch.set_num_threads(1)  # On matrices this small, threads mostly wait for each other.

CPU = torch.device("cpu")
TINY = ModelConfig(depth=1, width=8, value_hidden=8)
SIZES = Sizes(
    rows=(4,),
    games=4,
    plies=4,
    minibatch=8,
    num_minibatches=2,
    matmul=16,
    draws=64,
    seconds=0.001,
    rounds=1,
    run_seconds=0.0,
)


def test_the_whole_benchmark_runs_on_a_cpu_and_names_the_check_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(gpu_checks.LOG_PROB_LIMITS, "bf16", 1e-9)
    text = io.StringIO()
    config = Config.model_validate({"model": {"value_hidden": 8}})
    console = Console(file=text, width=120)
    result = run_gpu_benchmark(config, SIZES, console, CPU, networks=[(1, 8)], compile_limit_s=0)
    assert result["failed"] == ["1x8 bf16: error of log-probs, rms"]
    assert f"check failed: {result['failed'][0]}" in text.getvalue()
    assert [check["is_met"] for check in result["checks"]].count(False) == 1
    names = [figure["what"] for figure in result["figures"]]
    for part in ("acting, batches of 4", "self-play, 4 games", "learning, minibatches of 8"):
        assert any(part in what for what in names)
        assert part in text.getvalue()
    assert all(figure["value"] >= 0 for figure in result["figures"])
    json.dumps(result)


def test_without_a_gpu_it_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "gpu"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "bench gpu needs a CUDA device; torch" in lines[0]


def test_a_failed_check_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = {"failed": ["outputs"]}
    monkeypatch.setattr("keisei_ray.bench.gpu.require_cuda", lambda: CPU)
    monkeypatch.setattr("keisei_ray.bench.gpu.run_gpu_benchmark", lambda *_: failing)
    assert main(["bench", "gpu"]) == 1
    failing["failed"] = []
    assert main(["bench", "gpu"]) == 0


def test_a_number_that_is_none_fails_a_check() -> None:
    assert not limited("outputs", float("nan"), 1.0).is_met


def test_outputs_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(figure.is_met for figure in check_outputs(TINY, CPU))
    real = gpu_checks._outputs
    calls: list[int] = []

    def wrong_on_the_device(*arguments: Any) -> Any:
        calls.append(1)
        log_probs, values, mask = real(*arguments)
        return log_probs + 0.5 * (len(calls) > 1), values, mask

    monkeypatch.setattr(gpu_checks, "_outputs", wrong_on_the_device)
    assert [figure.is_met for figure in check_outputs(TINY, CPU)] == [False, True, False, True]


def test_a_wrong_sampler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def squared(self: np.random.Generator, size: int) -> np.ndarray:
        return self.uniform(size=size) ** 2

    class Biased(np.random.Generator):
        random = squared  # type: ignore[assignment]

    assert all(figure.is_met for figure in check_sampling(TINY, CPU, 256))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Biased(np.random.PCG64(seed)))
    assert not check_sampling(TINY, CPU, 256)[0].is_met


def test_the_chi_square_is_pearsons_and_rare_outcomes_are_one_class() -> None:
    assert chi_square_of(np.array([60.0, 40.0]), np.array([0.5, 0.5])) == (4.0, 2)
    counts, probs = np.array([50.0, 44, 4, 2, 0]), np.array([0.5, 0.4, 0.04, 0.04, 0.02])
    statistic, classes = chi_square_of(counts, probs)
    assert classes == 3
    assert statistic == pytest.approx(0 + 16 / 40 + 16 / 10)


def test_operations_are_those_of_the_convolutions() -> None:
    config = ModelConfig(depth=4, width=64)
    forward, both = count_flops(config)
    tower = 2 * 4 * 2 * 9 * 64**2 * 81
    assert tower < forward < 1.1 * tower
    assert 2.8 * forward < both <= 3 * forward


def test_every_layer_of_the_checked_network_matters() -> None:
    model, new = trained_network(TINY), build_model(TINY, seed=0)
    assert not new.blocks[0].second.weight.any()  # type: ignore[union-attr, operator]
    assert all(parameter.any() for parameter in model.blocks.parameters() if parameter.ndim > 1)


def test_a_gpu_is_known_by_its_name() -> None:
    assert nominal_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert nominal_flops("NVIDIA H100 PCIe") == 756e12
    assert nominal_flops("NVIDIA L40S") == 362e12
    assert nominal_flops("cpu") is None


@pytest.mark.parametrize(("actors", "expected"), [(1, 100.0), (8, 250.0)])
def test_the_ideal_is_the_gpu_in_turn_or_the_cores_that_play(actors: int, expected: float) -> None:
    rates = {"env": 100.0, "forward": 1000.0, "learning": 4000 / 3}
    assert ideal_rate(actors=actors, epochs=4, **rates) == pytest.approx(expected)

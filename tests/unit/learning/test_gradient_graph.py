"""The gradient as a recorded graph: rows that fill it up, its inputs, other sizes and storage.

The recording itself needs a GPU (tests/gpu); here what was recorded is computed anew each time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from keisei_ray.learning import gradient_graph
from keisei_ray.learning.gradient_graph import GradientGraphs
from keisei_ray.learning.gradients import ParallelGradients
from keisei_ray.learning.ppo import LossCoefs, PPOSums
from tests.unit.learning.test_gradients import (
    COEFS,
    ONE_PROCESS,
    ROWS,
    by_parameter,
    fields,
    model,
    plain,
)

pytestmark = ONE_PROCESS

OTHER = LossCoefs(0.1, 1.5, 0.3, 2.0, 0.05)


class Recomputed:
    """Stands for a graph: `launch` computes into the tensor of the first call."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self.compute, self.result = compute, compute()

    def launch(self) -> Tensor:
        return self.result.copy_(self.compute())


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recomputed]:
    """Recorded computations in their order; torch compiles with a backend without kernels."""
    found: list[Recomputed] = []

    def record(compute: Callable[[], Tensor], **_: object) -> Recomputed:
        found.append(Recomputed(compute))
        return found[-1]

    monkeypatch.setattr(gradient_graph, "record", record)
    compiler = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiler)
    return found


def graphs_of(network: Any, multiple: int = 32) -> GradientGraphs:
    gradients = ParallelGradients(network, num_threads=1, micro_batch=None)
    return GradientGraphs(network, gradients.flat, row_multiple=multiple)


def assert_same(sums: PPOSums[Tensor], expected: PPOSums[Tensor]) -> None:
    for name, total in sums._asdict().items():
        assert not total.requires_grad
        assert float(total) == pytest.approx(float(getattr(expected, name)), rel=1e-4), name


@pytest.mark.slow
def test_a_recorded_gradient_is_that_of_the_same_rows_one_by_one(
    recorded: list[Recomputed],
) -> None:
    network = model()
    graphs = graphs_of(network)
    update = fields()
    found = []
    for rows, coefs in ((ROWS, COEFS), (ROWS[:70], COEFS), (ROWS[:70], OTHER), (ROWS[9:21], COEFS)):
        sums = graphs.compute(update, rows, num_rows=len(rows), loss_scale=None, coefs=coefs)
        expected, expected_sums = plain(model(), rows, coefs)
        torch.testing.assert_close(by_parameter(network), expected, rtol=1e-4, atol=1e-6)
        assert_same(sums, expected_sums)
        found.append((sums, expected_sums))
    for sums, expected_sums in found:  # Later launches have not changed them.
        assert_same(sums, expected_sums)
    assert len(recorded) == 2  # Of 96 and of 32 rows.


def test_a_loss_scale_is_a_factor_of_the_gradient_and_not_of_the_sums(
    recorded: list[Recomputed],
) -> None:
    network = model()
    graphs = graphs_of(network)
    update = fields()
    expected, expected_sums = plain(model())
    for scale in (8.0, 1.0):
        sums = graphs.compute(
            update, ROWS, num_rows=2 * len(ROWS), loss_scale=torch.tensor(scale), coefs=COEFS
        )
        torch.testing.assert_close(
            by_parameter(network), scale / 2 * expected, rtol=1e-4, atol=1e-5
        )
        assert_same(sums, expected_sums)
    assert len(recorded) == 1


@pytest.mark.slow
def test_minibatches_of_nearly_one_size_share_a_graph(recorded: list[Recomputed]) -> None:
    """A graph has a row in 64 to spare, and one in 16 at most: 188 rows get another than 191.

    Those that fill a graph exactly, as in each update of pure self-play, need none to spare.
    """
    graphs, update = graphs_of(model(), multiple=8), fields()
    for num_rows in (191, 192, 188, 176, 191):
        rows = ROWS.repeat(3)[:num_rows]
        sums = graphs.compute(update, rows, num_rows=num_rows, loss_scale=None, coefs=COEFS)
        assert_same(sums, plain(model(), rows)[1])
    assert list(graphs._recorded) == [200, 192, 176]
    assert len(recorded) == 3


def test_fields_at_other_addresses_are_recorded_anew(recorded: list[Recomputed]) -> None:
    network = model()
    graphs = graphs_of(network)
    for update in (fields(), {name: tensor.clone() for name, tensor in fields().items()}):
        update["advantages"].mul_(2)
        for _ in range(2):
            sums = graphs.compute(update, ROWS, num_rows=len(ROWS), loss_scale=None, coefs=COEFS)
        assert float(sums.sampled) > 0
    assert len(recorded) == 2


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted"), None])
def test_gradients_that_cannot_be_recorded_are_computed_as_they_are(
    error: RuntimeError | None,
    recorded: list[Recomputed],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the memory does not suffice the error goes on: the learner takes fewer rows at once."""
    raised = error or torch.OutOfMemoryError("CUDA out of memory")

    tries = []

    def record(*_: object, **__: object) -> None:
        tries.append(1)
        raise raised

    monkeypatch.setattr(gradient_graph, "record", record)
    network = model()
    gradients = ParallelGradients(network, num_threads=1, micro_batch=None, row_multiple=32)
    gradients._graphs = GradientGraphs(network, gradients.flat, row_multiple=32)

    def compute() -> PPOSums[Tensor]:
        return gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)

    if error is None:
        with pytest.raises(torch.OutOfMemoryError):
            compute()
    expected, expected_sums = plain(model())
    for _ in range(2):
        assert_same(compute(), expected_sums)
        torch.testing.assert_close(by_parameter(network), expected, rtol=1e-4, atol=1e-6)
    assert len(tries) == 1
    assert ("gradients are not compiled" in caplog.text) == (error is not None)
    assert not recorded

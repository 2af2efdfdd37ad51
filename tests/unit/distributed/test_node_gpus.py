"""How much memory the GPUs of a machine have, as the driver's own tool says it."""

import sys

import pytest

from keisei_ray.distributed import node_gpus
from keisei_ray.distributed.node_gpus import own_smallest_gpu_bytes, smallest_gpu_bytes


def says(text: str, code: int = 0) -> tuple[str, ...]:
    """Returns a command that prints this and ends with this exit code."""
    return sys.executable, "-c", f"print({text!r}); raise SystemExit({code})"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (says("81559"), 81559 * 2**20),
        (says("81559\n24564\n81559"), 24564 * 2**20),
        (says(""), 0),
        (says("[N/A]"), 0),
        (says("81559", code=9), 0),
        (("a-program-that-is-not-there",), 0),
    ],
)
def test_the_smallest_gpu_of_this_machine_counts(
    monkeypatch: pytest.MonkeyPatch, query: tuple[str, ...], expected: int
) -> None:
    monkeypatch.setattr(node_gpus, "QUERY", query)
    assert own_smallest_gpu_bytes() == expected
    assert smallest_gpu_bytes(is_one_machine=True) == expected


def test_a_tool_that_hangs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_gpus, "QUERY", ("sleep", "600"))
    monkeypatch.setattr(node_gpus, "QUERY_TIMEOUT_S", 0.05)
    assert own_smallest_gpu_bytes() == 0

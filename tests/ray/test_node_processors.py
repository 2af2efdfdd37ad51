"""The questions to all nodes: whether processors have bfloat16, how much memory GPUs have."""

import os

import pytest
import ray

from keisei_ray.config import processor
from keisei_ray.distributed import node_gpus
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.node_processors import all_have_bf16

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    ("answer_of_node", "expected"), [(lambda: True, True), (lambda: False, False), (None, False)]
)
def test_every_node_is_asked(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, answer_of_node: object, expected: bool
) -> None:
    """This process says yes each time; what the node's own process says decides."""
    driver = os.getpid()

    def has_bf16() -> bool:
        if os.getpid() == driver:
            return True
        assert callable(answer_of_node), "this node cannot answer"
        return bool(answer_of_node())

    monkeypatch.setattr(processor, "has_bf16", has_bf16)
    assert all_have_bf16(is_one_machine=False) is expected
    assert all_have_bf16(is_one_machine=True)


def test_each_node_with_a_gpu_is_asked_for_its_memory(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = os.getpid()
    real = ray.nodes()
    nodes = [node | {"Resources": {"CPU": 2, "GPU": gpus}} for node in real for gpus in (1, 0)]

    def of_the_node() -> int:
        return 0 if os.getpid() == driver else 80

    monkeypatch.setattr(node_gpus, "own_smallest_gpu_bytes", of_the_node)
    assert node_gpus.smallest_gpu_bytes(is_one_machine=False) == 0  # This one has no GPU.
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert node_gpus.smallest_gpu_bytes(is_one_machine=False) == 80

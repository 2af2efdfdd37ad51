"""The question whether the processors of all nodes have bfloat16."""

import os

import pytest

from keisei_ray.config import processor
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

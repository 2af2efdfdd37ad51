"""The question to all nodes of a cluster whether their processors have bfloat16."""

import logging
from typing import Final

import ray
from ray.exceptions import RayError

from keisei_ray.config import processor
from keisei_ray.distributed.actors import ask_node

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S: Final = 30.0
"""Seconds that all nodes together get to answer; each starts a process for it."""


def all_have_bf16(*, is_one_machine: bool) -> bool:
    """Returns whether each node that is there now has instructions for bfloat16.

    A node that does not answer counts as one without.

    Args:
        is_one_machine: whether this machine is the only node, which needs no question.
    """
    if is_one_machine or not processor.has_bf16():
        return processor.has_bf16()
    nodes = [str(node["NodeID"]) for node in ray.nodes() if node["Alive"]]
    answers = [ask_node(processor.has_bf16, node) for node in nodes]
    try:
        return all(ray.get(answers, timeout=ANSWER_TIMEOUT_S))
    except RayError as error:
        logger.info("not all nodes say whether they have bfloat16: %s", error)
        return False

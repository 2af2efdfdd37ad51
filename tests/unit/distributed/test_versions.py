"""Nodes that run another program than the driver. No Ray is started."""

import pytest

from keisei_ray.distributed.versions import Versions, check_versions, missing_package
from keisei_ray.errors import ClusterError


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"keisei_ray": "0.0.1"}, False),
        ({"ray": "2.59.0"}, False),
        ({"python": "3.12.7"}, False),
        ({"python": "3.11.99"}, True),
        ({}, True),
    ],
)
def test_an_actor_of_another_program_is_refused_by_name(
    change: dict[str, str], is_same: bool
) -> None:
    driver = Versions("0.1.0", "2.60.0", "3.11.7")
    there = Versions(**(vars(driver) | change))
    if is_same:
        check_versions("192.0.2.3", there, driver)
        return
    with pytest.raises(ClusterError, match=r"node 192\.0\.2\.3 runs") as caught:
        check_versions("192.0.2.3", there, driver)
    assert str(there) in str(caught.value)
    assert str(driver) in str(caught.value)


def test_only_what_is_missing_makes_a_node_unfit() -> None:
    error = missing_package(
        Exception("died\n(pid=3, ip=192.0.2.4, x)\nNo module named 'keisei_ray'")
    )
    assert str(error).startswith("node 192.0.2.4 cannot start an actor: No module named 'keisei_")
    assert missing_package(Exception("killed (pid=3, ip=192.0.2.4)")) is None

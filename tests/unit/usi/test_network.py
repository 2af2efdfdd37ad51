"""The network of a conversation, as it is loaded."""

from pathlib import Path

import pytest

from keisei_ray.errors import ConfigError
from keisei_ray.usi.network import load_network
from tests.helpers.saved_runs import save_untrained


@pytest.mark.parametrize("device", ["meta", "no such device", "cuda:99"])
def test_a_device_that_does_not_compute_is_refused_in_one_line(device: str, tmp_path: Path) -> None:
    """`meta` takes a network, but no result comes back from there."""
    saved = save_untrained(tmp_path, timestep=7)
    with pytest.raises(ConfigError, match=f"option Device = '{device}': ") as refused:
        load_network(str(saved), device, 1)
    assert "\n" not in str(refused.value)

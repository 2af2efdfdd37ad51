"""Sizes and arguments that the peers share: those of the documented command on two cores."""

import argparse
from collections.abc import Sequence

NUM_GAMES, ROLLOUT_LENGTH, NUM_MINIBATCHES = 64, 64, 8
"""Games of all actors, plies of a rollout, and minibatches of an epoch."""
TIMESTEPS_PER_UPDATE = NUM_GAMES * ROLLOUT_LENGTH
WARM_UP_UPDATES = 2


def parse(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the network's depth and width, the epochs, the seconds to measure, the precision."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--amp", choices=("off", "bf16"), default="off")
    return parser.parse_args(arguments)

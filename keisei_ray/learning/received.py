"""The rollouts of an update as they came: unpacked, their lags checked, their bytes counted.

Of several learners each is given a share of them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from keisei_ray.errors import PolicyLagError, RejectedRolloutsError, WireError
from keisei_ray.learning.learner_group import LearnerGroup
from keisei_ray.rollouts.packed_buffer import BufferLike
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.rollout import Rollout

UNPACK_THREADS: Final = 4
"""Rollouts that are unpacked at once. Meanwhile the device has nothing to do."""


class Received(NamedTuple):
    """Bytes and policy lags of the rollouts of an update, over all learners."""

    raw_bytes: int
    """Bytes of the unpacked rollouts."""
    wire_bytes: int
    """Bytes of the packed rollouts."""
    lag_mean: float
    """Mean policy lag over rollouts, in updates."""
    lag_max: int
    """Largest policy lag, in updates."""

    @staticmethod
    def by_all(
        rollouts: Sequence[Rollout],
        buffers: Sequence[BufferLike],
        lags: Sequence[int],
        group: LearnerGroup,
    ) -> "Received":
        """Adds up what this learner and the others have received.

        Args:
            rollouts: this learner's share.
            buffers: the same rollouts, packed.
            lags: policy lag of each, in updates.
            group: the learners that make the update together.

        Raises:
            PeerLostError: another learner is gone.
        """
        shares = group.gather(
            (
                sum(rollout.raw_bytes for rollout in rollouts),
                sum(len(buffer) for buffer in buffers),
                len(lags),
                sum(lags),
                max(lags, default=0),
            )
        )
        raw, wire, number, lag_sum, _ = (sum(column) for column in zip(*shares, strict=True))
        return Received(int(raw), int(wire), lag_sum / number, max(int(s[-1]) for s in shares))


def unpack_all(buffers: Sequence[BufferLike], max_timesteps: int) -> list[Rollout]:
    """Unpacks every buffer into a valid rollout, or raises one error that names all that fail.

    Args:
        buffers: packed rollouts.
        max_timesteps: timesteps of a rollout of this configuration; a larger one is refused.

    Raises:
        RejectedRolloutsError: some of them are not valid rollouts.
    """

    def unpack(buffer: BufferLike) -> Rollout | str:
        try:
            return unpack_rollout(buffer, max_timesteps=max_timesteps)
        except WireError as error:
            return f"{type(error).__name__}: {error}"

    # Two thirds of it is decompressing and hashing, during which other threads run Python.
    with ThreadPoolExecutor(UNPACK_THREADS, "unpack") as threads:
        found = list(threads.map(unpack, buffers))
    if causes := {index: cause for index, cause in enumerate(found) if isinstance(cause, str)}:
        raise RejectedRolloutsError(causes)
    return [rollout for rollout in found if isinstance(rollout, Rollout)]


def checked_lags(rollouts: Sequence[Rollout], weights_version: int, limit: int) -> list[int]:
    """Returns the policy lag of each rollout, in updates.

    Args:
        rollouts: rollouts of an update.
        weights_version: version of the weights that the update begins with.
        limit: largest lag that is allowed.

    Raises:
        PolicyLagError: a rollout is older than that, or newer than the weights.
    """
    lags = []
    for rollout in rollouts:
        header = rollout.header
        lag = weights_version - header.weights_version
        if not 0 <= lag <= limit:
            raise PolicyLagError(
                f"rollout from actor {header.actor_id} was played with weights "
                f"{header.weights_version}, learner is at {weights_version}; "
                f"max_policy_lag is {limit}. This is a bug of Keisei Ray; please report it."
            )
        lags.append(lag)
    return lags

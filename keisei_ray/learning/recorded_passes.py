"""Passes of a replica as recordings, so that threads do not wait for each other's Python.

Threads of one process run Python in turn, so two of them that compute forward pass and loss of a
small network wait for each other at every few of its operations. A recording
(`network/recording.py`) needs no Python; the list of legal moves, which takes numpy microseconds,
is made before.

B: rows of the update. M: rows of a piece of a minibatch.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from keisei_ray.learning.minibatch_sums import (
    LISTED_FIELDS,
    Forward,
    listed_outputs,
    loss_of,
    minibatch_sums,
    outputs_of,
)
from keisei_ray.learning.ppo import LossCoefs, PlayedPolicy, PPOSums
from keisei_ray.learning.update_batch import BATCH_FIELDS
from keisei_ray.network.listed_moves import ListedMoves, list_moves
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.network.recording import CANNOT_RECORD, not_recorded, recorded, run
from keisei_ray.rollouts.rollout import NUM_ACTIONS

Fields = Mapping[str, Tensor]
_SUMS_FIELDS: Final = tuple(name for name in BATCH_FIELDS if name != "legal_bits")
"""Fields that a recording of sums reads; legal moves come as a list."""


class Passes(NamedTuple):
    """Functions that compute outputs or loss of some rows of an update, by one network."""

    outputs: Callable[[Fields, Tensor], tuple[PlayedPolicy, Tensor]]
    """Fields and rows -> the current policy and the outcome logits, see `outputs_of`."""
    sums: Callable[[Fields, Tensor, LossCoefs[float], Tensor | None], PPOSums[Tensor]]
    """Fields, rows, numbers of the loss, rows that count -> sums, see `minibatch_sums`."""


def plain_passes(forward: Forward) -> Passes:
    """Makes the passes of a network, or of a network that torch has compiled."""
    return Passes(partial(outputs_of, forward), partial(minibatch_sums, forward))


def recorded_passes(model: PolicyValueNet) -> Passes:
    """Records the passes of a network, for any number of rows and moves.

    Args:
        model: on the CPU. The recordings have the same parameters: they see what is written into
            them in place, and add to their `grad`.

    Returns:
        Passes that call no hooks and let all rows count; `plain_passes`, where torch cannot record.
    """
    fields, rows, moves = _example()
    numbers = torch.ones(len(LossCoefs._fields))
    try:
        outputs = recorded(_Outputs(model), rows, *moves, *_chosen(fields, LISTED_FIELDS))
        sums = recorded(_Sums(outputs), rows, *moves, numbers, *_chosen(fields, _SUMS_FIELDS))
    except CANNOT_RECORD as error:
        not_recorded(error)
        return plain_passes(model)

    def outputs_of_rows(fields: Fields, rows: Tensor) -> tuple[PlayedPolicy, Tensor]:
        moves = list_moves(fields["legal_bits"][rows])
        *policy, outcomes = run(outputs, rows, *moves, *_chosen(fields, LISTED_FIELDS))
        return PlayedPolicy(*policy), outcomes

    def sums_of_rows(
        fields: Fields, rows: Tensor, coefs: LossCoefs[float], is_counted: Tensor | None = None
    ) -> PPOSums[Tensor]:
        assert is_counted is None, "rows are filled up on CUDA alone"
        moves, numbers = list_moves(fields["legal_bits"][rows]), torch.tensor(coefs)
        return PPOSums(*run(sums, rows, *moves, numbers, *_chosen(fields, _SUMS_FIELDS)))

    return Passes(outputs_of_rows, sums_of_rows)


class _Outputs(nn.Module):
    """`listed_outputs` by tensors alone."""

    def __init__(self, model: PolicyValueNet) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, rows: Tensor, move_rows: Tensor, labels: Tensor, *fields: Tensor
    ) -> tuple[Tensor, ...]:
        by_name = dict(zip(LISTED_FIELDS, fields, strict=True))
        moves = ListedMoves(move_rows, labels)
        policy, outcomes = listed_outputs(self.model, by_name, rows, moves)
        return (*policy, outcomes)


class _Sums(nn.Module):
    """`minibatch_sums` by tensors alone, on a recording of `_Outputs`."""

    def __init__(self, outputs: nn.Module) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(
        self, rows: Tensor, move_rows: Tensor, labels: Tensor, numbers: Tensor, *fields: Tensor
    ) -> tuple[Tensor, ...]:
        by_name = dict(zip(_SUMS_FIELDS, fields, strict=True))
        listed = _chosen(by_name, LISTED_FIELDS)
        *policy, outcomes = self.outputs(rows, move_rows, labels, *listed)
        coefs = LossCoefs(*numbers.unbind())
        return tuple(loss_of(PlayedPolicy(*policy), outcomes, by_name, rows, coefs))


def _chosen(fields: Fields, names: Iterable[str]) -> tuple[Tensor, ...]:
    """Returns the fields of these names, in their order."""
    return tuple(fields[name] for name in names)


def _example() -> tuple[Fields, Tensor, ListedMoves]:
    """Returns fields, rows and moves of two rows that have two legal moves each."""
    fields = {
        name: torch.zeros(2, *shape, dtype=dtype) for name, (dtype, shape) in BATCH_FIELDS.items()
    }
    last = NUM_ACTIONS - 1
    moves = ListedMoves(torch.tensor([0, 0, 1, 1]), torch.tensor([0, last, 0, last]))
    return fields, torch.arange(2), moves

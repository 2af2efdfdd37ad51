"""The learner's own file of a checkpoint: optimizer, loss scaler, random generator, version.

`torch.load` builds whatever the file describes, within its `weights_only` rules; it refuses a
tensor beyond the bytes that the file has for it. So the file is looked at before that
(`_check_archive`), and everything that was built is compared with the learner that is going to use
it. Nothing is adopted here: a file that is refused has no effect.
"""

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from keisei_ray.errors import CheckpointError
from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.network.host_copy import copied
from keisei_ray.network.short_memory import is_short_of_memory
from keisei_ray.storage.run_layout import LEARNER_FILE

_GLOBALS: Final = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2"
    r"|torch (Byte|Float|Double|Long)Storage"
)
"""Names that `torch.save` writes for the state of a learner."""
_NAMELESS: Final = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
"""Opcodes by which a pickle names or makes objects in other ways. `torch.save` uses none."""
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")
"""Tensors that AdamW keeps for each parameter, of the parameter's shape."""
_MAX_VERSION: Final = (1 << 63) - 1


@dataclass(frozen=True)
class LearnerState:
    """Content of the learner's file, checked against the learner that reads it."""

    weights_version: int
    """Updates behind the weights."""
    optimizer: dict[str, Any]
    """State for `load_state_dict`; only the learning rate of its groups is the file's."""
    scaler: dict[str, Any]
    """State of the loss scaler; empty where none was used."""
    generator: Tensor
    """State of the random generator of minibatches, on the CPU."""
    halved_rate: float | None
    """The `learner.learning_rate` that was halved, see `UpdateGuard`; None: none was."""
    learning_rate: float | None
    """The setting `learner.learning_rate`; None: the file is of a program that did not write it."""


def copied_state(
    weights_version: int,
    optimizer: torch.optim.Optimizer,
    layout: FlatLayout,
    scaler: torch.amp.GradScaler,
    generator: torch.Generator,
    halved_rate: float | None,
    learning_rate: float,
) -> dict[str, Any]:
    """Copies everything that the learner's file holds to the CPU. Waits for the device.

    Args:
        weights_version: updates behind the weights.
        optimizer: of one flat parameter.
        layout: of that parameter.
        scaler: loss scaler.
        generator: random generator of minibatches.
        halved_rate: see `LearnerState`.
        learning_rate: see `LearnerState`.
    """
    return {
        "weights_version": weights_version,
        "optimizer": _copied_optimizer(optimizer, layout),
        "scaler": scaler.state_dict(),
        "generator": generator.get_state(),
        "halved_rate": halved_rate,
        "learning_rate": learning_rate,
    }


def write_learner_state(state: Mapping[str, Any]) -> bytes:
    """Returns the content of the learner's file, for `read_learner_state`.

    Args:
        state: see `copied_state`.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def _copied_optimizer(optimizer: torch.optim.Optimizer, layout: FlatLayout) -> dict[str, Any]:
    """Copies an optimizer's state dict to the CPU, as if it had each parameter of its own."""
    whole = optimizer.state_dict()
    (group,) = whole["param_groups"]
    state: dict[int, dict[str, Tensor]] = {}
    if entry := whole["state"].get(0):
        names = ("step", *_MOMENTS)
        step, *moments = copied([entry[name] for name in names])
        parts = zip(*(layout.views(moment) for moment in moments), strict=True)
        for index, part in enumerate(parts):
            state[index] = {"step": step, **dict(zip(_MOMENTS, part, strict=True))}
    return {
        "state": state,
        "param_groups": [group | {"params": list(range(len(layout.places)))}],
    }


def read_learner_state(
    content: bytes,
    optimizer: torch.optim.Optimizer,
    layout: FlatLayout,
    generator: torch.Generator,
    device: torch.device,
) -> LearnerState:
    """Reads the learner's file. Memory stays within a few times the size of `content`.

    Args:
        content: the file.
        optimizer: the learner's, of one flat parameter. Not changed.
        layout: of that parameter; the file must fit it.
        generator: the learner's. Not changed.
        device: where the state is needed.

    Raises:
        CheckpointError: the content is something else, of another learner, or holds numbers that
            are not finite.
        MemoryError, RuntimeError: memory is short, see `is_short_of_memory`.
    """
    try:
        _check_archive(content)
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        return LearnerState(
            _version(state["weights_version"]),
            _optimizer_state(state["optimizer"], optimizer, layout),
            _scaler_state(state["scaler"]),
            _generator_state(state["generator"], generator),
            # Older files lack one or both.
            _rate_or_none(state.get("halved_rate"), "halved_rate"),
            _rate_or_none(state.get("learning_rate"), "learning_rate"),
        )
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        AssertionError,
        RuntimeError,
        EOFError,
        OSError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        if is_short_of_memory(error):
            raise
        raise CheckpointError(not_fitting(error)) from error


def not_fitting(error: Exception) -> str:
    """Returns the message for a learner's file that cannot be used because of `error`."""
    cause = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return (
        f"{LEARNER_FILE} does not fit this configuration ({cause}). Resume with the model and "
        "learner sections it was saved with."
    )


def _check_archive(content: bytes) -> None:
    """Refuses an archive that `torch.save` does not write: compressed, or with other objects."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("a compressed entry")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("its entries are larger than the file")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                _check_pickle(archive.read(entry))


def _check_pickle(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _NAMELESS:
            raise ValueError(f"an object made by {opcode.name}")
        if opcode.name == "GLOBAL" and not _GLOBALS.fullmatch(str(argument)):
            raise ValueError(f"an object {str(argument)[:80]!r}")


def _version(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_VERSION:
        raise ValueError(f"weights_version = {str(value)[:40]}, expected an integer >= 0")
    return value


def _optimizer_state(
    saved: Any, optimizer: torch.optim.Optimizer, layout: FlatLayout
) -> dict[str, Any]:
    """Returns the flat optimizer's state with the learner's own settings; its tensors are copies.

    Args:
        saved: a state of each parameter, as it was written.
        optimizer: see `read_learner_state`.
        layout: see `read_learner_state`.
    """
    (own,) = optimizer.state_dict()["param_groups"]
    (group,) = saved["param_groups"]
    indices = list(range(len(layout.places)))
    if list(group["params"]) != indices:
        raise ValueError("the optimizer has another number of parameters")
    rate = _number(group["lr"], "lr")
    state: dict[int, dict[str, Tensor]] = {}
    if entries := saved["state"]:
        if sorted(entries) != indices:
            raise ValueError("the optimizer has a state of other parameters")
        state[0] = _flat_state([entries[index] for index in indices], optimizer, layout)
    return {"state": state, "param_groups": [own | {"lr": rate}]}


def _flat_state(
    entries: Sequence[Any], optimizer: torch.optim.Optimizer, layout: FlatLayout
) -> dict[str, Tensor]:
    """Joins the states of single parameters into that of the flat one."""
    (weights,) = optimizer.param_groups[0]["params"]
    flat = {name: torch.zeros_like(weights.detach()) for name in _MOMENTS}
    views = {name: layout.views(moment) for name, moment in flat.items()}
    steps = []
    for index, entry in enumerate(entries):
        if set(entry) != {"step", *_MOMENTS}:
            raise ValueError(f"the optimizer's state of parameter {index} has other names")
        steps.append(_tensor(entry["step"], "step", torch.zeros(())))
        for name in _MOMENTS:
            moment = _tensor(entry[name], name, views[name][index])
            if not torch.isfinite(moment).all():
                raise CheckpointError(
                    f"{LEARNER_FILE}: {name} of parameter {index} is not finite: training had "
                    "diverged when it was saved. Resume from an older checkpoint."
                )
            views[name][index].copy_(moment)
    if any(not torch.equal(step, steps[0]) for step in steps):
        raise ValueError("the optimizer has made more steps with some parameters than with others")
    return {"step": steps[0].clone(), **flat}


def _scaler_state(saved: Any) -> dict[str, Any]:
    return {str(name): _number(value, str(name)) for name, value in saved.items()}


def _generator_state(saved: Any, generator: torch.Generator) -> Tensor:
    own = generator.get_state()
    if not isinstance(saved, Tensor) or saved.dtype != own.dtype or saved.shape != own.shape:
        raise ValueError("generator is not the state of a random generator")
    state = saved.cpu().clone()
    torch.Generator().set_state(state)  # Refuses a state that no generator can be in.
    return state


def _rate_or_none(saved: object, name: str) -> float | None:
    if saved is None:
        return None
    if (rate := _number(saved, name)) == 0:
        raise ValueError(f"{name} = 0, expected a number > 0")
    return rate


def _tensor(value: object, name: str, like: Tensor) -> Tensor:
    """Returns an ordinary tensor of the shape and type of another."""
    if type(value) is not Tensor or value.layout is not torch.strided or value.is_meta:
        raise ValueError(f"{name} is not a tensor")
    if value.shape != like.shape or value.dtype != like.dtype:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(like.shape)}")
    return value


def _number(value: object, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:  # type: ignore[arg-type,operator]
        raise ValueError(f"{name} = {str(value)[:40]}, expected a finite number >= 0")
    return value  # type: ignore[return-value]

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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from keisei_ray.errors import CheckpointError
from keisei_ray.network.host_copy import copied
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


def copied_state(
    weights_version: int,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    generator: torch.Generator,
    halved_rate: float | None,
) -> dict[str, Any]:
    """Copies everything that the learner's file holds to the CPU. Waits for the device."""
    return {
        "weights_version": weights_version,
        "optimizer": _copied_optimizer(optimizer.state_dict()),
        "scaler": scaler.state_dict(),
        "generator": generator.get_state(),
        "halved_rate": halved_rate,
    }


def write_learner_state(state: Mapping[str, Any]) -> bytes:
    """Returns the content of the learner's file, for `read_learner_state`.

    Args:
        state: see `copied_state`.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def _copied_optimizer(state: dict[str, Any]) -> dict[str, Any]:
    """Copies the tensors of an optimizer's state dict to the CPU; from a GPU in one transfer."""
    names = [(index, name) for index, entry in state["state"].items() for name in entry]
    tensors = [state["state"][index][name] for index, name in names]
    copies: dict[int, dict[str, Tensor]] = {index: {} for index in state["state"]}
    for (index, name), tensor in zip(names, copied(tensors), strict=True):
        copies[index][name] = tensor
    return state | {"state": copies}


def read_learner_state(
    content: bytes,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    device: torch.device,
) -> LearnerState:
    """Reads the learner's file. Memory stays within a few times the size of `content`.

    Args:
        content: the file.
        optimizer: the learner's; the file must fit its parameters. Not changed.
        generator: the learner's. Not changed.
        device: where the state is needed.

    Raises:
        CheckpointError: the content is something else, of another learner, or holds numbers that
            are not finite.
    """
    try:
        _check_archive(content)
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        return LearnerState(
            _version(state["weights_version"]),
            _optimizer_state(state["optimizer"], optimizer),
            _scaler_state(state["scaler"]),
            _generator_state(state["generator"], generator),
            _halved_rate(state.get("halved_rate")),  # Older files have none.
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
        MemoryError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
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


def _optimizer_state(saved: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns the optimizer's state with the learner's own settings; its tensors are copies."""
    own = optimizer.state_dict()["param_groups"]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    groups = saved["param_groups"]
    if [group["params"] for group in groups] != [group["params"] for group in own]:
        raise ValueError("the optimizer has another number of parameters")
    rates = [_number(group["lr"], "lr") for group in groups]
    state: dict[int, dict[str, Tensor]] = {}
    for index, entry in saved["state"].items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError(f"the optimizer has no parameter {str(index)[:40]}")
        parameter = parameters[index]
        if set(entry) != {"step", *_MOMENTS}:
            raise ValueError(f"the optimizer's state of parameter {index} has other names")
        state[index] = {"step": _tensor(entry["step"], "step", torch.zeros(())).clone()}
        for name in _MOMENTS:
            moment = _tensor(entry[name], name, parameter)
            if not torch.isfinite(moment).all():
                raise CheckpointError(
                    f"{LEARNER_FILE}: {name} of parameter {index} is not finite: training had "
                    "diverged when it was saved. Resume from an older checkpoint."
                )
            state[index][name] = torch.empty_like(parameter.detach()).copy_(moment)
    return {
        "state": state,
        "param_groups": [group | {"lr": rate} for group, rate in zip(own, rates, strict=True)],
    }


def _scaler_state(saved: Any) -> dict[str, Any]:
    return {str(name): _number(value, str(name)) for name, value in saved.items()}


def _generator_state(saved: Any, generator: torch.Generator) -> Tensor:
    own = generator.get_state()
    if not isinstance(saved, Tensor) or saved.dtype != own.dtype or saved.shape != own.shape:
        raise ValueError("generator is not the state of a random generator")
    state = saved.cpu().clone()
    torch.Generator().set_state(state)  # Refuses a state that no generator can be in.
    return state


def _halved_rate(saved: object) -> float | None:
    return None if saved is None else _number(saved, "halved_rate")


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

"""Refusal of weights that are not finite numbers: nothing can be learned from them any more.

Knows no torch, so that the driver can look at a model file before anything is started.
"""

from collections.abc import Mapping
from reprlib import repr as shortened

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from keisei_ray.errors import CheckpointError
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import MODEL_FILE


def check_finite(arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Checks weights by name.

    Raises:
        CheckpointError: names the first one with an infinite value or one that is not a number.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{MODEL_FILE}: the weights {shortened(name)} are not finite: training had "
                "diverged when they were saved. Use an older checkpoint."
            )


def check_weights(found: Checkpoint) -> None:
    """Refuses a checkpoint whose weights cannot be used: its learner would refuse them too.

    Raises:
        CheckpointError: they are unreadable or not finite.
    """
    check_files(found.files)


def check_files(files: Mapping[str, bytes]) -> None:
    """Checks the weights among the files of a checkpoint; does nothing where there are none.

    Raises:
        CheckpointError: they are unreadable or not finite.
    """
    if MODEL_FILE in files:
        check_model_file(files[MODEL_FILE])


def check_model_file(content: bytes) -> None:
    """Checks the content of `model.safetensors`.

    Raises:
        CheckpointError: it cannot be read, or its weights are not finite.
    """
    try:
        arrays = safetensors.numpy.load(content)
    except (
        safetensors.SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        raise CheckpointError(f"{MODEL_FILE} is not a safetensors file: {error}") from error
    check_finite(arrays)

"""The exported files: a graph or weights as bytes, with metadata that says what they are."""

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch

from keisei_ray import __version__
from keisei_ray.errors import ExportError, installing
from keisei_ray.export.graphs import CompactGraph, DlshogiGraph
from keisei_ray.network.model import PolicyValueNet, architecture_digest
from keisei_ray.network.weights import state_arrays
from keisei_ray.shogi.actions import LABEL_TO_PLANE_SQUARE
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR

OPSET = 17
"""Version of ONNX's operators: the newest that needs nothing newer than 2022 to run."""
METADATA_FILE = "keisei_ray.json"
"""Name of the metadata within a TorchScript file."""


def metadata_of(where: str, saved: Checkpoint, model: PolicyValueNet) -> dict[str, str]:
    """Returns what a file says about the network in it.

    Args:
        where: path or URI of the checkpoint; of the path only the name of the run is told.
        saved: the checkpoint.
        model: its network.
    """
    parts = where.rstrip("/").split("/")
    is_in_run = len(parts) > 2 and parts[-2] == CHECKPOINTS_DIR
    return {
        "program": f"keisei_ray {__version__}",
        "run": parts[-3] if is_in_run else "",
        "checkpoint": parts[-1],
        "timestep": str(saved.timestep),
        "weights_version": str(saved.info.get("weights_version")),
        "weights_digest": str(saved.info["weights_digest"]),
        "architecture": architecture_digest(model.config),
        "model": model.config.model_dump_json(),
        "labels": json.dumps(LABEL_TO_PLANE_SQUARE.tolist()),
    }


def onnx_file(graph: CompactGraph | DlshogiGraph, metadata: Mapping[str, str]) -> bytes:
    """Returns a graph as an ONNX file, for any number of positions.

    By torch's exporter that traces: it needs a hundredth of the packages and a tenth of the time of
    the newer one, and writes one file.

    Raises:
        ExportError: the package onnx cannot be imported.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing(error) from error
    names = [*graph.INPUTS, *graph.OUTPUTS]
    with _without_warnings(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            graph.eval(),
            graph.example(),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.INPUTS),
            output_names=list(graph.OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in names},
        )
        model = onnx.load(file)
    onnx.helper.set_model_props(model, dict(metadata))
    content: bytes = model.SerializeToString()
    return content


def torchscript_file(graph: CompactGraph, metadata: Mapping[str, str]) -> bytes:
    """Returns a graph as a TorchScript file, for any number of positions."""
    buffer = io.BytesIO()
    with _without_warnings(), torch.no_grad():
        traced = torch.jit.trace(graph.eval(), graph.example())
        torch.jit.save(traced, buffer, {METADATA_FILE: json.dumps(dict(metadata))})
    return buffer.getvalue()


def safetensors_file(model: PolicyValueNet, metadata: Mapping[str, str]) -> bytes:
    """Returns the weights by name, float32, with the metadata as entries of their own."""
    tensors = {name: torch.from_numpy(array) for name, array in state_arrays(model).items()}
    return safetensors.torch.save(tensors, dict(metadata))


def missing(error: ImportError) -> ExportError:
    """Returns the error of a package of the extra `export` that cannot be imported."""
    return ExportError(
        f"ONNX files need the packages onnx and onnxruntime, which cannot be imported: {error}. "
        f"Install them by {installing('export')}, or use --format torchscript or safetensors."
    )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps torch quiet in the block about the age of its tracing exporters, and constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""The command `export`: the network of a checkpoint as a file for other programs."""

import os
from pathlib import Path

from keisei_ray.errors import ConfigError
from keisei_ray.export import ExportFormat
from keisei_ray.export.checking import NUM_POSITIONS, check_compact, check_dlshogi
from keisei_ray.export.files import metadata_of, onnx_file, safetensors_file, torchscript_file
from keisei_ray.export.graphs import CompactGraph, DlshogiGraph
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.result_file import check_output_file


def export(checkpoint: str, file_format: ExportFormat, output: Path) -> str:
    """Writes the network of a checkpoint in a format. An ONNX file is checked before.

    Args:
        checkpoint: path or URI, as for `evaluate --checkpoint`.
        file_format: see docs/export.md.
        output: the file; must not exist.

    Returns:
        A sentence on what was written.

    Raises:
        ConfigError: the file exists or cannot be written.
        CheckpointError, StorageError: the checkpoint cannot be read.
        ExportError: a package is missing, or the file would compute something else.
    """
    _check_output(output)
    where, saved = open_checkpoint(checkpoint)
    model = load_model(saved).requires_grad_(False)
    metadata = metadata_of(where, saved, model) | {"format": file_format}
    furthest = None
    if file_format == "safetensors":
        content = safetensors_file(model, metadata)
    elif file_format == "torchscript":
        content = torchscript_file(CompactGraph(model), metadata)
    elif file_format == "onnx":
        content = onnx_file(CompactGraph(model), metadata)
        furthest = check_compact(content, model)
    else:
        content = onnx_file(DlshogiGraph(model), metadata)
        furthest = check_dlshogi(content, model)
    try:
        write_atomically(output, content)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}.") from error
    checked = ""
    if furthest is not None:
        checked = (
            f", checked by ONNX Runtime on {NUM_POSITIONS} positions: the same likeliest moves, "
            f"values within {furthest:.1e}"
        )
    return f"{output}: {saved.path.name} as {file_format}, {len(content):,} bytes{checked}"


def _check_output(output: Path) -> None:
    """Refuses a file that cannot be written, before the work begins."""
    if os.path.exists(output):
        raise ConfigError(f"--output {output}: exists. Name another file, or remove it.")
    check_output_file(output, "--output")

"""Export: a trained network in the file formats of other programs. No Ray.

    command.py     `run.py export`: reads a checkpoint, writes the file, checks it
    planes_net.py  the network as a graph of operators that other programs know
    graphs.py      what each format puts around it: inputs and outputs by name
    files.py       the files themselves, with their metadata
    checking.py    an ONNX file against the network, by ONNX Runtime

docs/export.md has the inputs and outputs of each format.
"""

from typing import Final, Literal, get_args

ExportFormat = Literal["onnx", "torchscript", "safetensors", "dlshogi"]
FORMATS: Final[tuple[ExportFormat, ...]] = get_args(ExportFormat)
"""Formats that a network can be exported in."""

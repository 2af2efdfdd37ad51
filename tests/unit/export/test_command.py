"""The command `export`: every format, its metadata, and what is refused."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from keisei_ray.cli import main
from keisei_ray.errors import ExportError
from keisei_ray.export.checking import check_compact, check_dlshogi, random_positions
from keisei_ray.export.command import export
from keisei_ray.export.files import onnx_file
from keisei_ray.export.graphs import CompactGraph, DlshogiGraph
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.network.weights import digest
from keisei_ray.players.policies import network_outputs
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.shogi.actions import LABEL_TO_PLANE_SQUARE
from tests.helpers.networks import shaken_model
from tests.helpers.saved_runs import save_untrained


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "first"
    save_untrained(path, timestep=100, weights_version=7)
    return path


@pytest.fixture(scope="module")
def model(run_dir: Path) -> PolicyValueNet:
    return load_model(open_checkpoint(run_dir)[1])


def check_metadata(metadata: dict[str, str], file_format: str) -> None:
    assert metadata["run"] == "first"
    assert metadata["checkpoint"] == "step-000000000100"
    assert (metadata["timestep"], metadata["weights_version"]) == ("100", "7")
    assert json.loads(metadata["model"])["width"] == 16
    assert json.loads(metadata["labels"]) == LABEL_TO_PLANE_SQUARE.tolist()
    assert metadata["format"] == file_format


def test_an_onnx_file_runs_elsewhere_with_any_number_of_positions(
    run_dir: Path, model: PolicyValueNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    file = tmp_path / "net.onnx"
    command = ["export", "--checkpoint", str(run_dir), "--format", "onnx", "--output", str(file)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{file}: step-000000000100 as onnx, ")
    assert "checked by ONNX Runtime on 64 positions: the same likeliest moves, values" in said
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()] == [
        ("boards", "tensor(uint8)", [81]),
        ("hands", "tensor(uint8)", [14]),
        ("scalars", "tensor(uint8)", [3]),
    ]
    found = random_positions()
    for num in (1, 5, 64):
        parts = (found.boards[:num], found.hands[:num], found.scalars[:num])
        logits, values, draws = network_outputs(model, *parts)
        policy, wdl, value = session.run(
            None, dict(zip(("boards", "hands", "scalars"), parts, strict=True))
        )
        np.testing.assert_allclose(policy, logits, atol=1e-5)
        np.testing.assert_allclose(value, values, atol=1e-5)
        np.testing.assert_allclose(wdl[:, 1], draws, atol=1e-5)
    check_metadata(session.get_modelmeta().custom_metadata_map, "onnx")


def test_a_file_for_dlshogi_has_its_names_and_shapes(run_dir: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    said = export(str(run_dir), "dlshogi", tmp_path / "model.onnx")
    assert "the same likeliest moves" in said
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape[1:]) for i in session.get_inputs()] == [
        ("input1", [62, 9, 9]),
        ("input2", [57, 9, 9]),
    ]
    assert [output.name for output in session.get_outputs()] == ["output_policy", "output_value"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_file_needs_no_code_of_this_program(
    run_dir: Path, model: PolicyValueNet, tmp_path: Path
) -> None:
    export(str(run_dir), "torchscript", tmp_path / "net.pt")
    extra = {"keisei_ray.json": ""}
    loaded = torch.jit.load(io.BytesIO((tmp_path / "net.pt").read_bytes()), _extra_files=extra)
    check_metadata(json.loads(extra["keisei_ray.json"]), "torchscript")
    found = random_positions()
    for num in (1, 5):
        parts = (found.boards[:num], found.hands[:num], found.scalars[:num])
        logits, values, _ = network_outputs(model, *parts)
        policy, _, value = loaded(*map(torch.from_numpy, parts))
        np.testing.assert_allclose(policy, logits, atol=1e-5)
        np.testing.assert_allclose(value, values, atol=1e-5)


def test_a_safetensors_file_has_the_weights_and_says_what_they_are(
    run_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "net.safetensors"
    export(str(run_dir), "safetensors", file)
    with safetensors.safe_open(file, "np") as opened:
        metadata = opened.metadata()
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    check_metadata(metadata, "safetensors")
    assert digest(weights) == metadata["weights_digest"]


@pytest.mark.parametrize("kind", ["attackers", "origins", "scalar"])
def test_a_file_that_computes_something_else_is_refused(kind: str) -> None:
    pytest.importorskip("onnxruntime")
    model = shaken_model(kind)
    compact = onnx_file(CompactGraph(model), {})
    for_dlshogi = onnx_file(DlshogiGraph(model), {})
    assert check_compact(compact, model) < 1e-5
    assert check_dlshogi(for_dlshogi, model) < 1e-5
    with torch.no_grad():
        model.value_out.bias[0] += 1e-2
    for check, content in ((check_compact, compact), (check_dlshogi, for_dlshogi)):
        with pytest.raises(ExportError, match="0 of 64 likeliest moves differ, and values by"):
            check(content, model)
    with torch.no_grad():
        model.value_out.bias[0] -= 1e-2
        model.policy_head.weight *= -1
    with pytest.raises(ExportError, match=r"[1-9]\d* of 64 likeliest moves differ"):
        check_compact(compact, model)


def test_without_the_packages_the_error_names_the_extra(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"pip install -e '\.\[export\]', or use --format torch"):
        export(str(run_dir), "onnx", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_or_has_no_directory_is_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(output: Path) -> str:
        flags = ["--checkpoint", str(run_dir), "--format", "safetensors", "--output", str(output)]
        assert main(["export", *flags]) == 2
        return " ".join(capsys.readouterr().err.split())

    (tmp_path / "a").write_bytes(b"mine")
    assert "exists. Name another file, or remove it." in refused(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert "not a file in a directory that can be written" in refused(tmp_path / "gone" / "a")

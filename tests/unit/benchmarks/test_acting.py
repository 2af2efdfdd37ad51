"""The script that compares engines for acting: what they are given and what it prints."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keisei_ray.config.sections import ModelConfig
from tests.helpers.scripts import load_script

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "scripts" / "acting.py"


acting = load_script(SCRIPT)


def test_all_engines_compute_the_values_of_one_network() -> None:
    pytest.importorskip("onnxruntime")
    found = acting.engines(ModelConfig(depth=1, width=16), with_compiled=False)
    inputs = acting.positions(70)
    values = {name: engine(inputs) for name, engine in found.items()}
    assert {"torch float32", "torch bfloat16", "ONNX Runtime float32"} <= {*values}
    expected = values["torch float32"]
    assert expected.shape == (70,)
    assert expected.std() > 0.01
    for name, own in values.items():
        # Two new networks differ little: their values come from the material.
        tolerance = 1e-5 if name.endswith("float32") else 0.01
        np.testing.assert_allclose(own, expected, rtol=0, atol=tolerance, err_msg=name)


def test_the_table_has_a_row_for_each_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(acting, "READING_S", 0.0)
    argv = ["acting.py", "--size", "1x16", "--rows", "3", "5", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", argv)
    acting.main()
    header, line, *rows = capsys.readouterr().out.splitlines()
    assert line == "|---|---|---|---|---|---|"
    assert {row.count("|") for row in (header, *rows)} == {7}
    assert [row.split(" | ")[1] for row in rows].count("5") == len(rows) // 2 >= 3

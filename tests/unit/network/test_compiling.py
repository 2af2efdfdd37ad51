"""Whether torch can compile networks: a compiler, triton and headers are looked for first."""

import pytest

from keisei_ray.network.compiling import can_compile


def test_what_a_compiler_needs_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keisei_ray.network.compiling.find_spec", lambda name: object())
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/there")
    monkeypatch.setattr("pathlib.Path.is_file", lambda path: str(path) == "/there/Python.h")
    monkeypatch.setattr("shutil.which", lambda name: name if name == "clang" else None)
    monkeypatch.delenv("CC", raising=False)
    assert can_compile()
    monkeypatch.setenv("CC", "gcc-99")
    assert not can_compile()
    monkeypatch.delenv("CC")
    monkeypatch.setattr("keisei_ray.network.compiling.find_spec", lambda name: None)
    assert not can_compile()

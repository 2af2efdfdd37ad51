"""Commands that the program prints start the Python and the program that the user started."""

from pathlib import Path

import pytest

from keisei_ray.invocation import program_of


@pytest.mark.parametrize(
    ("typed", "script", "expected"),
    [
        (".venv/bin/python", "run.py", ".venv/bin/python run.py"),
        ("python", "keisei ray/run.py", "python 'keisei ray/run.py'"),
        ("python3", "/k/keisei_ray/__main__.py", "python3 -m keisei_ray"),
        ("/k/.venv/bin/python", ".venv/bin/keisei-ray", ".venv/bin/keisei-ray"),
        ("python", "/somewhere/train_my_own.py", "python run.py"),
    ],
)
def test_a_printed_command_starts_what_the_user_started(
    typed: str, script: str, expected: str
) -> None:
    assert program_of([typed, script], script) == expected


def test_the_console_script_needs_no_path_where_the_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "keisei-ray"
    script.write_text("#!/bin/sh\n", encoding="ascii")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program_of(["python", str(script)], str(script)) == "keisei-ray"

"""Files for contributors: they parse, agree with each other, and name what exists."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import keisei_ray

ROOT = Path(__file__).parents[3]
YAML_FILES = [
    ".github/workflows/ci.yml",
    ".pre-commit-config.yaml",
    "CITATION.cff",
    *(
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    ),
]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def recipes() -> dict[str, list[str]]:
    """Task of the Makefile -> its commands."""
    found: dict[str, list[str]] = {}
    for line in text("Makefile").splitlines():
        if task := re.match(r"([a-z]+):", line):
            found[task[1]] = []
        elif line.startswith("\t"):
            found[list(found)[-1]].append(line.strip())
    return found


@pytest.mark.parametrize("name", YAML_FILES)
def test_every_file_parses_to_a_mapping_with_content(name: str) -> None:
    assert yaml.safe_load(text(name))


def test_the_workflow_runs_ci_on_every_supported_python() -> None:
    job = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["ci"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    oldest = re.search(r'requires-python = ">=([\d.]+)"', text("pyproject.toml"))
    assert oldest is not None
    assert job["strategy"]["matrix"]["python"] == [oldest[1], "3.12", "3.13"]


def test_the_citation_has_the_packages_version() -> None:
    assert yaml.safe_load(text("CITATION.cff"))["version"] == keisei_ray.__version__


def test_the_makefile_has_the_tasks_that_contributing_names() -> None:
    named = set(re.findall(r"`?make ([a-z]+)", text("CONTRIBUTING.md")))
    assert {"setup", "check", "fast", "test", "docs"} <= named <= set(recipes())


def test_make_check_and_docs_are_what_ci_runs() -> None:
    """Each command of `make check` stands in .ci/run, by the name of its program."""
    ci = text(".ci/run")
    programs = {"codespell_lib": "codespell", "validate_pyproject": "validate-pyproject"}
    for command in recipes()["check"]:
        if command.startswith("bash "):
            assert f"\n{command}\n" in ci
            continue
        module, *arguments = command.removeprefix("$(PYTHON) -m ").split()
        program = programs.get(module, module)
        line = re.escape(f".venv/bin/{' '.join([program, *arguments])}")
        assert re.search(f"^{line}( >.*)?$", ci, re.MULTILINE), command
    assert ".venv/bin/mkdocs build --strict" in ci
    assert "-m mkdocs build --strict" in recipes()["docs"][0]


def test_pre_commit_uses_the_tools_of_the_environment() -> None:
    (local,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert local["repo"] == "local"
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    programs = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert programs >= {"ruff", "mypy", "codespell", "validate-pyproject"}
    beside_python = Path(sys.executable).parent
    assert [name for name in programs if not (beside_python / name).exists()] == []

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keisei_ray.storage import run_layout

PACKAGE = Path(run_layout.__file__).parents[1]
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != Path(run_layout.__file__)]
CONSTANTS = [
    value for name, value in vars(run_layout).items() if name[0].isupper() and name.isupper()
]
NAMES = {value for value in CONSTANTS if isinstance(value, str)}
WORDS = {name for name in NAMES if name.isalpha()} - {run_layout.SUPERSEDED}
"""Names that are ordinary words too; a copy counts only as part of a path."""
COPY = re.compile("|".join([r"\bstep-", *(re.escape(name) for name in NAMES - WORDS)]))
COPY_IN_PATH = re.compile("|".join(rf"(^|/){name}(/|$)" for name in WORDS))
ALLOWED = {("tracking/wandb/client.py", "step-")}
"""Copies that are allowed: the alias of an artifact at W&B."""


def copies(tree: ast.Module) -> Iterator[str]:
    """Yields the strings, except docstrings, that contain a name of the run directory."""
    docstrings, in_paths = set[int](), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            docstrings.add(id(node.value))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            in_paths |= {id(node.left), id(node.right)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and (
                COPY.search(node.value)
                or ((id(node) in in_paths or "/" in node.value) and COPY_IN_PATH.search(node.value))
            )
        ):
            yield node.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_of_the_run_directory_are_spelled_in_one_module_only(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    found = {(name, text) for text in copies(ast.parse(path.read_text(encoding="utf-8")))}
    assert found <= ALLOWED


def test_a_copy_of_a_name_is_found() -> None:
    program = """
'config.json is in a docstring'
a = run_dir / "pool" / "x"
b = f"pool/{name}"
c = run_dir / f"superseded-{n}"
d = "see run.log"
e = "the pool"
f = directory.glob("step-*")
"""
    assert sorted(copies(ast.parse(program))) == [
        "pool",
        "pool/",
        "see run.log",
        "step-*",
        "superseded-",
    ]


def test_no_two_names_are_spelled_alike() -> None:
    assert len(CONSTANTS) == len(set(CONSTANTS))


def test_a_checkpoint_is_named_after_its_timestep() -> None:
    assert run_layout.checkpoint_name(1234) == "step-000000001234"
    assert run_layout.timestep_of("step-000000001234") == 1234
    assert run_layout.is_checkpoint_name("step-1234567890123")
    assert not run_layout.is_checkpoint_name("step-12")
    assert not run_layout.is_checkpoint_name("step-000000001234.replaced")

"""The language rules that a machine can check: how a docstring begins, and words to avoid."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "keisei_ray").rglob("*.py"))
DEPENDENT_OPENING = re.compile(
    r"(Of|That|Those|These|What|Whatever|Who|Whom|Whoever|It|Its|As|\.\.\.)\b"
)
"""An editor shows the first line alone: it cannot lean on the name above or the field before."""
AVOIDED = re.compile(
    r"\b(whoever|whomever|somebody|nobody|anybody|everybody|a guest|guests)\b", re.I
)
"""Say caller, process, user, player, module."""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring: modules, classes, functions, fields, constants."""
    for node in ast.walk(tree):
        for body in (getattr(node, "body", []), getattr(node, "orelse", [])):
            if not isinstance(body, list):
                continue
            for statement in body:
                if (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                ):
                    yield statement.lineno, statement.value.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_stand_alone_and_use_plain_words(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    odd = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip().splitlines()[0]}"
        for line, text in docstrings(tree)
        if DEPENDENT_OPENING.match(text.strip()) or AVOIDED.search(text)
    ]
    assert odd == []

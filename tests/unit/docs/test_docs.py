"""The documentation: its links lead somewhere, and what it says of the code is the code's."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keisei_ray import errors
from keisei_ray.config.describe import SETTINGS
from keisei_ray.telemetry.metrics import METRIC_NAMES
from tests.helpers.scripts import load_script

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


reference_tables = load_script(DOCS / "reference_tables.py")


def pages() -> list[Path]:
    beside = [path for folder in ("benchmarks", "cluster") for path in (ROOT / folder).glob("*.md")]
    return sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *beside])


@functools.cache
def text_of(page: Path) -> str:
    """A page with its generated parts, without its blocks of code."""
    text: str = reference_tables.fill_in(page.read_text(encoding="utf-8"))
    return FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in HEADING.findall(text_of(page))
    }


def dead_links(page: Path) -> Iterator[str]:
    for target in LINK.findall(text_of(page)):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_anchor_of_a_page_exists(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[x](gone.md) [y](#a-b-c) [z](#gone) [w](page.md#gone) [u](page.md)")
    assert list(dead_links(page)) == ["gone.md", "#gone", "page.md#gone"]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [p.name for p in DOCS.glob("*.md") if f": {p.name}\n" not in navigation] == []


def test_every_generated_part_is_asked_for_by_a_page() -> None:
    asked = {
        name
        for page in DOCS.glob("*.md")
        for name in reference_tables.MARKER.findall(page.read_text(encoding="utf-8"))
    }
    assert asked == set(reference_tables.GENERATED)


@pytest.mark.parametrize(
    ("page", "names"), [("settings.md", list(SETTINGS)), ("metrics.md", METRIC_NAMES)]
)
def test_a_reference_explains_every_name(page: str, names: list[str]) -> None:
    """A row begins with the name and ends with a meaning."""
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| \S.* \|$", text_of(DOCS / page), re.MULTILINE)
    assert [name for name in names if name not in rows] == []


def packages() -> set[str]:
    return {path.parent.name for path in (ROOT / "keisei_ray").glob("*/__init__.py")}


def test_the_readme_shows_the_folders_that_there_are() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("\nkeisei_ray/\n")[2]
    shown = re.findall(r"(?<!\S)(\w+)/(?= )", tree.partition("```")[0])
    assert sorted(shown) == sorted(packages())


def test_the_architecture_page_has_a_row_for_every_package() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("\n## Packages\n")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    files = {"cli", "arguments", "argument_values", "errors"}
    assert set(named) - files == packages()
    assert all((ROOT / "keisei_ray" / f"{name}.py").is_file() for name in files)
    # The last two columns name the modules that alone import torch or Ray.
    rows = re.findall(r"^\| `(\w+)`.*?\|.*?\|(.*)\|$", section, re.MULTILINE)
    modules = [
        f"{package}/{module}.py"
        for package, cells in rows
        for module in re.findall(r"`(\w+)`", cells)
    ]
    assert len(modules) > 2
    assert [module for module in modules if not (ROOT / "keisei_ray" / module).is_file()] == []


def test_every_file_of_the_code_that_a_page_names_exists() -> None:
    """Named from the root of the repository, or from `keisei_ray/`."""
    named = {
        (page.name, name)
        for page in (*DOCS.glob("*.md"), ROOT / "README.md")
        for name in re.findall(r"`([\w-]+/[\w./-]+\.(?:py|yaml))`", text_of(page))
    }
    assert len(named) > 20
    places = (ROOT, ROOT / "keisei_ray")
    lost = [name for name in named if not any((place / name[1]).is_file() for place in places)]
    assert sorted(lost) == []


def spoken() -> set[str]:
    """Every text of the code, `...` where a value is put in."""
    texts = set()
    for path in (ROOT / "keisei_ray").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.JoinedStr(values=parts):
                    words = [p.value if isinstance(p, ast.Constant) else "..." for p in parts]
                    texts.add("".join(str(word) for word in words))
                case ast.Constant(value=str(text)):
                    texts.add(text)
    return texts


def test_every_message_that_is_explained_is_one_that_the_code_gives() -> None:
    """Its fixed parts stand in one text of the code, in their order."""
    page = re.sub(r"\s+", " ", text_of(DOCS / "troubleshooting.md"))
    shown = [message for message in re.findall(r"`([^`]+)`", page) if "..." in message]
    assert len(shown) > 100
    texts = "\n".join(re.sub(r"\s+", " ", text) for text in spoken())
    patterns = {m: ".*?".join(re.escape(p) for p in m.split("...") if p) for m in shown}
    assert [m for m, pattern in patterns.items() if not re.search(pattern, texts)] == []


def test_every_page_and_anchor_that_the_code_names_exists() -> None:
    named = re.findall(r"\bdocs/([\w-]+\.md)(?:#([\w-]+))?", "\n".join(spoken()))
    assert len(named) > 5
    assert any(anchor for _, anchor in named)
    lost = [
        (page, anchor)
        for page, anchor in named
        if not (DOCS / page).is_file() or (anchor and anchor not in anchors(DOCS / page))
    ]
    assert lost == []


def test_every_error_is_explained() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    names = [name for name in vars(errors) if name.endswith("Error")]
    assert len(names) > 15
    assert [name for name in names if name not in page] == []


def defined() -> set[str]:
    """Every function, class, method and named type of the code; methods with their class too."""
    names = set()
    for path in (ROOT / "keisei_ray").rglob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        names |= {
            target.id
            for statement in module.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            if isinstance(node, ast.ClassDef):
                inner = [n.name for n in node.body if isinstance(n, ast.FunctionDef)]
                names.update(f"{node.name}.{name}" for name in inner)
    return names


@pytest.mark.slow
def test_every_function_and_class_that_a_page_names_exists() -> None:
    """Functions are written with `()`, classes in capitals."""
    text = text_of(DOCS / "reading-the-code.md")
    functions = re.findall(r"`([\w.]+)\(\)`", text)
    classes = re.findall(r"`([A-Z]\w*[a-z]\w*)(?:\.\w+)?`", text)
    assert len(functions) > 25
    assert len(classes) > 5
    assert sorted({*functions, *classes} - defined()) == []

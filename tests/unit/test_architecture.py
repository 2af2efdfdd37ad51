"""The rules of the house, by folder: which package imports which, and what stays out of each."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "keisei_ray"
ROOT = Path(__file__).parents[2]

LEVELS = """
    __main__
    cli
    arguments
    argument_values
    tune, library, web
    status, bench, analysis
    training, report, export
    distributed, tracking
    evaluation, selfplay, pretraining, usi
    players
    learning, search
    network, records
    storage, telemetry, shogi
    rollouts, config
    errors
    invocation
"""
"""Top to bottom. A package imports from lower lines only, and not from others of its own line."""
MAY_IMPORT = {
    "ray": {"distributed", "training", "tune", "bench"}
    | {"tracking.ray_metrics", "tracking.profile_files", "status.remote"},
    "torch": {"network", "learning", "players", "selfplay", "evaluation", "bench", "library"}
    | {"pretraining"}
    | {"usi.network", "export"},
    "rsshogi": {"shogi", "bench"},
    "tensorboard": {"tracking.tensorboard"},
    "aiohttp": {"web"},
    "wandb": set[str](),
    "tests": set[str](),
    "cshogi": set[str](),
    "shogi": set[str](),
    "cloudpickle": set[str](),
}
"""Library -> the packages and modules whose import may load it."""


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name within it; the package itself is ''."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()
LEVEL_OF = {
    name: level
    for level, line in enumerate(reversed(LEVELS.split("\n")))
    for name in line.replace(",", " ").split()
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names that a module imports, wherever in it; of `from a import b` a.b if a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix(f"{PACKAGE}.") in MODULES
                yield inner if is_module else node.module


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    """Names that importing the module imports: not in functions, nor under TYPE_CHECKING."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
            yield from imports(node)


def own_imports(tree: ast.Module) -> set[str]:
    """Modules of this package that a module imports."""
    inside = (name.removeprefix(f"{PACKAGE}.") for name in imports(tree) if name != PACKAGE)
    return {name for name in inside if name in MODULES and name}


def folder(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_go_down_only(module: str) -> None:
    own = folder(module)
    others = {folder(name) for name in own_imports(MODULES[module])} - {own}
    assert {name for name in others if LEVEL_OF[name] >= LEVEL_OF[own]} == set()


def test_there_is_no_circle_of_imports() -> None:
    left = {name: own_imports(tree) for name, tree in MODULES.items()}
    while left:
        leaves = {name for name, needs in left.items() if not needs & set(left)}
        assert leaves, f"these import one another in a circle: {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in leaves}


@pytest.mark.parametrize("library", MAY_IMPORT)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    found = imports if library in ("ray", "rsshogi", "tensorboard") else top_level_imports
    users = {
        name
        for name, tree in MODULES.items()
        if library in {imported.split(".")[0] for imported in found(tree)}
    }
    allowed = MAY_IMPORT[library]
    assert {name for name in users if name not in allowed and folder(name) not in allowed} == set()
    assert bool(users) == bool(allowed)


def attributes(of: str, attribute: str | None = None) -> set[tuple[str, str]]:
    """(module, attribute) wherever an attribute of a name is taken."""
    return {
        (name, node.attr)
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == of
        and attribute in (None, node.attr)
    }


def test_only_actors_makes_remote_things() -> None:
    assert attributes("ray", "remote") == {("distributed.actors", "remote")}


def test_wandb_is_imported_in_two_functions_only() -> None:
    users = [
        (name, node.name)
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and "wandb" in {imported.split(".")[0] for imported in imports(node)}
    ]
    assert users == [
        ("tracking.wandb.client", "load_wandb"),
        ("tracking.wandb.session_file", "read_records"),  # Which needs its schema only.
    ]


def test_no_time_limit_is_a_signal() -> None:
    """An alarm reaches only the main thread, and not every system has one."""
    used = {name for _, name in attributes("signal")}
    assert {"SIGTERM", "SIGKILL"} <= used
    assert not used & {"alarm", "setitimer", "SIGALRM"}


def test_nothing_is_unpickled() -> None:
    # torch raises UnpicklingError, which is caught.
    assert attributes("pickle") <= {("learning.learner_state", "UnpicklingError")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        (
            "config.resolver config.describe rollouts.packed_rollout telemetry.events",
            "torch ray wandb",
        ),
        ("storage.checkpoint telemetry.reports shogi.vector_games", "torch ray wandb tensorboard"),
        ("tracking.subscribers report.command status.command cli", "torch ray wandb tensorboard"),
        ("web.command", "torch ray wandb tensorboard"),
        ("usi.command", "torch ray wandb tensorboard"),
        ("tracking.tensorboard", "torch ray wandb tensorflow"),
        ("distributed.address distributed.ray_errors", "torch ray wandb tensorboard"),
        ("training.session distributed.actors status.remote", "torch wandb tensorboard"),
    ],
)
def test_importing_a_module_does_not_load_what_it_does_without(imported: str, absent: str) -> None:
    program = "\n".join(
        [
            "import sys",
            *(f"import {PACKAGE}.{name}" for name in imported.split()),
            f"sys.exit(' '.join(n for n in {absent.split()} if n in sys.modules))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""

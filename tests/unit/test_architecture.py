"""The house's rules: who may import whom, and what stays out of which room."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "keisei_ray"
ROOT = Path(__file__).parents[2]

LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli", "arguments", "__main__"),
    ("tune",),
    ("cluster_runs",),
    ("bench", "training", "evaluation.command", "evaluation.ladder", "report", "status"),
    ("tracking", "driver", "ray_metrics", "profile_files"),
    ("evaluation_link", "cluster_watch"),
    ("learner_link",),
    ("fleet", "pool_link"),
    ("actors", "runtime"),
    ("learner", "self_play", "seats", "evaluation"),
    (
        "policies",
        "profiler",
        "gradients",
        "ppo",
        "weights",
        "checkpoint",
        "remote_run",
        "remote_resume",
        "uploads",
        "saved_run",
        "batch",
        "shogi.games",
        "shogi.records",
    ),
    (
        "model",
        "attackers",
        "advantages",
        "wire",
        "events",
        "diagnostics",
        "manifest",
        "shogi",
    ),
    ("codec", "metrics", "reports", "resolver"),
    ("payload", "settings", "progress", "pool", "memory", "schedules"),
    ("hardware",),
    ("refusals",),
    (
        "config",
        "rollout",
        "yaml12",
        "files",
        "run_dirs",
        "json_file",
        "versions",
        "stages",
        "storage",
    ),
    ("errors",),
)
"""Top to bottom: a module imports from its own line or a lower one. A name stands for the package
below it too; the longest name that fits decides."""

RAY_ROOMS = {
    "actors",
    "runtime",
    "fleet",
    "learner_link",
    "pool_link",
    "evaluation_link",
    "driver",
    "ray_metrics",
    "profile_files",
    "cluster_runs",
    "tune",
    "bench",
}
EXTRAS = "torch ray wandb tensorboard"
"""What a command that does not train does without."""
NO_TORCH = {
    "errors", "config", "resolver", "settings", "yaml12", "rollout", "codec", "payload", "wire",
    "progress", "pool", "reports", "metrics", "events", "files", "manifest", "checkpoint", "shogi",
    "tracking", "driver", "report", "status", "fleet", "learner_link", "evaluation_link", "runtime",
    "training", "evaluation.plan", "evaluation.rating", "evaluation.ratings",
    "evaluation.snapshots", "evaluation.openings", "pool_link", "diagnostics", "memory", "hardware",
    "arguments", "run_dirs", "json_file", "ray_metrics", "cluster_watch", "saved_run",
    "refusals", "versions",
    "cluster_runs", "profile_files", "stages",
    "storage", "remote_run", "uploads", "remote_resume",
}  # fmt: skip


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name within it; the package itself is ''."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


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
    """What importing the module imports: not the bodies of functions, nor TYPE_CHECKING."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
            yield from imports(node)


def own_imports(tree: ast.Module) -> set[str]:
    """Modules of this package that a module imports."""
    inside = (name.removeprefix(f"{PACKAGE}.") for name in imports(tree) if name != PACKAGE)
    return {name for name in inside if name in MODULES and name}


def roots(names: Iterator[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def layer(module: str) -> int:
    """Height of a module, 0 at the bottom."""
    fits = [
        (len(name), height)
        for height, names in enumerate(reversed(LAYERS))
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    assert fits, f"{module} stands on no line of LAYERS: give it one"
    return max(fits)[1]


def is_within(module: str, rooms: set[str]) -> bool:
    return module in rooms or module.split(".")[0] in rooms


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_go_down_only(module: str) -> None:
    upward = {name for name in own_imports(MODULES[module]) if layer(name) > layer(module)}
    assert upward == set()


def test_there_is_no_circle_of_imports() -> None:
    left = {name: own_imports(tree) for name, tree in MODULES.items()}
    while left:
        leaves = {name for name, needs in left.items() if not needs & set(left)}
        assert leaves, f"these import one another in a circle: {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in leaves}


def test_only_the_rooms_of_ray_import_it() -> None:
    users = {name for name, tree in MODULES.items() if "ray" in roots(imports(tree))}
    assert {name for name in users if not is_within(name, RAY_ROOMS)} == set()
    assert "driver" in users


def test_only_actors_makes_remote_things() -> None:
    makers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "remote"
        and isinstance(node.value, ast.Name)
        and node.value.id == "ray"
    }
    assert makers == {"actors"}


def test_only_shogi_imports_the_rules_library() -> None:
    """And the benchmark that compares with it."""
    users = {name for name, tree in MODULES.items() if "rsshogi" in roots(imports(tree))}
    assert {name for name in users if not is_within(name, {"shogi", "bench"})} == set()
    assert users


def test_only_the_event_files_import_tensorboard() -> None:
    users = {name for name, tree in MODULES.items() if "tensorboard" in roots(imports(tree))}
    assert users == {"tracking.event_files"}


def test_torch_stays_out_of_the_rooms_that_run_without_it() -> None:
    users = {name for name, tree in MODULES.items() if "torch" in roots(top_level_imports(tree))}
    assert {name for name in users if is_within(name, NO_TORCH)} == set()
    assert "model" in users


@pytest.mark.parametrize("name", ["wandb", "tests", "cshogi", "cloudpickle"])
def test_nothing_imports_what_it_must_not(name: str) -> None:
    users = {module for module, tree in MODULES.items() if name in roots(top_level_imports(tree))}
    assert users == set()


def test_wandb_is_imported_in_one_function_only() -> None:
    users = [
        (name, node.name)
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "wandb" in roots(imports(node))
    ]
    assert users == [("tracking.wandb_client", "load_wandb")]


def test_nothing_is_unpickled() -> None:
    used = {
        (name, node.attr)
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "pickle"
    }
    assert used <= {("learner", "UnpicklingError")}  # Caught: torch raises it.


def test_nothing_prints() -> None:
    printers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert printers == set()


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("config resolver settings progress rollout codec wire metrics events", "torch ray wandb"),
        ("checkpoint reports shogi.games shogi.records tracking report.command", EXTRAS),
        ("tracking.event_files", "torch ray wandb tensorflow"),
        ("cli", EXTRAS),
        ("status.command run_dirs", EXTRAS),
        ("refusals versions", EXTRAS),
        ("driver fleet learner_link actors runtime training", "torch wandb tensorboard"),
        ("cluster_runs", "torch wandb tensorboard"),
    ],
)
def test_importing_a_room_does_not_load_what_it_does_without(imported: str, absent: str) -> None:
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


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_files_are_small_enough_to_read(module: str) -> None:
    path = ROOT / PACKAGE / f"{module.replace('.', '/')}.py"
    if not path.exists():
        path = ROOT / PACKAGE / module.replace(".", "/") / "__init__.py"
    limit = {"config": 500}.get(module, 400)  # The whole tree of settings is one page to read.
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit

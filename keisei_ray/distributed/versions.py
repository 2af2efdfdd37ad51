"""Versions of the program that a process runs; a node with others is refused in one line.

A node of a joined cluster has a Python and packages of its own. A node that lacks Keisei Ray, or
has another version of it, fails in ways that do not name the reason, and fails again each time its
actor is restarted. Versions of torch may differ: a node with a GPU has another build of it.
"""

import platform
import re
from dataclasses import dataclass
from importlib.metadata import version

import keisei_ray
from keisei_ray.errors import ClusterError

_LACKING = re.compile(
    r"No module named '[^']+'|cannot import name '[^']+'|Can't get attribute '[^']+'"
)
_NODE = re.compile(r"\bip=([0-9A-Fa-f.:]+)")
_WHAT_TO_DO = (
    "Install the same on every node (pip install -c constraints.txt .), or start the run by "
    "`ray job submit --working-dir .`, which brings the program along."
)


@dataclass(frozen=True)
class Versions:
    """Versions that must be the same in all processes of a run."""

    keisei_ray: str
    ray: str
    python: str
    """Three numbers, of which the first two must be the same."""

    def __str__(self) -> str:
        return f"Keisei Ray {self.keisei_ray}, Ray {self.ray}, Python {self.python}"


def own_versions() -> Versions:
    """Returns the versions of this process."""
    return Versions(keisei_ray.__version__, version("ray"), platform.python_version())


def check_versions(node: str, here: Versions, driver: Versions) -> None:
    """Refuses an actor that runs another program than the driver.

    Args:
        node: address of the actor's node, for the message.
        here: versions of the actor's process.
        driver: versions of the driver's process.

    Raises:
        ClusterError: Keisei Ray, Ray or the first two numbers of Python differ.
    """
    if _decisive(here) != _decisive(driver):
        raise ClusterError(
            f"node {node} runs {here}, expected what the driver runs: {driver}. {_WHAT_TO_DO}"
        )


def missing_package(error: BaseException) -> ClusterError | None:
    """Recognises a node that lacks a package, or a part of one, that the actor needs.

    Args:
        error: as Ray raises it in the driver, for a call or for the actor's construction.

    Returns:
        The error to raise instead, or None if `error` is about something else.
    """
    text = str(error)
    lacking = _LACKING.search(text)
    if lacking is None:
        return None
    found = _NODE.search(text)
    return ClusterError(
        f"node {found[1] if found else '(unknown)'} cannot start an actor: {lacking[0]}; expected "
        f"there what the driver runs: {own_versions()}, and its packages. {_WHAT_TO_DO}"
    )


def _decisive(versions: Versions) -> tuple[str, str, list[str]]:
    return versions.keisei_ray, versions.ray, versions.python.split(".")[:2]

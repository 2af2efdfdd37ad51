"""The `checkpoints` command: which checkpoints a run has, and whether they are whole.

Everything is read from the files. Without `--verify` only manifests and sizes are compared, which
does not notice a changed byte.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from keisei_ray.errors import CheckpointError
from keisei_ray.status.screen import table_lines
from keisei_ray.storage import checkpoint
from keisei_ray.storage.manifest import read_manifest
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, MANIFEST_FILE, SUPERSEDED
from keisei_ray.telemetry.reports import Rating
from keisei_ray.telemetry.visible_text import shortened
from keisei_ray.tracking.evaluation_records import ratings_by_version
from keisei_ray.tracking.terminal.draw import row
from keisei_ray.tracking.terminal.panels import elo_text
from keisei_ray.tracking.terminal.text import duration, figure

HEAD: Final = ("CHECKPOINT", "TIMESTEP", "SIZE", "AGE", "HEALTH", "ELO", "VERDICT")


@dataclass(frozen=True)
class ListedCheckpoint:
    """One checkpoint of a run as it was found. What its manifest does not tell is None."""

    path: str
    timestep: int | None
    weights_version: int | None
    bytes: int
    """Size of its files."""
    age_s: float | None
    """Seconds since its manifest was written."""
    health: str | None
    """Health of its weights, `healthy` or the objection; None if its program did not say."""
    rating: Rating | None
    """Rating of exactly these weights; None if they have not been evaluated."""
    is_verified: bool
    """Whether every byte was read and compared with the manifest."""
    problem: str | None
    """Reason why it cannot be resumed from; None if none was found."""

    @property
    def verdict(self) -> str:
        """Result of the look at it, in words."""
        if self.problem is not None:
            return f"unusable: {self.problem}"
        return "verified" if self.is_verified else "complete"


def show_checkpoints(run_dir: Path, console: Console, *, verify: bool) -> list[ListedCheckpoint]:
    """Draws a table of a run's checkpoints and returns them, oldest first.

    Args:
        run_dir: directory of a run.
        console: where to draw.
        verify: whether to read every byte.

    Raises:
        RunDirError: the directory or the ratings cannot be read.
    """
    found = list_checkpoints(run_dir, time.time(), verify=verify)
    for line in checkpoint_lines(run_dir, found):
        console.print(line, soft_wrap=True)
    return found


def list_checkpoints(run_dir: Path, now_s: float, *, verify: bool) -> list[ListedCheckpoint]:
    """Returns the checkpoints of a run, oldest first; those that a resume has set aside come last.

    Args:
        run_dir: directory of a run.
        now_s: seconds since 1970.
        verify: whether to read every byte.

    Raises:
        RunDirError: the directory or the ratings cannot be read.
    """
    ratings = ratings_by_version(run_dir)
    paths = checkpoint.list_all(run_dir / CHECKPOINTS_DIR)
    found = [_listed(path, ratings, now_s, verify=verify) for path in paths]
    # The run may delete one meanwhile.
    return [listed for listed in found if Path(listed.path).is_dir()]


def checkpoint_lines(run_dir: Path, found: Sequence[ListedCheckpoint]) -> list[Text]:
    """Returns the table, a line for each checkpoint. Nothing is cut."""
    if not found:
        return [row(f"{run_dir} has no checkpoint yet")]
    return table_lines(HEAD, [_cells(listed) for listed in found])


def as_json(run_dir: Path, found: Sequence[ListedCheckpoint]) -> dict[str, object]:
    """Returns the list as JSON types."""
    rows = [asdict(listed) | {"verdict": listed.verdict} for listed in found]
    return {"run_dir": str(run_dir), "checkpoints": rows}


def refuse_unusable(found: Sequence[ListedCheckpoint]) -> None:
    """Raises an error that counts the unusable checkpoints, if there are any.

    Raises:
        CheckpointError: at least one is unusable.
    """
    unusable = [listed for listed in found if listed.problem is not None]
    if unusable:
        raise CheckpointError(
            f"{len(unusable)} of {len(found)} checkpoints cannot be used, such as "
            f"{unusable[-1].path}: {unusable[-1].problem} Resume from one that is verified; "
            "--resume latest passes damaged ones over."
        )


def _listed(
    path: Path, ratings: Mapping[int, Rating], now_s: float, *, verify: bool
) -> ListedCheckpoint:
    problem = None
    try:
        if verify:
            checkpoint.load(path)
        else:
            checkpoint.check_sizes(path)
    except CheckpointError as error:
        problem = str(error).removeprefix(f"{path}/")
    manifest = _manifest(path)
    info = manifest.get("info", {})
    version, health = info.get("weights_version"), info.get(checkpoint.HEALTH)
    # The course that was set aside had weights of the same versions, which nothing has rated.
    is_set_aside = path.name.startswith(SUPERSEDED)
    return ListedCheckpoint(
        path=str(path),
        timestep=manifest.get("timestep"),
        weights_version=version if isinstance(version, int) else None,
        bytes=_bytes(path),
        age_s=_age_s(path, now_s),
        health=shortened(health) if isinstance(health, str) else None,
        rating=None if is_set_aside or not isinstance(version, int) else ratings.get(version),
        is_verified=verify and problem is None,
        problem=problem,
    )


def _manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest of a checkpoint, empty if it does not verify."""
    try:
        return read_manifest(path)
    except CheckpointError:
        return {}


def _bytes(path: Path) -> int:
    """Returns the size of a checkpoint's files, as far as they can be seen."""
    try:
        return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    except OSError:
        return 0  # Nothing may be read there, or the run has just deleted it.


def _age_s(path: Path, now_s: float) -> float | None:
    try:
        return max(0.0, now_s - (path / MANIFEST_FILE).stat().st_mtime)
    except OSError:
        return None


def _cells(listed: ListedCheckpoint) -> tuple[str, ...]:
    return (
        Path(listed.path).name,
        figure(listed.timestep, ","),
        size_text(listed.bytes),
        duration(listed.age_s),
        listed.health or "-",
        elo_text(listed.rating),
        listed.verdict,
    )


def size_text(num_bytes: int) -> str:
    """Returns a size in its largest unit: "812 B", "1.4 MB"."""
    size, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.95 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"

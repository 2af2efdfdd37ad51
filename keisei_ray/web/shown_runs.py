"""Directories of the runs that are shown, each with a name for addresses.

A name is made here and looked up in a table, so an address cannot lead to another directory.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from keisei_ray.errors import RunDirError
from keisei_ray.status.command import RUN_FILES
from keisei_ray.storage.run_dirs import runs_dir

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class ShownRuns:
    """Runs that are shown: those that were named, or all under `runs/`, new ones included."""

    def __init__(self, named: Sequence[str], uris: Mapping[Path, str] | None = None) -> None:
        """Finds the runs.

        Args:
            named: directories, each of a run or with runs in it; none: `runs/`.
            uris: URI of the run that a directory is a copy of, where it is one.

        Raises:
            RunDirError: a named directory is neither, or cannot be read.
        """
        self._uris = dict(uris or {})
        self._roots = [Path(name) for name in named] or [runs_dir()]
        self._by_name: dict[str, Path] = {}
        self.refresh()
        for name in named:
            if not _runs_of(Path(name)):
                raise RunDirError(
                    f"{name} is not the directory of a run and has none in it. Name one that "
                    "training has made, or a directory with several, such as runs/."
                )

    def refresh(self) -> dict[str, Path]:
        """Returns name -> directory, newly looked up; a run keeps its name while it exists.

        Raises:
            RunDirError: a directory cannot be read.
        """
        found = list(dict.fromkeys(path for root in self._roots for path in _runs_of(root)))
        known = {path: name for name, path in self._by_name.items() if path in found}
        for path in found:
            known.setdefault(path, _new_name(path, set(known.values())))
        self._by_name = {known[path]: path for path in found}
        return dict(self._by_name)

    def current(self) -> dict[str, Path]:
        """Returns name -> directory as of the last `refresh`."""
        return dict(self._by_name)

    def place(self, path: Path) -> str:
        """Returns where a run is, for people: its directory, or its URI."""
        return self._uris.get(path, str(path))

    def uri(self, path: Path) -> str | None:
        """Returns the URI of the run that a directory is a copy of; None: it is the run itself."""
        return self._uris.get(path)

    def newest_first(self) -> list[str]:
        """Returns the names of the runs, those first whose directory was changed last."""

        def changed_s(name: str) -> float:
            try:
                return self._by_name[name].stat().st_mtime
            except OSError:
                return 0.0

        return sorted(self._by_name, key=changed_s, reverse=True)

    def path(self, name: str) -> Path:
        """Returns the directory of the run with a name.

        Raises:
            HTTPNotFound: there is no such run, or it has been deleted.
        """
        path = self._by_name.get(name)
        if path is None or not path.is_dir():
            raise web.HTTPNotFound(text=f"there is no run {name[:100]!r} here (any more)")
        return path


def _runs_of(root: Path) -> list[Path]:
    """Returns the run that a directory is, or else those in it, by name."""
    try:
        if _is_run(root):
            return [root]
        return sorted(path for path in root.iterdir() if path.is_dir() and _is_run(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RunDirError(f"{root} cannot be read: {error.strerror}.") from error


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in RUN_FILES)


def _new_name(path: Path, taken: set[str]) -> str:
    """Returns a name for addresses that is not taken: the directory's, without odd characters."""
    name = _UNSAFE.sub("_", path.resolve().name).strip(".") or "run"
    candidates = [name, *(f"{name}-{n}" for n in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)

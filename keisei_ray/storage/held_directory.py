"""A directory that is held open, so that it is found again when it has been moved or deleted."""

import itertools
import os
from pathlib import Path

from keisei_ray.errors import RunDirError


class HeldDirectory:
    """A directory and a descriptor of it, which stays with it whatever happens to its path."""

    def __init__(self, path: Path) -> None:
        """Opens the directory. On systems that cannot, it always counts as in place.

        Raises:
            OSError: there is none.
        """
        self.path = path
        self._descriptor = None if os.name == "nt" else os.open(path, os.O_RDONLY)

    def is_in_place(self) -> bool:
        """Returns whether the path is still this directory; also where that cannot be told."""
        if self._descriptor is None:
            return True
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # A file system that does not answer says nothing about the directory.

    def now_at(self) -> Path | None:
        """Returns where the directory is now; None if it has been deleted, or cannot be found."""
        if self._descriptor is None or self.is_in_place():
            return self.path
        try:
            found = Path(os.readlink(f"/proc/self/fd/{self._descriptor}"))
            is_same = os.path.samestat(found.stat(), os.fstat(self._descriptor))
        except OSError:
            return None
        return found if is_same else None

    def make_successor(self) -> Path:
        """Makes a directory in place of one that was deleted; beside it if its path is taken.

        Raises:
            RunDirError: none can be made.
        """
        for number in itertools.count():
            name = f"{self.path.name}.rescued-{number}" if number else self.path.name
            path = self.path.with_name(name)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise RunDirError(
                    f"{self.path} has been deleted, and {path} cannot be made: {error.strerror}. "
                    "The newest update is not saved."
                ) from error
            return path
        raise AssertionError("itertools.count() ends")

    def close(self) -> None:
        """Closes the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)

"""Consoles that write to memory, and a clock that a test sets."""

import io

from rich.console import Console


def plain_console(**settings: object) -> Console:
    """Returns a console that writes to memory."""
    return Console(file=io.StringIO(), **settings)  # type: ignore[arg-type]


def written(console: Console) -> str:
    """Returns everything that a plain console has written."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Clock:
    """A clock whose seconds pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

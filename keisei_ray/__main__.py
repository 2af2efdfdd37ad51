"""`python -m keisei_ray`, `run.py` and the console scripts: the first and last moment.

The command line is imported inside a function, since that takes a second and Ctrl-C may come in it.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from keisei_ray.invocation import PACKAGE, python


def entry_point(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code.

    Args:
        arguments: what was typed; None: that of the process.
    """
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A name in Japanese on a terminal that knows ASCII only is shown as \uXXXX.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Of the BLAS of numpy, which only the rating table uses. Threads of it that wait for each other
    # on busy cores take 14 s for 120 versions; one alone takes 0.15 s (two cores, 2026-11-26).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # Else the caller has it ignored.
        signal.signal(signal.SIGINT, _leave)
    try:
        from keisei_ray.cli import main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(PACKAGE):
            raise
        sys.stderr.write(
            f"InstallationError: this Python ({sys.executable}) has no package {error.name!r}. "
            "Expected the Python that the program is installed for, e.g. .venv/bin/python run.py. "
            f"Use that one, or install it here: {python()} -m pip install -c constraints.txt -e .\n"
        )
        sys.exit(2)
    signal.signal(signal.SIGINT, handler)
    sys.exit(main(sys.argv[1:] if arguments is None else arguments))


def usi_entry_point() -> None:
    """Runs the command `usi`, as a program that a shogi GUI can be pointed at."""
    entry_point(["usi", *sys.argv[1:]])


def _replace_closed_streams() -> None:
    """Opens the null device for each standard stream that is closed; errors then go to stdout.

    Else the next file that is opened would get the stream's number, and what is written to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest free number, which is this one.
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = sys.stdout


def _leave(signum: int, frame: FrameType | None) -> None:
    """Ends the process at once; an exception in the middle of an import may be swallowed there."""
    del signum, frame
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    entry_point()

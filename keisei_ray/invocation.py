"""The command that this program was started by, for the commands that it prints.

They are to be pasted: `python run.py` is another Python where no virtual environment is active.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PACKAGE: Final = "keisei_ray"
CONSOLE_SCRIPT: Final = "keisei-ray"


def program() -> str:
    """Returns what starts this program again, for a shell: `.venv/bin/python run.py`."""
    return program_of(sys.orig_argv, sys.argv[0])


def python() -> str:
    """Returns what starts this Python again, for a shell."""
    return shlex.quote(sys.orig_argv[0] or sys.executable)


def program_of(typed: Sequence[str], script: str) -> str:
    """Returns the command of a process, without what the program itself was asked for.

    Args:
        typed: the interpreter as it was called, and its arguments (`sys.orig_argv`).
        script: file that the interpreter runs (`sys.argv[0]`).

    Returns:
        Words for a shell. `python run.py` where another program has started this one, as a library.
    """
    path = Path(script)
    if path.name == "run.py":
        return shlex.join([typed[0], script])
    if path.name == "__main__.py" and path.parent.name == PACKAGE:
        return shlex.join([typed[0], "-m", PACKAGE])
    if path.name == CONSOLE_SCRIPT:
        found = shutil.which(CONSOLE_SCRIPT)
        is_found = found is not None and os.path.abspath(found) == os.path.abspath(script)
        return shlex.quote(CONSOLE_SCRIPT if is_found else script)
    return "python run.py"

"""Whether torch can compile networks for a GPU of this machine."""

import logging
import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)
_COMPILERS = ("gcc", "clang", "cc")
"""Compilers that triton looks for if the environment names none."""


def can_compile() -> bool:
    """Returns whether torch.compile can make kernels for a GPU here; logs what is missing."""
    compiler = os.environ.get("CC")
    needs = {
        "the package triton": find_spec("triton") is not None,
        "a C compiler": any(
            shutil.which(name) for name in ([compiler] if compiler else _COMPILERS)
        ),
        "Python.h": (Path(sysconfig.get_path("include")) / "Python.h").is_file(),
    }
    missing = [what for what, is_there in needs.items() if not is_there]
    if missing:
        logger.warning(
            "networks are not compiled, which is slower: no %s", " and no ".join(missing)
        )
    return not missing

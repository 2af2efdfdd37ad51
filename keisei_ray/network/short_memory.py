"""Errors by which torch and numpy say that memory is short, on a device or on the host.

They are about the machine at this moment, and never about the file that was being read: a file is
not damaged because there was no room for its content.
"""

from typing import Final

import torch

_TEXTS: Final = ("out of memory", "defaultcpuallocator", "_status_alloc_failed")
"""Parts of a plain RuntimeError of torch that says so, in small letters: of CUDA, of the allocator
on the CPU, and of cuBLAS or cuDNN."""
_ADVICE: Final = ("Of the allocated memory", "CUDA kernel errors might")
"""Beginnings of what torch adds for programmers."""


def is_short_of_memory(error: BaseException) -> bool:
    """Returns whether an exception says that memory does not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _TEXTS)


def shortage(error: BaseException) -> str:
    """Returns the message of such an exception in one line, without advice and last period."""
    text = str(error) or type(error).__name__
    for advice in _ADVICE:
        text = text.partition(advice)[0]
    return " ".join(text.split())[:300].rstrip(".")

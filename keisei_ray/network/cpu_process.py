"""Settings of a process that computes networks on the CPU."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, see its manual page."""
LARGEST_MMAP_THRESHOLD = 32 << 20
"""Largest value of M_MMAP_THRESHOLD that glibc takes on 64 bits."""
NEVER_TRIM = (1 << 31) - 1


def prepare_cpu(num_threads: int) -> None:
    """Sets torch's threads, and keeps the memory of one pass for the next.

    Args:
        num_threads: threads of one operation in the thread that calls this.
    """
    import torch  # Not needed for the memory, and slow to import.

    torch.set_num_threads(num_threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Lets the C library keep freed memory; returns whether it does.

    Otherwise the activations of every pass are given back to the operating system and fetched
    again, page by page, which threads of one process wait for one after the other. The process
    stays as large as it ever was. Only glibc has this; elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    values = {M_MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD, M_TRIM_THRESHOLD: NEVER_TRIM}
    taken = [int(mallopt(key, value)) for key, value in values.items()]
    return all(taken)

"""Number formats that this machine's processor computes fast, by the features that it lists.

Decided by features and not by a timing, so that the same machine always decides the same.
"""

from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")
"""List of the processor's features, on Linux."""
BF16_FEATURES: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Features of x86 and, the last, of ARM, each of which multiplies bfloat16 numbers natively.
Without one of them bfloat16 is slower than float32, on AVX2 five times."""


def has_bf16() -> bool:
    """Returns whether this machine's processor has instructions for bfloat16; False if unknown."""
    try:
        return lists_bf16(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False


def lists_bf16(cpuinfo: str) -> bool:
    """Returns whether each core in the content of `/proc/cpuinfo` has such a feature."""
    cores = [
        set(features.split())
        for name, _, features in (line.partition(":") for line in cpuinfo.splitlines())
        if name.strip().lower() in ("flags", "features")
    ]
    return bool(cores) and all(core & BF16_FEATURES for core in cores)

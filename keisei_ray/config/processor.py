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
INTEL: Final = "GenuineIntel"
SLOW_ON_INTEL: Final = frozenset({"avx512_bf16"})
"""Features that do not make bfloat16 fast there: without amx_bf16 it took 1.5 to 1.8 times as long
as float32 (benchmarks/SPEED.md). On AMD Zen 5 it takes half as long."""


def has_bf16() -> bool:
    """Returns whether this machine's processor has instructions for bfloat16; False if unknown."""
    try:
        return lists_bf16(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False


def lists_bf16(cpuinfo: str) -> bool:
    """Returns whether each core in the content of `/proc/cpuinfo` has a feature for it."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    cores = [
        set(features.split())
        for name, _, features in lines
        if name.strip().lower() in ("flags", "features")
    ]
    is_intel = any(name.strip() == "vendor_id" and INTEL in vendor for name, _, vendor in lines)
    fast = BF16_FEATURES - SLOW_ON_INTEL if is_intel else BF16_FEATURES
    return bool(cores) and all(core & fast for core in cores)

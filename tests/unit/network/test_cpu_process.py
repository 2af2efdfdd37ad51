"""Settings of a process that computes on the CPU."""

import ctypes
import platform
import subprocess
import sys

import pytest

from keisei_ray.network.cpu_process import keep_freed_memory

PASSES = """
import resource, sys
import numpy as np
from keisei_ray.network.cpu_process import keep_freed_memory

def faults(passes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(passes):
        kept = [np.ones(n << 17) for n in range(1, 12)]  # 1 to 11 MiB, 66 MiB together.
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(3)
before = faults(10)
assert keep_freed_memory()
faults(3)
print(before, faults(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_the_memory_of_a_pass_serves_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", PASSES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before > 10_000  # Pages of 4 KiB: 16,896 in each pass.
    assert after < 1000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()

"""Waits until a running Ray cluster has so many CPUs: `python cluster/wait_for_cpus.py 64`.

A run divides the CPUs that are there when it starts among its actors and is sized by them, so it
should start when all its nodes are up. Finds the cluster as `run.py` does, by RAY_ADDRESS.

Exit codes: 0 they are there; 1 they did not come in time, or there is no cluster. The cluster is
left as it is.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable

import ray

POLL_S = 2.0


def wait_for_cpus(
    wanted: float,
    timeout_s: float,
    *,
    count: Callable[[], float],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], object] = lambda text: None,
) -> float:
    """Blocks until there are enough CPUs or the time is over.

    Args:
        wanted: CPUs to wait for.
        timeout_s: the longest to wait; the count is taken once at least.
        count: the cluster's CPUs now.
        clock: monotonic seconds.
        sleep: waits so many seconds.
        say: called with a line when the waiting begins, and when the number of CPUs changes.

    Returns:
        The CPUs that were there when it stopped waiting.
    """
    deadline = clock() + timeout_s
    said = -1.0
    while (there := count()) < wanted and clock() < deadline:
        if there != said:
            left_s = deadline - clock()
            say(f"{there:g} of {wanted:g} CPUs are there; waiting {left_s:.0f} s at most")
            said = there
        sleep(POLL_S)
    return there


def main() -> int:
    """Joins the cluster, waits, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cpus", type=float, help="CPUs to wait for")
    parser.add_argument("--timeout-s", type=float, default=900.0, help="the longest to wait")
    options = parser.parse_args()
    try:
        with ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR):
            there = wait_for_cpus(
                options.cpus,
                options.timeout_s,
                count=lambda: ray.cluster_resources().get("CPU", 0.0),
                say=lambda text: sys.stderr.write(f"wait_for_cpus: {text}\n"),
            )
    except ConnectionError:
        sys.stderr.write(
            "wait_for_cpus: no Ray cluster here and none at RAY_ADDRESS. Start it, or run this on "
            "one of its nodes.\n"
        )
        return 1
    enough = there >= options.cpus
    if not enough:
        sys.stderr.write(
            f"wait_for_cpus: the cluster has {there:g} CPUs after {options.timeout_s:g} s, "
            f"expected {options.cpus:g}. Look at `ray status`, or ask for fewer.\n"
        )
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())

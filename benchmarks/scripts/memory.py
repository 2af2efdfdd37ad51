"""Does memory stay flat? Memory of each process of a run, at points along its updates.

    python benchmarks/scripts/memory.py [--updates N] [--config F] [--set KEY=VALUE] [--json F]

Trains in a temporary directory, without background evaluation, and reads how much memory the
driver, the learner and the actors have (Uss: what is freed when the process ends, shared memory of
the object store left out). The first tenth is warm-up: what grows after it is printed for each
process, in MB per 1,000 updates.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
MB = 2**20
NUM_POINTS = 20
ROLES = {"LearnerShell": "learner", "SelfPlayShell": "actor"}


def main() -> None:
    """Prints a line for each point, then the growth of each process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--config", default="configs/debug.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    changes = [f"--set={change}" for change in options.set]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "run.py", "--config", options.config, "--run-dir", f"{folder}/run"),
            *("--total-timesteps", str(10**12), "--set=tracking.view=none"),
            *("--set=evaluation.interval_timesteps=null", *changes),
        ]
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            points = measure(psutil.Process(run.pid), Path(folder, "run"), options.updates)
        finally:
            run.terminate()
            run.wait()
    for process, growth in growths(points).items():
        print(f"{process}: {growth:+.2f} MB in 1,000 updates")
    if options.json:
        options.json.write_text(json.dumps({"config": options.config, "points": points}, indent=1))


def measure(driver: psutil.Process, run_dir: Path, updates: int) -> list[dict[str, float]]:
    """Returns the memory of each process in MB at points along the updates, and prints it.

    Args:
        driver: process of `run.py`.
        run_dir: its run directory.
        updates: update at which to end.
    """
    points: list[dict[str, float]] = []
    metrics = run_dir / "metrics.jsonl"
    while not points or points[-1]["update"] < updates:
        time.sleep(0.2)
        done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        if done >= updates * (len(points) + 1) / NUM_POINTS:
            points.append({"update": done} | memory(driver))
            print("  ".join(f"{name} {value:,.0f}" for name, value in points[-1].items()))
    return points


def memory(driver: psutil.Process) -> dict[str, float]:
    """Returns MB of the driver, the learner and each actor, by their names."""
    found = {"driver": driver.memory_full_info().uss / MB}
    for process in driver.children(recursive=True):
        role = next((role for shell, role in ROLES.items() if shell in process.name()), None)
        if role is not None:
            number = sum(name.startswith(role) for name in found)
            found[f"{role} {number}"] = process.memory_full_info().uss / MB
    return found


def growths(points: list[dict[str, float]]) -> dict[str, float]:
    """Returns MB per 1,000 updates of each process, by least squares after the first tenth."""
    later = [point for point in points if point["update"] > points[-1]["update"] / 10]
    mean_update = sum(point["update"] for point in later) / len(later)
    spread = sum((point["update"] - mean_update) ** 2 for point in later)
    return {
        process: 1000
        * sum((point["update"] - mean_update) * point[process] for point in later)
        / spread
        for process in points[-1]
        if process != "update"
    }


if __name__ == "__main__":
    main()

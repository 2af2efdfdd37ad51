"""Runs for the tests of `status` and `watch`: a run directory of known times, and its records."""

import json
import os
import time
from pathlib import Path
from typing import Any

from keisei_ray.status.liveness import DRIVER_FILES

BEGAN_S = 1_767_225_600.0
"""When the runs made here begin: 2026-01-01 00:00 UTC."""


def written_at(run_dir: Path, time_s: float) -> Path:
    for name in DRIVER_FILES:
        if (run_dir / name).exists():
            os.utime(run_dir / name, (time_s, time_s))
    return run_dir


def append(path: Path, *records: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)


def event_at(after_s: float, kind: str, **fields: object) -> dict[str, object]:
    """A record of `events.jsonl`."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BEGAN_S + after_s))
    return {"time": f"{stamp}.000+00:00", "kind": kind} | fields


def ended_at(after_s: float, reason: str, **fields: object) -> dict[str, object]:
    end = {"reason": reason, "timestep": 20_000, "checkpoint": None, "wall_time_s": after_s}
    return event_at(after_s, "run_ended", **end, **fields)

"""Writes `profile/` in a run's directory: traces as they arrive, Ray's timeline at the end.

Open them in https://ui.perfetto.dev or chrome://tracing.
"""

import gzip
import json
import logging
from pathlib import Path

import ray

from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import PROFILE_DIR, TIMELINE_FILE
from keisei_ray.telemetry import events as ev


class ProfileFiles:
    """Subscriber that writes the traces and the timeline. Ray must be up until it is closed."""

    def __init__(self, run_dir: Path) -> None:
        """Remembers the directory, which is created with the first file."""
        self._dir = run_dir / PROFILE_DIR

    def handle(self, event: ev.Event) -> None:
        """Writes the traces that came with an update.

        Raises:
            OSError: a file could not be written.
        """
        if isinstance(event, ev.UpdateDiagnosed):
            for trace in event.traces:
                self._write(trace.name, gzip.decompress(trace.content))

    def close(self) -> None:
        """Saves the timeline of the tasks that Ray has run, as far as Ray remembers them.

        Blocks for a second or more.

        Raises:
            OSError: the file could not be written.
            RayError: Ray did not return the timeline.
        """
        # Ray warns that a later version will ask its dashboard, which no user can act on.
        logging.getLogger("ray._private.state").setLevel(logging.ERROR)
        self._write(TIMELINE_FILE, json.dumps(ray.timeline()).encode())

    def _write(self, name: str, content: bytes) -> None:
        self._dir.mkdir(exist_ok=True)
        write_atomically(self._dir / name, content)

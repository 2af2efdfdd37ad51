"""The standby process: waits beside a driver and saves its run if it ends without saying so.

`standby.py` starts it and says what it is for. Until it is needed it loads little more than the
standard library and takes 13 MB besides the state that it holds.

The driver sends, on a socket:

    STATE and a file    the state of the newest finished update, answered by TAKEN
    ENDED               the run has ended in order, or is not to be saved

The end of the socket without ENDED is the end of the driver. So is another parent of this process:
one that the driver has forked holds the socket open.
"""

import contextlib
import json
import logging
import os
import shlex
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from keisei_ray.errors import KeiseiError
from keisei_ray.storage.held_directory import HeldDirectory
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, EVENTS_FILE, LOCK_FILE

if TYPE_CHECKING:
    from keisei_ray.training.saved_run import RunState

STATE: Final = b"S"
ENDED: Final = b"E"
TAKEN: Final = b"T"
LOOK_S: Final = 1.0
"""Seconds between two looks whether the driver lives."""
_NOT_SAVED: Final = "What it learned since its newest checkpoint could not be saved"
SAY_S: Final = 5.0
"""Seconds after which a standard error that takes nothing is given up."""


def main(settings: str) -> None:
    """Waits for the end of the driver, and saves the run if there is something to be saved.

    Args:
        settings: JSON with `socket` (number of the open socket), `run_dir`, `name` (of the run on
            the command line), `pid` (the driver's), `token` (of the driver's lock) and `keep` (JSON
            of the checkpoint section).
    """
    # The signals that end a run are for its driver, and may be sent to all of its processes.
    # SIGTTOU halts what writes to its terminal from the background, after `stty tostop`.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_IGN)
    given = json.loads(settings)
    directory = HeldDirectory(Path(given["run_dir"]))
    state = _state_at_the_end(socket.socket(fileno=given["socket"]), given["pid"])
    if state is None:
        return
    try:
        told = _rescue(state, directory, given)
    except Exception as error:  # noqa: BLE001  a program that was changed under the run, too
        told = f"{_NOT_SAVED}: {type(error).__name__}: {error}"
    if told is not None:
        _say(f"{ended_without_a_word(given['pid'])}. {told}\n")


def ended_without_a_word(pid: int) -> str:
    """Returns a sentence about a driver's end, without its full stop."""
    return (
        f"The training process ({pid}) has ended without a word: killed, out of memory, or by Ray "
        "after the end of its raylet"
    )


def _state_at_the_end(driver: socket.socket, pid: int) -> int | None:
    """Takes states until the driver has ended.

    Args:
        driver: the socket to it.
        pid: its number; it is the parent of this process.

    Returns:
        A file with the newest state; None if the run has ended in order.
    """
    newest: int | None = None
    driver.settimeout(LOOK_S)
    while True:
        try:
            message, files, _, _ = socket.recv_fds(driver, 1, 1)
        except TimeoutError:
            if os.getppid() != pid:
                return newest
            continue
        except OSError:
            return newest
        if message == ENDED:
            return None
        if message != STATE:
            return newest
        if newest is not None:
            os.close(newest)
        (newest,) = files
        with contextlib.suppress(OSError):  # Then the next message is the end.
            driver.sendall(TAKEN)


def _rescue(state_file: int, directory: HeldDirectory, given: dict[str, Any]) -> str | None:
    """Saves a checkpoint, unless the disk has one as new, and records the end of the run.

    Returns:
        What was saved, or why nothing was; None if the end of the run is on record, or the run is
        another process's.

    Raises:
        KeiseiError, OSError: the directory cannot be made or read.
    """
    from keisei_ray.config.sections import CheckpointConfig
    from keisei_ray.storage import checkpoint
    from keisei_ray.storage.counted_records import sync_records
    from keisei_ray.storage.run_layout import timestep_of
    from keisei_ray.storage.run_lock import owner_at
    from keisei_ray.training.saved_run import unpack_state, write_state

    logging.getLogger().addHandler(logging.NullHandler())  # One line is said, by `main`.
    run_dir = directory.now_at() or directory.make_successor()
    owner = owner_at(run_dir / LOCK_FILE)
    if (owner is not None and owner.token != given["token"]) or _is_ended(run_dir):
        return None
    with open(state_file, "rb") as file:
        file.seek(0)
        state = unpack_state(file.read())
    path, told = None, ""
    try:
        path = checkpoint.newest(run_dir / CHECKPOINTS_DIR)
        if path is None or timestep_of(path.name) < state.timestep:
            sync_records(run_dir)
            path = write_state(run_dir, state, CheckpointConfig.model_validate_json(given["keep"]))
        name = given["name"] if run_dir == directory.path else str(run_dir)
        told = (
            f"What it learned up to timestep {timestep_of(path.name):,} is saved. Go on with "
            f"--run-dir {shlex.quote(name)} --resume latest."
        )
    except (KeiseiError, OSError) as error:
        told = f"{_NOT_SAVED}: {error}"
    with contextlib.suppress(KeiseiError, OSError):
        _record_end(run_dir, state, path, f"{ended_without_a_word(given['pid'])}. {told}")
    return told


def _is_ended(run_dir: Path) -> bool:
    """Returns whether the end of the run's newest session is on record."""
    from keisei_ray.storage.json_lines import last_record

    last = last_record(run_dir / EVENTS_FILE)
    return last is not None and last.get("kind") == "run_ended"


def _record_end(run_dir: Path, state: "RunState", path: Path | None, cause: str) -> None:
    """Appends the run's last event.

    Args:
        run_dir: directory of the run.
        state: of its newest update.
        path: its newest checkpoint; None if there is none.
        cause: of its end.
    """
    from keisei_ray.storage.json_lines_writer import JsonLinesWriter
    from keisei_ray.storage.run_layout import PROGRESS_FILE, timestep_of
    from keisei_ray.telemetry.events import RunEnded
    from keisei_ray.telemetry.progress import Progress
    from keisei_ray.tracking.recorders import event_record

    timestep = max(state.timestep, timestep_of(path.name) if path else 0)
    wall_time_s = Progress.from_json(state.files[PROGRESS_FILE]).wall_time_s
    checkpoint = str(path) if path else None
    record = event_record(RunEnded("failed", timestep, checkpoint, wall_time_s, cause), time.time)
    assert record is not None
    lines = JsonLinesWriter(run_dir / EVENTS_FILE, resumed_timestep=timestep, is_cut=False)
    lines.append(record)
    lines.close()


def _say(text: str) -> None:
    """Writes to standard error, and goes on if nothing takes it."""
    writing = threading.Thread(target=_write, args=(text.encode(errors="replace"),), daemon=True)
    writing.start()
    writing.join(SAY_S)


def _write(text: bytes) -> None:
    """Writes to standard error, without a buffer that the end of Python would wait for."""
    with contextlib.suppress(OSError):
        os.write(2, text)

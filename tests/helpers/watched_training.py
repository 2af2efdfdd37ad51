"""A cluster of a test's own, and `run.py` on it, watched through the files of its run."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from ray.experimental import internal_kv

from tests.helpers.program import DEBUG_CONFIG, PATIENCE_S, json_records, start_program

NOTICES_DEATHS_SOON = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""Environment of a Ray head that declares a node dead after three seconds without an answer."""
STORE = 100 * 2**20
"""Bytes of a node's object store."""


@contextlib.contextmanager
def head(num_cpus: int) -> Iterator[Cluster]:
    """The head of a cluster beside the one that this process may be connected to.

    Ray makes the key-value store of the newest head that of the process, and forgets it at its end.
    """
    connected_to: Any = internal_kv.global_gcs_client
    arguments = {
        "num_cpus": num_cpus, "object_store_memory": STORE, "include_dashboard": False,
    }  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    try:
        yield cluster
    finally:
        cluster.shutdown()
        if connected_to is not None:
            internal_kv._initialize_internal_kv(connected_to)


class WatchedTraining:
    """A training process that trains until it is asked to stop.

    Args:
        address: of the cluster.
        run_dir: its run directory.
        arguments: further arguments of `run.py train`.
        before: a command that runs it, for instance `ip netns exec NAME`.
    """

    def __init__(
        self, address: str, run_dir: Path, *arguments: str, before: Sequence[str] = ()
    ) -> None:
        self.run_dir = run_dir
        self.process = start_program(
            "--config", DEBUG_CONFIG, "--address", address, "--run-dir", str(run_dir),
            "--total-timesteps", "100000000", "--set", "tracking.view=none",
            "--set", "evaluation.interval_timesteps=null",
            *arguments,
            cwd=run_dir.parent, before=before, RAY_AUTH_MODE="disabled",
        )  # fmt: skip

    def records(self, name: str) -> list[dict[str, Any]]:
        """Returns the records of one of the run's JSON lines files."""
        return json_records(self.run_dir / name)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Returns the run's events of one kind."""
        return [record for record in self.records("events.jsonl") if record["kind"] == kind]

    def sizes(self) -> list[tuple[int, int]]:
        """Returns (CPUs, wanted actors) at the start and after each change of the cluster."""
        return [(e["num_cpus"], e["num_actors"]) for e in self.events("cluster_changed")]

    def wait_until(self, is_met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits for a new record of metrics.jsonl that meets a condition, and returns it."""
        seen = len(self.records("metrics.jsonl"))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for record in self.records("metrics.jsonl")[seen:]:
                if is_met(record):
                    return record
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, self.records("events.jsonl")[-9:]
            time.sleep(0.1)

    def end(self) -> None:
        """Interrupts the training and checks that its files agree with each other."""
        self.process.send_signal(signal.SIGINT)
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 130, (output, errors)
        assert "Traceback" not in errors
        records, games = self.records("metrics.jsonl"), self.records("games.jsonl")
        progress = json.loads(
            (sorted(self.run_dir.glob("checkpoints/step-*"))[-1] / "progress.json").read_text()
        )
        assert sum(r["batch_timesteps"] for r in records) == progress["timestep"]
        assert [r["weights_version"] for r in records] == list(range(1, len(records) + 1))
        assert len({game["game_id"] for game in games}) == len(games) == progress["games_total"]
        assert max(r["policy_lag_max"] for r in records) <= 1
        assert not [e for e in self.events("notice") if e["level"] == "ERROR"]


@contextlib.contextmanager
def ended_after(run: WatchedTraining) -> Iterator[WatchedTraining]:
    """Ends the training after the block: in order if the block succeeded, by a kill if not."""
    try:
        yield run
        run.end()
    finally:
        run.process.kill()
        run.process.communicate()

"""Runs on disk and at URIs for tests of storage, without a network and without training."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

from keisei_ray.config.schema import Config
from keisei_ray.storage import checkpoint
from keisei_ray.storage.remote.filesystem import Storage
from keisei_ray.storage.remote.remote_run import RemoteRun, local_copy


class InterruptedFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory whose operations call a function of the test first."""

    cachable = False

    def __init__(self, trouble: Callable[[str, str], object] = lambda what, path: None) -> None:
        super().__init__()
        self.trouble = trouble
        self.written: list[str] = []

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self.trouble("write", path)
        super().pipe_file(path, value, **kwargs)
        self.written.append(path)

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self.trouble("list", path)
        return super().find(path, *args, **kwargs)


def new_uri() -> str:
    return f"memory://bucket-{secrets.token_hex(4)}/runs/first"


def remote_run_at(uri: str, fs: Any = None) -> RemoteRun:
    """Returns a run at a URI whose local copy has a configuration and no checkpoint."""
    remote = RemoteRun(Storage(uri, fs or InterruptedFileSystem()), local_copy(uri))
    remote.run_dir.mkdir(parents=True, exist_ok=True)
    config = Config().model_dump_json()
    (remote.run_dir / "config.json").write_text(config)
    return remote


def save(run_dir: Path, *timesteps: int, content: bytes = b"weights") -> None:
    """Saves a checkpoint for each timestep, and metrics records up to them."""
    for timestep in timesteps:
        files = {"model.safetensors": content + b"%d" % timestep, "progress.json": b"{}"}
        checkpoint.save(run_dir / "checkpoints", timestep, files, {"weights_version": timestep})
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.writelines(f'{{"timestep": {timestep}}}\n' for timestep in timesteps)


def step(timestep: int) -> str:
    return f"step-{timestep:012d}"

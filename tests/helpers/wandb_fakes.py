"""A W&B run in memory whose calls can fail or hang."""

from collections.abc import Callable, Mapping
from pathlib import Path

from keisei_ray.tracking.wandb.client import Record, Table


class FakeClient:
    """A W&B run in memory. Each method first calls the function that the test gives for it."""

    def __init__(self, **trouble: Callable[[], object]) -> None:
        self.trouble = trouble
        self.settings: Mapping[str, object] = {}
        self.records: list[Record] = []
        self.tables: list[tuple[str, Table, int]] = []
        self.alerts: list[tuple[str, str, bool]] = []
        self.uploaded: list[tuple[str, int]] = []
        self.attempts = 0
        self.former: int | None = None
        self.exit_code: int | None = None
        self.is_abandoned = False

    def meet(self, method: str) -> None:
        self.trouble.get(method, lambda: None)()

    def start(self, settings: Mapping[str, object]) -> str | None:
        self.meet("start")
        self.settings = settings
        return "https://somewhere/run"

    def former_timestep(self) -> int | None:
        return self.former

    def log(self, record: Record) -> None:
        self.meet("log")
        self.records.append(record)

    def log_table(self, name: str, table: Table, timestep: int) -> None:
        self.tables.append((name, table, timestep))

    def alert(self, title: str, text: str, *, is_error: bool) -> None:
        self.meet("alert")
        self.alerts.append((title, text, is_error))

    def upload(self, checkpoint: Path, timestep: int) -> None:
        self.attempts += 1
        self.meet("upload")
        self.uploaded.append((checkpoint.name, timestep))

    def finish(self, exit_code: int) -> None:
        self.meet("finish")
        self.exit_code = exit_code

    def abandon(self) -> None:
        self.is_abandoned = True


class FailsAtFirst:
    """Callable that raises the first `count` times that it is called."""

    def __init__(self, count: float) -> None:
        self.left = count

    def __call__(self) -> None:
        if self.left > 0:
            self.left -= 1
            raise ConnectionError("503 from https://somewhere")

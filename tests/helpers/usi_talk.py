"""A conversation with the USI engine in this process and one thread, with a network that plays by
chance and jobs that are done when a test says so."""

import numpy as np

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.search.forest import Bytes, Floats
from keisei_ray.search.search import Evaluate
from keisei_ray.usi.engine import Engine
from keisei_ray.usi.messages import Job, Report, Think
from keisei_ray.usi.options import Options
from keisei_ray.usi.thinker import Thinker

MISSING = "no/such/run"
"""Name of a checkpoint that cannot be loaded."""


class Talk:
    """An engine, its client's side, and the jobs that wait.

    Attributes:
        sent: lines that the client has got.
        complaints: lines on standard error.
        jobs: jobs that are not done.
        loads: checkpoints that were loaded.
    """

    def __init__(self, options: Options | None = None, most_evaluations: int = 30) -> None:
        """Args:
        options: values before the client sets any.
        most_evaluations: forward passes after which a search ends, as by a full memory.
        """
        self.sent: list[str] = []
        self.complaints: list[str] = []
        self.jobs: list[Job] = []
        self.loads: list[str] = []
        self._most = most_evaluations
        self._left = 0
        self._job: Think | None = None
        self.breaks = False
        """Whether the network raises."""
        self.most_value, self.draw_prob = 0.5, 0.1
        """Largest value that the network gives, and its probability of a draw everywhere."""
        self.engine = Engine(
            options or Options(hash_mb=16),
            send=self.sent.append,
            complain=self.complaints.append,
            give=self.jobs.append,
        )
        self._reports: list[Report] = []
        self._thinker = Thinker(self._load, self._reports.append)

    def say(self, *lines: str) -> list[str]:
        """Says lines to the engine; returns what it answers at once."""
        before = len(self.sent)
        for line in lines:
            self.engine.take_line(line)
        return self.sent[before:]

    def work(self) -> list[str]:
        """Has all jobs done; returns what the client gets."""
        before = len(self.sent)
        while self.jobs:
            job = self.jobs.pop(0)
            self._job, self._left = job if isinstance(job, Think) else None, self._most
            self._thinker.do(job)
            for report in self._reports:
                self.engine.take_report(report)
            self._reports.clear()
        return self.sent[before:]

    def ask(self, *lines: str) -> str:
        """Says lines, has the work done, and returns the last line that the client gets."""
        before = len(self.sent)
        self.say(*lines)
        self.work()
        assert len(self.sent) > before, "no answer"
        return self.sent[-1]

    def answers(self) -> list[str]:
        """All answers to `go`."""
        return [line for line in self.sent if line.split()[0] in ("bestmove", "checkmate")]

    def _load(self, checkpoint: str, device: str, threads: int) -> tuple[str, Evaluate]:
        if checkpoint == MISSING:
            raise CheckpointError(f"{checkpoint} is missing.")
        self.loads.append(checkpoint)
        return checkpoint, self._evaluate

    def _evaluate(
        self, boards: Bytes, hands: Bytes, scalars: Bytes
    ) -> tuple[Floats, Floats, Floats]:
        if self.breaks:
            raise RuntimeError("broken\nnetwork")
        self._left -= 1
        if self._left <= 0 and self._job is not None:
            self._job.control.is_stopped = True
        rng = np.random.default_rng([*boards.ravel()[:81].tolist()])
        n = len(boards)
        return (
            rng.normal(size=(n, NUM_ACTIONS)).astype(np.float32),
            rng.uniform(-self.most_value, self.most_value, n).astype(np.float32),
            np.full(n, self.draw_prob, np.float32),
        )

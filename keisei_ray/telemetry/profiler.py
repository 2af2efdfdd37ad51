"""torch.profiler around the few calls of a process that the settings name.

Each profiled call gives a Chrome trace. The traces travel to the driver inside reports, so that
only its process writes into the run directory and no disk need be shared. Without profiling a
call costs one comparison more.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keisei_ray.config.sections import ProfileConfig
from keisei_ray.telemetry.reports import Trace

if TYPE_CHECKING:
    from torch._C._profiler import _ExperimentalConfig

Result = TypeVar("Result")


class CallProfiler:
    """Counts the calls of one kind in this process and profiles those that the settings name."""

    def __init__(self, name: str, config: ProfileConfig) -> None:
        """Starts counting at 0.

        Args:
            name: beginning of the trace files' names; the number of the call follows it.
            config: which calls to profile.
        """
        self._name = name
        self._profiled = range(config.first_update, config.first_update + config.updates)
        self._calls = 0

    def run(self, work: Callable[[], Result]) -> tuple[Result, Trace | None]:
        """Runs `work`; returns its result, and its trace if this call is one to profile."""
        self._calls += 1
        if self._calls not in self._profiled:
            return work(), None
        import torch  # Here, so that reports can be read without torch.

        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(
            activities=activities, experimental_config=_all_threads()
        ) as recorded:
            result = work()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "trace.json.gz")
            recorded.export_chrome_trace(str(file))
            return result, Trace(f"{self._name}-{self._calls:06}.json", file.read_bytes())


def _all_threads() -> "_ExperimentalConfig | None":
    """Returns the option to profile all threads; None for an older torch, which has none.

    All but the first of the learner's replicas work in threads of their own; without the option,
    only the caller's thread is seen.
    """
    import torch

    try:
        return torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    except TypeError:
        return None

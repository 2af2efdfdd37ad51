"""An alarm for training that diverges, by the rule of `telemetry/divergence.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keisei_ray.errors import RunDirError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import timestep_of
from keisei_ray.telemetry.divergence import Divergence
from keisei_ray.telemetry.events import Event, Notice, UpdateDiagnosed


@dataclass(frozen=True)
class DivergenceAlarm:
    """Subscriber that warns of what the driver has found, with the way back."""

    publish: Callable[[Event], None]
    """Puts an event on the bus that this subscriber is on."""
    checkpoints_dir: Path
    """Directory of the run's checkpoints; may be missing."""

    def handle(self, event: Event) -> None:
        """Publishes a `Notice` when training has just been found to diverge."""
        if isinstance(event, UpdateDiagnosed) and event.divergence is not None:
            found = event.divergence
            self.publish(
                Notice(
                    f"training diverges at update {found.update}: {found.signs}. Lower "
                    "learner.learning_rate or learner.num_epochs, set learner.target_kl where it "
                    f"is null, and {self._way_back(found)}",
                    "WARNING",
                )
            )

    def _way_back(self, found: Divergence) -> str:
        """Returns the advice on a checkpoint from before the updates that the signs are from."""
        try:
            saved = checkpoint.list_complete(self.checkpoints_dir)
        except RunDirError:
            saved = []
        before = [path for path in saved if timestep_of(path.stem) <= found.sound_until]
        if not before:
            return "begin again: no checkpoint is from before."
        return f"go back to the newest checkpoint from before: --resume {before[-1]}"

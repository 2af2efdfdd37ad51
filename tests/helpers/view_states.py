"""View states of a made-up run."""

from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.terminal.view_state import ViewState, fold


def folded(*events: ev.Event, elapsed_s: float = 0.0) -> ViewState:
    """Returns the view state after events that came a second apart."""
    state = ViewState()
    for i, event in enumerate(events):
        state = fold(state, event, elapsed_s + i)
    return state

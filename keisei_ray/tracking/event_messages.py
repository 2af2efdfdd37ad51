"""Events as one-line messages to the user, the same in the log, the views and `run.py status`."""

from dataclasses import dataclass

from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.terminal.text import one_line


@dataclass(frozen=True)
class Message:
    """One line for the user."""

    level: ev.Level
    text: str


def message_of(event: ev.Event) -> Message | None:
    """Returns the message of an event; None where there is nothing to report.

    `ActorReady` has none: it depends on the other actors (see `view_state.entry_of`).
    """
    match event:
        case ev.RunStarted():
            source = f" resumed from {event.resumed_from}" if event.resumed_from else ""
            text = f"run {event.run_dir} started{source} at timestep {event.timestep}"
            return Message("INFO", text)
        case ev.ActorLost():
            who = "learner" if event.actor_id is None else f"actor {event.actor_id}"
            left = counted(event.restarts_left, "restart")
            return Message("WARNING", f"{who} lost, {left} left: {one_line(event.cause)}")
        case ev.ClusterChanged():
            return _cluster_changed(event)
        case ev.RolloutRejected():
            text = f"rollout of actor {event.actor_id} rejected: {one_line(event.cause)}"
            return Message("WARNING", text)
        case ev.UpdateUndone():
            text = (
                f"update {event.update} undone, at a learning rate of {event.learning_rate:.3g}: "
                f"{one_line(event.cause)}"
            )
            halved = "; the learning rate is halved from now on" if event.is_rate_halved else ""
            return Message("WARNING", text + halved)
        case ev.CheckpointSaved():
            return Message("INFO", f"checkpoint at timestep {event.timestep}: {event.path}")
        case ev.EvaluationFinished(result=result):
            match = result.match
            text = (
                f"{result.player} against {result.opponent}: {match.score:.1%} "
                f"({match.score_low:.1%} to {match.score_high:.1%}) in {match.games} games"
            )
            return Message("INFO", text)
        case ev.Notice():
            return Message(event.level, one_line(event.message))
        case ev.RunEnded():
            cause = f": {one_line(event.cause)}" if event.cause else ""
            text = f"run {event.reason} at timestep {event.timestep}{cause}"
            return Message("ERROR" if event.reason == "failed" else "INFO", text)
        case _:
            return None


def _cluster_changed(event: ev.ClusterChanged) -> Message:
    resources = resources_text(event.num_nodes, event.num_cpus, event.num_gpus)
    if event.num_with_room < event.num_actors:
        plan = f"room for {event.num_with_room} of {event.num_actors} actors, the others wait"
        return Message("WARNING", f"the cluster has {resources}: {plan}")
    plan = (
        f"{counted(event.num_actors, 'actor')}, "
        f"{counted(event.rollouts_per_update, 'rollout')} an update"
    )
    return Message("INFO", f"the cluster has {resources}: {plan}")


def resources_text(nodes: object, cpus: object, gpus: object) -> str:
    """Returns the resources whose number is known, e.g. "3 nodes, 6 CPUs, 0 GPUs"."""
    resources = ((nodes, "node"), (cpus, "CPU"), (gpus, "GPU"))
    return ", ".join(counted(n, what) for n, what in resources if isinstance(n, int | float))


def counted(number: float, what: str) -> str:
    """Returns a number and its noun, with a plural s where the number is not 1."""
    return f"{number:g} {what}{'' if number == 1 else 's'}"

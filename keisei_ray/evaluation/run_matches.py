"""Matches that `evaluate` and `ladder` played with a run's networks, added to the run's records.

They stand in `matches.jsonl` of the run's directory, with the keys of `evaluations.jsonl`, so that
the report shows them. `evaluations.jsonl` itself has one writer, the training. A match of a network
that is no checkpoint of a run on this machine is added to nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from keisei_ray.config.json_text import read_json
from keisei_ray.config.player_names import finishes_mates
from keisei_ray.evaluation.match_record import match_record, mirrored
from keisei_ray.players.player import Player, network_name
from keisei_ray.storage.json_lines_writer import encode
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, CONFIG_FILE, MATCHES_FILE, PROGRESS_FILE
from keisei_ray.telemetry.reports import EvaluationResult, MatchScore


@dataclass(frozen=True)
class RunNetwork:
    """A checkpoint of a run on this machine, as a player."""

    run_dir: Path
    timestep: int
    run_time_s: float
    """Seconds that the run had taken when it was saved; 0 if that is not known."""
    version: int
    digest: str
    name: str
    """Name in the run's records: `v12`, `v12+mate1`, `v12+200sims`."""


def network_of(player: Player) -> RunNetwork | None:
    """Returns the checkpoint of a run that a player is; None if it is none."""
    identity = player.identity
    path = Path(str(identity.get("checkpoint", "")))
    version, digest, timestep = (
        identity.get(key) for key in ("weights_version", "weights_digest", "timestep")
    )
    run_dir = path.parent.parent
    if path.parent.name != CHECKPOINTS_DIR or not (run_dir / CONFIG_FILE).is_file():
        return None
    if not isinstance(version, int) or not isinstance(timestep, int) or digest is None:
        return None
    run_time_s, name = _run_time_s(path), network_name(player)
    return RunNetwork(run_dir, timestep, run_time_s, version, str(digest), name)


def record(players: tuple[Player, Player], score: MatchScore) -> str:
    """Adds a match to the records of the first player's run, or else of the second's.

    Args:
        players: first and second.
        score: the whole match's, for the first player.

    Returns:
        A sentence for the user; empty if no player is a checkpoint of a run.
    """
    first, second = map(network_of, players)
    measured, opponent, other = first, second, players[1]
    if measured is None:
        measured, opponent, other, score = second, None, players[0], mirrored(score)
    if measured is None:
        return ""
    name = other.name
    if opponent is not None:
        is_same = opponent.run_dir.resolve() == measured.run_dir.resolve()
        name = opponent.name if is_same else f"{opponent.run_dir.name}/{opponent.name}"
    result = EvaluationResult(
        timestep=measured.timestep,
        weights_version=measured.version,
        weights_digest=measured.digest,
        player=measured.name,
        opponent=name,
        finishing=finishes_mates(measured.name),
        match=score,
        run_time_s=measured.run_time_s,
    )
    file = measured.run_dir / MATCHES_FILE
    try:
        with file.open("ab") as lines:
            lines.write(encode(match_record(result)))
    except OSError as error:
        return f"not added to the run's records: {file}: {error.strerror}"
    return f"added to {file}, which `report` shows"


def _run_time_s(checkpoint: Path) -> float:
    try:
        return float(read_json(checkpoint / PROGRESS_FILE)["wall_time_s"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0

"""Players: scripted ones such as greedy, the network of a checkpoint, or a USI engine.

A player is asked for a move in many positions at once and answers with one legal move for each,
or with `forfeit("resign")` of `shogi/rules.py`; an engine has more reasons to forfeit.
All its random choices come from the uniform numbers that the caller passes, so a match is a
function of its seed. `config/player_spec.py` says how a player is written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from keisei_ray.config.player_names import FINISHING_SUFFIX
from keisei_ray.config.player_spec import MATCH_KINDS, PlayerKind, SearchSpec, parse_player
from keisei_ray.errors import PlayerError
from keisei_ray.players.policies import (
    Choose,
    Judgement,
    choose_greedy,
    choose_greedy2,
    choose_random,
    choose_random_mates,
    finishing,
    network_policy,
    partly_random,
)
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.players.searching import SearchingPolicy
from keisei_ray.players.usi_player import UsiPlayer
from keisei_ray.storage.manifest import Scalar


def _close_nothing() -> None:
    """Closes a player that has no processes."""


@dataclass(frozen=True)
class Player:
    """One side of a match."""

    name: str
    """Name in results."""
    choose: Choose
    """Function that chooses the moves."""
    identity: dict[str, Scalar] = field(default_factory=dict)
    """Identity of the player: path, timestep, weights_version and weights_digest of a checkpoint,
    or the name that an engine gives itself."""
    judgements: Callable[[], Sequence[Judgement]] | None = None
    """Returns what the player found about each position that `choose` was last asked about; None
    for a player that only chooses."""
    close: Callable[[], None] = _close_nothing
    """Ends the player's processes; leaving a `with` block calls it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_player(
    text: str,
    *,
    kinds: Sequence[PlayerKind] = MATCH_KINDS,
    temperature: float = 0.0,
    finish_mates: bool = False,
    forfeits: bool = True,
) -> Player:
    """Returns the player that a text stands for. The caller closes it: an engine is started here.

    Args:
        text: as `parse_player` reads it.
        kinds: the kinds that are allowed here.
        temperature: for a checkpoint, see `checkpoint_player`.
        finish_mates: makes a checkpoint finish mates even if the text does not say so.
        forfeits: whether an engine that fails loses the game; otherwise `choose` raises a
            PlayerError.

    Raises:
        PlayerError: the text is not understood or not allowed here, or the engine cannot be
            started.
        CheckpointError: the checkpoint is missing, damaged, or not what it says it is.
        StorageError: the checkpoint's URI cannot be reached or read.
    """
    spec = parse_player(text, kinds)
    if finish_mates and spec.kind != "checkpoint":
        raise PlayerError(f"player {text!r}: only a network can be made to finish mates.")
    if finish_mates and spec.search is not None:
        raise PlayerError(f"player {text!r}: a search finds mates in one without --finish-mates.")
    if spec.path is not None:
        return checkpoint_player(
            spec.path,
            temperature=temperature,
            finish_mates=finish_mates or spec.finishes_mates,
            search=spec.search,
        )
    if spec.engine is not None:
        engine = UsiPlayer(spec.engine, forfeits=forfeits)
        return Player(
            text,
            engine.choose,
            {"engine": engine.engine_name},
            judgements=lambda: [Judgement(evaluation) for evaluation in engine.evaluations],
            close=engine.close,
        )
    scripted = _SCRIPTED[spec.kind]
    if spec.random_share > 0:
        scripted = partly_random(scripted, spec.random_share)
    return Player(text, scripted)


_SCRIPTED: Mapping[PlayerKind, Choose] = {
    "random": choose_random,
    "random+mate1": choose_random_mates,
    "greedy": choose_greedy,
    "greedy2": choose_greedy2,
}


def network_name(player: Player) -> str:
    """Name of a checkpoint's network by its version: `v12`, `v12+mate1`, `v12+200sims`."""
    version = player.identity["weights_version"]
    # What follows the checkpoint's name says how it plays.
    ending = player.name.removeprefix(Path(str(player.identity["checkpoint"])).name)
    return f"v{version}{ending}"


def checkpoint_player(
    path: Path | str,
    *,
    temperature: float = 0.0,
    finish_mates: bool = False,
    search: SearchSpec | None = None,
) -> Player:
    """Returns the network of a checkpoint as a player.

    Args:
        path: a run, its `checkpoints` directory or one checkpoint, or the URI of one of these. Of
            several checkpoints the newest intact one plays.
        temperature: 0 plays the likeliest move that leads to no position which the game has had,
            or any if the network takes its position for lost: its strength as it would be used,
            and random openings already vary the games. Above 0 samples from
            softmax(logits / temperature); 1 is how self-play chooses.
        finish_mates: whether every mate in one is played, which the network alone may miss. The
            player's name then ends in `+mate1`.
        search: how far it looks ahead; None: it plays by its policy alone. The player's name then
            ends in `SearchSpec.suffix`.

    Raises:
        CheckpointError: missing, damaged, or the weights are not those that its `info` names.
        StorageError: the URI cannot be reached or read.
        ValueError: a negative temperature.
    """
    if temperature < 0:
        raise ValueError(f"temperature = {temperature}: expected 0 or more.")
    where, found = open_checkpoint(path)
    model = load_model(found)
    identity: dict[str, Scalar] = {
        "checkpoint": where,
        "timestep": found.timestep,
        "weights_version": found.info.get("weights_version"),
        "weights_digest": found.info["weights_digest"],
    }
    if search is not None:
        searching = SearchingPolicy(model, search, temperature)
        return Player(
            found.path.name + search.suffix, searching, identity, judgements=searching.judgements
        )
    policy = network_policy(model, temperature)
    if finish_mates:
        return Player(found.path.name + FINISHING_SUFFIX, finishing(policy), identity)
    return Player(found.path.name, policy, identity)

"""Readers of what a command is given, for `tests/helpers/fuzz.py`: settings, games, a run.

Each function makes a reader in an empty directory.
"""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from keisei_ray.analysis.source import read_game, read_position
from keisei_ray.config.describe import SETTINGS
from keisei_ray.config.player_spec import EVALUATION_KINDS, parse_player
from keisei_ray.config.resolver import resolve_config
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.players.saved_model import load_model
from keisei_ray.shogi.notation import SavedGame, to_csa, to_kif
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.json_lines_writer import JsonLinesWriter
from keisei_ray.storage.run_layout import CONFIG_FILE, HUMAN_GAMES_FILE, METRICS_FILE
from keisei_ray.training import resumed_settings
from keisei_ray.tune.sweep_file import load_sweep_file
from keisei_ray.web.human_records import opening_book
from tests.helpers.fuzz_texts import MOVES, SFEN, Read, must_be, mutated_text, remembered_nearest
from tests.helpers.mutations import (
    FLOATS,
    POISONS,
    TEXTS,
    json_bytes,
    mutated,
    mutated_bytes,
    mutated_json,
)
from tests.helpers.run_events import record
from tests.helpers.saved_runs import save_untrained
from tests.helpers.sweeps import SMALL
from tests.helpers.tiny import tiny_config

# ---- settings ----

_YAML: Final = (
    "&a [*a]", "*b", "!!int x", "!!binary x", "!!set {x}", "!!timestamp x", "!!merge <<: {}",
    "[" * 300, "{a: {b: c}}", "- x", "x: y: z", "\t", "'", "1e400", "9" * 5000, "0x10", ".inf",
    "? [x]", "|", "%YAML 9", "---", "...", "\x85", "#",
)  # fmt: skip


_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_VALUES: Final = (*POISONS, *FLOATS, 1, 2, 3, 1e-3, "max", "min", "grid", [1, 2], [0.1, 0.2])


def _mutated_yaml(values: Any, rng: random.Random) -> str:
    """Returns the text of a mutated tree, or a text with a few parts that mean much in YAML."""
    if rng.random() < 0.6:  # JSON is YAML, and is written ten times as fast.
        return json.dumps(mutated(values, rng))
    text = yaml.dump(values, Dumper=_DUMPER)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice((*_YAML, *TEXTS)) + text[at + rng.choice((0, 1, 5)) :]
    return text


def settings(folder: Path) -> Read:
    """A configuration file with settings from the environment and the command line beside it."""
    file = folder / "some.yaml"
    names = list(SETTINGS)

    def value(rng: random.Random) -> str:
        return rng.choice((*_YAML, *TEXTS, "1", "0.5", "true", "[greedy]", "null"))

    def read(rng: random.Random) -> None:
        tree: dict[str, Any] = {"run": {"seed": 1}, "pool": {"members": ["greedy"]}}
        key = rng.choice(names)
        section, _, name = key.partition(".")
        given = SETTINGS[key].default
        tree[section] = tree.get(section, {}) | {name: given}
        text = _mutated_yaml(tree, rng) if rng.random() < 0.8 else json.dumps(tree)
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        other = rng.choice(names)
        environ = {SETTINGS[other].env: value(rng)} if rng.random() < 0.2 else {}
        overrides = [f"{rng.choice(names)}={value(rng)}"] if rng.random() < 0.2 else []
        with remembered_nearest():
            resolve_config(str(file), environ, overrides, {})

    return read


def sweep_files(folder: Path) -> Read:
    """Files of sweeps."""
    file = folder / "some.yaml"
    sound: dict[str, Any] = SMALL | {
        "search": {"method": "random", "num_samples": 4},
        "space": SMALL["space"] | {"model.width": {"choice": [16, 32]}},
    }

    def read(rng: random.Random) -> None:
        part = rng.choice((*sound, "space", "settings", None))
        if part is None:
            text = _mutated_yaml(sound, rng)
        else:
            text = json.dumps(sound | {part: mutated(sound[part], rng, _VALUES)})
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        with remembered_nearest():
            load_sweep_file(str(file), {}, [], {}).to_json()

    return read


def players(folder: Path) -> Read:
    """Texts that stand for players."""
    del folder
    sound = (
        "random+mate1", "greedy?random=0.5", "checkpoint:runs/x+mate1", "snapshots",
        "checkpoint:runs/x?simulations=20&seconds=0.5&root=gumbel",
        "usi:'some engine' -x?nodes=10&timeout-s=5&processes=2&Skill Level=-20&Hash=%31",
    )  # fmt: skip
    parts = ("?", "&", "=", "%", "%zz", ":", "'", "\\", "nan", "inf", "1e9", "9" * 5000, "+mate1")

    def read(rng: random.Random) -> None:
        text = rng.choice(sound)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text) + 1)
            new = rng.choice((*parts, rng.choice(sound), rng.choice(TEXTS)))
            text = text[:at] + new + text[at + rng.randrange(3) :]
        parse_player(text[:2000], EVALUATION_KINDS)

    return read


# ---- games ----

_OPENINGS: Final = (
    "startpos moves 7g7f 3c3d",
    f"sfen {SFEN} moves 2g2f",
    "position startpos",
    "lnsgkgsnl/1r7/ppppppppp/9/9/9/PPPPPPPPP/7R1/LNSGKGSNL b - 1",
    "# an opening",
)


def _mutated_lines(lines: list[str], rng: random.Random) -> bytes:
    lines = list(lines)
    at = rng.randrange(len(lines))
    lines[at] = mutated_text(lines[at], rng)
    text = "\n".join(lines).encode(errors="replace")
    return mutated_bytes(text, rng) if rng.random() < 0.1 else text


def opening_files(folder: Path) -> Read:
    """Books of openings, and the games of persons that one is made of."""
    book, games = folder / "book.txt", folder / HUMAN_GAMES_FILE
    game = {"game_id": "a", "result": "draw", "moves": MOVES, "start_sfen": ""}

    def read(rng: random.Random) -> None:
        if rng.random() < 0.3:
            games.write_bytes(mutated_json(game, rng) + b"\n" + json_bytes(game) + b"\n")
            book.write_text(opening_book(folder), encoding="utf-8", errors="surrogatepass")
        else:
            book.write_bytes(_mutated_lines(rng.sample(_OPENINGS, rng.randint(1, 3)), rng))
        opened = OpeningBook.read(book, max_plies=rng.choice((1, 60)))
        opened.describe()

    return read


def analyzed_games(folder: Path) -> Read:
    """Games and positions that `analyze` is given."""
    saved = SavedGame("white_win", "resign", 12, MOVES, "")
    line: dict[str, Any] = {
        "game_id": "a",
        "result": "white_win",
        "reason": "resign",
        "moves": MOVES,
    }
    line |= {"start_sfen": SFEN, "weights_version": 3, "opponent": "v1", "opening_plies": 2}
    texts = {
        ".kif": to_kif(saved).split("\n"),
        ".csa": to_csa(saved).split("\n"),
        ".usi": [f"startpos moves {MOVES}", f"sfen {SFEN} moves 7g7f"],
    }

    def read(rng: random.Random) -> None:
        kind = rng.choice((*texts, ".jsonl", "sfen"))
        if kind == "sfen":
            read_position(mutated_text(rng.choice(_OPENINGS), rng))
            return
        file = folder / f"game{kind}"
        if kind == ".jsonl":
            file.write_bytes(mutated_json(line, rng) + b"\n")
        else:
            file.write_bytes(_mutated_lines(texts[kind], rng))
        source = read_game(
            str(file) + (rng.choice(("", ":1")) if kind in (".usi", ".jsonl") else "")
        )
        must_be(not source.fault, "game that can be played to its end")

    return read


# ---- a run to resume ----


def networks(folder: Path) -> Read:
    """The section of a checkpoint that says which network its weights are of."""
    saved = checkpoint.load(save_untrained(folder, timestep=5))
    info = dict(saved.info)
    section = json.loads(str(info["model"]))

    def read(rng: random.Random) -> None:
        changed: Any = info
        if rng.random() < 0.3:
            changed = mutated(info, rng)
        else:
            changed = info | {"model": mutated_json(section, rng).decode(errors="replace")}
        if isinstance(changed, dict):
            load_model(Checkpoint(saved.path, 5, changed, saved.files))

    return read


def resumed_runs(folder: Path) -> Read:
    """Settings of a checkpoint and of its run directory, when the run goes on."""
    config = tiny_config()
    values = config.model_dump(mode="json")
    schedule = {"run": values["run"], "learner": values["learner"]}
    sound = json_bytes(values)

    def content(rng: random.Random) -> bytes:
        tree = mutated(values if rng.random() < 0.5 else schedule, rng)
        tree = values | tree if isinstance(tree, dict) else tree
        return json_bytes(tree) if rng.random() < 0.9 else mutated_bytes(json_bytes(tree), rng)

    def read(rng: random.Random) -> None:
        files = {CONFIG_FILE: content(rng) if rng.random() < 0.7 else sound}
        resumed = Checkpoint(folder, rng.choice((5, 1 << 40)), {}, files)
        own = content(rng) if rng.random() < 0.5 else rng.choice((None, sound))
        said = list(resumed_settings.notices(resumed, own, config))
        resumed_settings.check_length(resumed, config)
        assert all(len(notice.message) < 100_000 for notice in said)

    return read


def resumed_records(folder: Path) -> Read:
    """Records of a run that is resumed: what lies beyond its checkpoint is moved elsewhere."""
    file = folder / METRICS_FILE

    def read(rng: random.Random) -> None:
        lines = [json_bytes(record(n)) + b"\n" for n in range(1, 4)]
        at = rng.randrange(3)
        lines[at] = mutated_json(record(at + 1), rng) + b"\n"
        whole = b"".join(lines)
        content = mutated_bytes(whole, rng) if rng.random() < 0.3 else whole
        content = content[: rng.randrange(len(content))] if rng.random() < 0.3 else content
        file.write_bytes(content)
        aside = file.with_name(f"{file.name}.superseded")
        aside.unlink(missing_ok=True)
        JsonLinesWriter(file, resumed_timestep=rng.choice((0, 1000, 2000, 9000))).close()
        kept = file.read_bytes()
        moved = aside.read_bytes() if aside.exists() else b""
        assert content.startswith(kept + moved), "records are lost or changed"
        assert b"\n" not in content[len(kept + moved) :], "whole records are lost"
        must_be(not moved, "end of a run that goes on")

    return read


READERS: Final[Mapping[str, Callable[[Path], Read]]] = {
    "settings": settings,
    "sweep file": sweep_files,
    "players": players,
    "openings": opening_files,
    "analyzed games": analyzed_games,
    "network of a checkpoint": networks,
    "resumed settings": resumed_runs,
    "resumed records": resumed_records,
}
"""Name -> what makes a reader in an empty directory."""

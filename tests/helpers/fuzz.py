"""Readers of what may have been written by anybody, fed with mutated inputs.

A reader passes if it raises nothing but the errors of `keisei_ray/errors.py`. As a command:

    python -m tests.helpers.fuzz [--inputs N] [--seed S] [READER ...]

gives each reader N inputs and prints their counts, what was raised how often, and how far the
process's memory has grown.
"""

import argparse
import dataclasses
import functools
import io
import json
import logging
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any
from unittest import mock

import msgpack
import torch
from rich.console import Console

from keisei_ray.config.resolver import load_config_json
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import PretrainConfig
from keisei_ray.evaluation import ladder_results
from keisei_ray.evaluation.elo_table import Result, Table, fit_table
from keisei_ray.evaluation.ladder_results import LadderResults
from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.learner_state import (
    copied_state,
    read_learner_state,
    write_learner_state,
)
from keisei_ray.library.runs import read_run as read_records
from keisei_ray.network.weights import load_weights
from keisei_ray.records.files import Pieces, find_pieces
from keisei_ray.records.left_out import Tally
from keisei_ray.records.stream import corpus_digest, training_positions
from keisei_ray.report.page import render
from keisei_ray.report.run_files import read_run
from keisei_ray.rollouts.actor_state import pack_states, read_states
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.reader_state import (
    Place,
    ReaderState,
    pack_reader,
    pack_readers,
    read_reader,
)
from keisei_ray.rollouts.weights_header import peek_weights
from keisei_ray.selfplay.pool import Pool
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.status.checkpoints import as_json as checkpoints_as_json
from keisei_ray.status.checkpoints import show_checkpoints
from keisei_ray.status.command import draw_status, watch_reader
from keisei_ray.status.reader import LocalRunReader
from keisei_ray.status.run_status import as_json, status_of
from keisei_ray.storage import checkpoint
from keisei_ray.storage.manifest import make_manifest
from keisei_ray.storage.run_layout import (
    ACTORS_FILE,
    GAMES_FILE,
    LEARNER_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    READERS_FILE,
)
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import MatchScore
from keisei_ray.training.reader_states import ReaderStates
from tests.helpers import fuzz_commands, fuzz_texts, mutations
from tests.helpers.fuzz_texts import Read, outcomes_of
from tests.helpers.mutations import json_bytes, mutated, mutated_json
from tests.helpers.pools import EVEN, FEARED, pool_config, pool_with
from tests.helpers.report_runs import evaluation, rating, write_run
from tests.helpers.rollouts import random_rollout
from tests.helpers.run_events import record
from tests.helpers.saved_runs import save_untrained
from tests.helpers.tiny import packed, tiny_config

OBEYED = frozenset(map(chr, (*range(32), 127, *range(128, 160)))) - {"\n"}
"""Characters that a terminal obeys."""


def _rollouts(folder: Path) -> Read:
    sound = packed(random_rollout(3, 2, 5)).tobytes()
    return lambda rng: unpack_rollout(mutations.mutated_packed(sound, rng), max_timesteps=100)


def _weights(folder: Path) -> Read:
    learner = Learner(tiny_config())
    sound = learner.weights().tobytes()

    def read(rng: random.Random) -> None:
        buffer = mutations.mutated_packed(sound, rng)
        peek_weights(buffer)
        load_weights(learner.model, buffer)

    return read


def _model_files(folder: Path) -> Read:
    learner = Learner(tiny_config())
    files = learner.state_files()

    def read(rng: random.Random) -> None:
        model = mutations.mutated_safetensors(files[MODEL_FILE], rng)
        learner.load_state_files(files | {MODEL_FILE: model})

    return read


def _learner_files(folder: Path) -> Read:
    """The learner's file of a network of two parameters: one of a real network takes 6 ms."""
    model = torch.nn.Linear(2, 3)
    layout = FlatLayout.of(model)
    weights = layout.flatten_weights(model)
    optimizer = torch.optim.AdamW([weights])
    weights.grad = torch.ones_like(weights)
    optimizer.step()
    scaler, generator = torch.amp.GradScaler("cpu", enabled=False), torch.Generator()
    content = write_learner_state(copied_state(3, optimizer, layout, scaler, generator, 1e-4, 1e-4))
    mutate = mutations.torch_mutator(content)

    def read(rng: random.Random) -> None:
        changed = mutate(rng)
        read_learner_state(changed, optimizer, layout, generator, torch.device("cpu"))

    return read


def _pool_tables(folder: Path) -> Read:
    table = json.loads(pool_with({"greedy": EVEN, "v3": FEARED, "v7": EVEN}).to_json())

    def read(rng: random.Random) -> None:
        pool = Pool(pool_config(members=("greedy",), max_snapshots=2))
        pool.restore(mutated_json(table, rng))
        pool.probabilities()
        for member in pool.snapshots:
            name = member.weights_name
            assert Path("pool", name).resolve().parent == Path("pool").resolve(), name

    return read


def _actor_states(folder: Path) -> Read:
    config = tiny_config()
    self_play = SelfPlay(config, 0, 0)
    weights = Learner(config).weights()
    self_play.set_weights(weights)
    for _ in range(2):
        state = self_play.collect()[0].state
    values = msgpack.unpackb(state)

    def read(rng: random.Random) -> None:
        poisons = (*mutations.POISONS, b"", b"\x01", bytes(2), bytes(400))
        changed = mutations.msgpack_bytes(mutated(values, rng, poisons))
        if rng.random() < 0.1:
            changed = mutations.mutated_bytes(changed, rng)
        file = mutations.msgpack_bytes(mutated([1, [state]], rng, poisons))
        for found in read_states(rng.choice((file, pack_states([changed])))).values():
            networks = [weights] * len(found.pairing.networks)
            SelfPlay(config, 0, 0).restore(found, networks)

    return read


def _reader_states(folder: Path) -> Read:
    """Places in records of two games, from which reading goes on."""
    file = folder / GAMES_FILE
    games = [{"moves": moves, "result": "draw"} for moves in ("7g7f 3c3d", "2g2f 8c8d 2f2e")]
    file.write_bytes(b"".join(json_bytes(game) + b"\n" for game in games))
    records = PretrainConfig(records=(str(file),), held_out=0.0, duplicate_memory=8)
    records = records.model_copy(update={"shuffle_positions": 4})
    config = tiny_config(self_play={"num_actors": 1}).model_copy(update={"pretrain": records})
    corpus = corpus_digest(records, Pieces(find_pieces(records.records, Tally())))
    left_out = (("NO_RESULT", 2, "games.jsonl, byte 0"),)
    state = pack_reader(ReaderState(0, 1, 6, 1, Place(3, 3, 1, 1, corpus, 4, 9, left_out)))
    values = msgpack.unpackb(state)
    progress = Progress(last_sequence={0: (1, 5)})

    def read(rng: random.Random) -> None:
        poisons = rng.choice(((*mutations.POISONS, b"", b"x"), (0, 1, 2, 3, 5, 1 << 40, "", [])))
        is_place = rng.random() < 0.6
        *numbers, place = values
        differing = [*numbers, mutated(place, rng, poisons)]
        changed = mutations.msgpack_bytes(differing if is_place else mutated(values, rng, poisons))
        if rng.random() < 0.1:
            changed = mutations.mutated_bytes(changed, rng)
        file = mutations.msgpack_bytes(mutated([1, [state]], rng))
        states = ReaderStates(file if rng.random() < 0.2 else pack_readers([changed]))
        list(states.drop_unfit(config, progress))
        for found in states.resumed.values():
            parts = training_positions(
                records, rows=2, seed=(0,), num_readers=found.num_readers, place=found.place
            )
            read_reader(pack_reader(dataclasses.replace(found, place=next(parts).after)))
        fuzz_texts.must_be(states.resumed, "place from which a reader of this run can go on")

    return read


def _progress(folder: Path) -> Read:
    progress = Progress(
        timestep=64, incarnations={0: 2, 1: 1}, last_sequence={0: (1, 5)}, wall_time_s=3.5
    )
    values = json.loads(progress.to_json())
    return lambda rng: Progress.from_json(mutated_json(values, rng))


def _manifests(folder: Path) -> Read:
    """Some checkpoints with a mutated manifest each, listed in one table."""
    paths = [save_untrained(folder, timestep=n) for n in range(8)]
    contents = [json.loads((path / MANIFEST_FILE).read_bytes()) for path in paths]
    digest = make_manifest.__globals__["_digest"]

    def manifest(content: dict[str, Any], rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return mutated_json(content, rng)
        body = mutated({k: v for k, v in content.items() if k != "digest"}, rng)
        try:
            return json_bytes(body | {"digest": digest(body)})
        except (ValueError, TypeError):
            return json_bytes(body)

    def read(rng: random.Random) -> list[str]:
        for path, content in zip(paths, contents, strict=True):
            (path / MANIFEST_FILE).write_bytes(manifest(content, rng))
        console = Console(file=io.StringIO(), width=90, highlight=False)
        found = show_checkpoints(folder, console, verify=False)
        json.dumps(checkpoints_as_json(folder, found))
        _shown(console)
        checkpoint.newest(folder / "checkpoints")
        return [outcomes_of(lambda _, p=path: checkpoint.load(p), rng)[0] for path in paths]  # type: ignore[misc]

    return read


def _configs(folder: Path) -> Read:
    values = Config().model_dump(mode="json")

    def read(rng: random.Random) -> None:
        text = mutated_json(values, rng).decode("utf-8", "replace")
        with fuzz_texts.remembered_nearest():
            load_config_json(text, "config.json")

    return read


@functools.lru_cache(4096)
def _table_of(results: tuple[Result, ...], anchor: str) -> Table:
    return fit_table(results, anchor)


def _ladders(folder: Path) -> Read:
    """Saved ladders. Most mutations leave the counts alone: the fit of the same ones is kept."""
    score = dataclasses.asdict(MatchScore(4, 2, 1, 1, 0, 0.6, 0.2, 0.9, 80.0, 0.5, 0.7, 3.0))
    match = {"player": "v1", "opponent": "random", "reasons": {"mate": 4}, **score}
    other = match | {"player": "v2", "opponent": "v1"}
    players = [{"name": name, "weights_digest": "d"} for name in ("v1", "v2", "random")]
    content = {"conditions": {"games": 4}, "players": players, "matches": [match, other]}
    file = folder / "ladder.json"

    def fitted(results: Iterable[Result], anchor: str) -> Table:
        return _table_of(tuple(results), anchor)

    def read(rng: random.Random) -> None:
        file.write_bytes(mutated_json(content, rng))
        with mock.patch.object(ladder_results, "fit_table", fitted):
            results = LadderResults.open(file, {"games": 4})
            results.save(file if rng.random() < 0.1 else None)

    return read


def _run_dirs(folder: Path) -> tuple[Path, Callable[[random.Random], int]]:
    """Returns a run directory, and what mutates some of it and returns how many of its lines."""
    run_dir = write_run(folder / "run", updates=4, games=2)
    games = [json.loads(line) for line in (run_dir / "games.jsonl").read_text().splitlines()]
    started, *others = fuzz_texts.EVENTS
    sound: Mapping[str, list[Any]] = {
        "events.jsonl": [*others[:-1] * 5, *others],
        "metrics.jsonl": [record(i) for i in range(1, 101)],
        "evaluations.jsonl": [evaluation(2000, name, 0.5) for name in ("random", "v1")],
        "games.jsonl": games,
        "diagnostics.jsonl": [{"timestep": 1000, "distinct_positions": 0.9, "pool_score": 0.5}],
    }
    table = {"players": [rating("v2", 80.0, 2000), rating("random", 0.0, None)]}
    config = Config().model_dump(mode="json")

    def line(value: Any, rng: random.Random, *, is_changed: bool) -> bytes:
        content = json_bytes(mutated(value, rng) if is_changed else value)
        return mutations.mutated_bytes(content, rng) if rng.random() < 0.05 else content

    def write(rng: random.Random) -> int:
        lines: dict[str, list[bytes]] = {name: [] for name in sound}
        lines["events.jsonl"].append(line(started, rng, is_changed=rng.random() < 0.2))
        num_changed = rng.choice((1, 10, 100, 200, 200))
        for _ in range(num_changed):
            name = rng.choice(list(sound))
            # In their order: an update that is not beyond the one before it is left out.
            value = sound[name][len(lines[name]) % len(sound[name])]
            lines[name].append(line(value, rng, is_changed=rng.random() < 0.9))
        for name, texts in lines.items():
            (run_dir / name).write_bytes(b"".join(text + b"\n" for text in texts))
        for name, value, chance in (("ratings.json", table, 0.3), ("config.json", config, 0.1)):
            is_changed = rng.random() < chance
            num_changed += is_changed
            content = mutated_json(value, rng) if is_changed else json_bytes(value)
            (run_dir / name).write_bytes(content)
        return num_changed

    return run_dir, write


def _lines(num_changed: int, num_damaged: int) -> list[str]:
    """Returns what became of mutated lines: so many are counted as damaged, others are shown."""
    left_out = min(num_changed, num_damaged)
    return ["accepted"] * (num_changed - left_out) + ["LineLeftOut"] * left_out


def _shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert not OBEYED & set(shown), f"{sorted(OBEYED & set(shown))} reach the terminal"
    shown.encode()
    return shown


def _status(folder: Path) -> Read:
    run_dir, write = _run_dirs(folder)

    def read(rng: random.Random) -> list[str]:
        num_changed = write(rng)
        console = Console(file=io.StringIO(), width=90, highlight=False)
        status = status_of(run_dir, rng.choice((0.0, 1.8e9)))
        draw_status(status, console)
        json.dumps(as_json(status))
        _shown(console)
        return _lines(num_changed, status.damaged)

    return read


def _watch(folder: Path) -> Read:
    run_dir, write = _run_dirs(folder)

    def stop(_: float) -> object:
        raise KeyboardInterrupt

    def read(rng: random.Random) -> list[str]:
        num_changed = write(rng)
        console = Console(file=io.StringIO(), width=rng.choice((40, 90, 130)))
        watch_reader(LocalRunReader(run_dir), console, stop)
        _shown(console)
        num_damaged = _frame(run_dir, console)
        _shown(console)
        return _lines(num_changed, num_damaged)

    return read


def _frame(run_dir: Path, console: Console) -> int:
    """Draws the frame of the live view, as `watch` does on a terminal; returns damaged lines."""
    from keisei_ray.status.follow import RunFollower
    from keisei_ray.tracking.terminal.frame import render as frame
    from keisei_ray.tracking.terminal.view_state import ViewState, fold

    state = ViewState()
    follower = RunFollower(run_dir)
    for timed in follower.poll(1.8e9):
        state = fold(state, timed.event, timed.time_s)
    console.print(frame(state, console.width, 40))
    return follower.damaged


def _library(folder: Path) -> Read:
    """The tables of `keisei_ray.read_run`."""
    run_dir, write = _run_dirs(folder)

    def read(rng: random.Random) -> list[str]:
        num_changed = write(rng)
        found = read_records(run_dir)
        for table in (found.metrics, found.games, found.evaluations, found.ratings):
            assert len(list(table)) == len(table)
        return _lines(num_changed, sum(found.damaged.values()))

    return read


def _report(folder: Path) -> Read:
    run_dir, write = _run_dirs(folder)

    def read(rng: random.Random) -> list[str]:
        num_changed = write(rng)
        run = read_run(run_dir)
        render(run)
        return _lines(num_changed, sum(run.damaged.values()))

    return read


READERS: Mapping[str, Callable[[Path], Read]] = {
    "rollouts": _rollouts,
    "weights": _weights,
    MODEL_FILE: _model_files,
    LEARNER_FILE: _learner_files,
    "pool.json": _pool_tables,
    ACTORS_FILE: _actor_states,
    READERS_FILE: _reader_states,
    "progress.json": _progress,
    MANIFEST_FILE: _manifests,
    "config.json": _configs,
    "ladder": _ladders,
    "status": _status,
    "watch": _watch,
    "report": _report,
    "library": _library,
    **fuzz_texts.READERS,
    **fuzz_commands.READERS,
}
"""Name -> what makes a reader in an empty directory."""


def outcomes(reader: str, folder: Path, *, inputs: int, seed: int) -> Iterator[str]:
    """Feeds a reader and yields what became of each input: an error's name, or "accepted".

    A reader that is given several inputs at once returns what became of each.

    Raises:
        AssertionError: it raised something else; the message has the seed of that input.
    """
    return islice(_outcomes(reader, folder, seed), inputs)


def _outcomes(reader: str, folder: Path, seed: int) -> Iterator[str]:
    read = READERS[reader](folder)
    for number in count():
        rng = random.Random(f"{seed}-{number}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = outcomes_of(read, rng)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            what = f"{type(error).__name__}: {str(error)[:200]}"
            raise AssertionError(f"{reader}, input {seed}-{number}: {what}") from error
        yield from found


def main(arguments: list[str]) -> int:
    """Runs the command; see the top of this module."""
    parser = argparse.ArgumentParser(prog="python -m tests.helpers.fuzz")
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    options = parser.parse_args(arguments)
    logging.disable()
    # Files in memory are written ten times as fast.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for reader in options.readers or READERS:
        began, before = time.monotonic(), _peak_mb()
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            found = outcomes(reader, Path(folder), inputs=options.inputs, seed=options.seed)
            counts = Counter(found)
        line = {"reader": reader, "inputs": counts.total(), "outcomes": dict(counts.most_common())}
        figures = {"seconds": round(time.monotonic() - began), "grown_mb": _peak_mb() - before}
        print(json.dumps(line | figures), flush=True)
    return 0


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The stream that is trained on: passes, mixing, duplicates, held-out games, damage."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.errors import RecordsError
from keisei_ray.evaluation.generate import GenerateOptions, generate
from keisei_ray.records.left_out import Cause, Tally
from keisei_ray.records.positions import Positions, empty_positions, joined
from keisei_ray.records.stream import (
    Duplicates,
    ShuffleBuffer,
    held_out_positions,
    training_positions,
)
from tests.helpers.record_corpus import MOVES, csa_by_cshogi, kif_by_cshogi

FORMATS = ("csa", "kif", "hcpe", "psv", "pack")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Games of greedy against itself, which end by mate or the ply cap, in every format."""
    out = tmp_path_factory.mktemp("corpus") / "games"
    options = GenerateOptions("greedy", out, num_games=20, max_plies=40, seed=5)
    generate(options, Console(quiet=True))
    return out


def one_pass(*records: Path, seed: int = 1, **settings: Any) -> tuple[Positions, Tally]:
    """Returns the positions of the first pass, in their order."""
    config = PretrainConfig(records=tuple(map(str, records)), **settings)
    told: list[Tally] = []
    parts = []
    for part in training_positions(
        config, rows=1, seed=[seed], began=lambda number, tally: told.append(tally)
    ):
        parts.append(part)
        if len(parts) == told[0].positions:
            break
    return joined(parts), told[0]


def keys(positions: Positions) -> list[bytes]:
    return [
        b"".join(np.asarray(field[i]).tobytes() for field in positions)
        for i in range(len(positions))
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_positions(corpus: Path, name: str) -> None:
    path = corpus / "kif" if name == "kif" else corpus / f"games.{name}"
    positions, tally = one_pass(path, held_out=0.0)
    games = [json.loads(line) for line in (corpus / "games.jsonl").read_text().splitlines()]
    expected, _ = one_pass(corpus / "games.jsonl", held_out=0.0)
    assert tally.games == len(games)
    assert len(positions) == sum(game["plies"] - game["opening_plies"] for game in games)
    # Those that begin behind the opening do not know whether a position occurred in it.
    assert sorted(row.tobytes() for row in positions.boards) == sorted(
        row.tobytes() for row in expected.boards
    )
    assert np.sort(positions.values).tolist() == np.sort(expected.values).tolist()


def test_records_that_have_room_in_the_buffer_are_read_once(corpus: Path) -> None:
    config = PretrainConfig(records=(str(corpus / "games.csa"),))
    told: list[Tally] = []
    stream = training_positions(
        config, rows=1, seed=[1], began=lambda number, tally: told.append(tally)
    )
    first = next(stream)
    total = told[0].positions
    passes = [joined([first, *islice(stream, total - 1)]), joined(list(islice(stream, total)))]
    assert len(told) == 1
    assert keys(passes[0]) != keys(passes[1])
    assert sorted(keys(passes[0])) == sorted(keys(passes[1]))


def test_a_small_buffer_gives_every_position_once_a_pass(corpus: Path) -> None:
    size, num_passes = 7, 3
    config = PretrainConfig(records=(str(corpus / "games.csa"),), shuffle_positions=size)
    told: list[Tally] = []
    stream = training_positions(
        config, rows=1, seed=[1], began=lambda number, tally: told.append(tally)
    )
    found: Counter[bytes] = Counter()
    for part in stream:
        if len(told) > num_passes:  # Those of the last pass that wait in the buffer are missing.
            break
        found.update(keys(part))
    once, _ = one_pass(corpus / "games.csa")
    expected = Counter(keys(once))
    missing = {key: num_passes * count - found[key] for key, count in expected.items()}
    assert all(0 <= count <= num_passes for count in missing.values())
    assert sum(missing.values()) == size


def test_the_order_depends_on_the_seed_only(corpus: Path) -> None:
    first, again, other = (one_pass(corpus / "games.csa", seed=seed)[0] for seed in (1, 1, 2))
    assert keys(first) == keys(again)
    assert keys(first) != keys(other)


def test_positions_of_one_game_are_spread_by_the_buffer(corpus: Path) -> None:
    positions, _ = one_pass(corpus / "games.csa", shuffle_positions=2000)
    pieces = (positions.boards > 0).sum(1)  # Falls along a game.
    assert np.abs(np.corrcoef(pieces[:-1], pieces[1:])[0, 1]) < 0.2


def test_held_out_games_are_not_trained_on_and_the_same_in_every_format(corpus: Path) -> None:
    whole, _ = one_pass(corpus / "games.csa", held_out=0.0)
    trained, _ = one_pass(corpus / "games.csa", held_out=0.3)
    config = PretrainConfig(records=(str(corpus / "games.csa"),), held_out=0.3)
    held_out = held_out_positions(config, Tally())
    assert held_out is not None
    assert sorted(keys(trained) + keys(held_out)) == sorted(keys(whole))
    assert 0 < len(held_out) < len(whole) / 2
    binary = PretrainConfig(records=(str(corpus / "games.hcpe"),), held_out=0.3)
    packed = PretrainConfig(records=(str(corpus / "games.pack"),), held_out=0.3)
    same, other = held_out_positions(binary, Tally()), held_out_positions(packed, Tally())
    assert same is not None
    assert other is not None
    assert sorted(keys(same)) == sorted(keys(other))


def test_readers_share_the_files(corpus: Path) -> None:
    config = PretrainConfig(records=(str(corpus / "kif"),))
    parts = []
    for reader in range(2):
        told: list[Tally] = []
        stream = training_positions(
            config,
            rows=1,
            seed=[1],
            reader=reader,
            num_readers=2,
            began=lambda number, tally, told=told: told.append(tally),  # type: ignore[misc]
        )
        own = [next(stream)]
        parts += [*own, *islice(stream, told[0].positions - 1)]
    whole, _ = one_pass(corpus / "kif")
    assert sorted(keys(joined(parts))) == sorted(keys(whole))


def test_a_game_that_is_there_twice_counts_once(corpus: Path, tmp_path: Path) -> None:
    content = (corpus / "games.pack").read_bytes()
    (tmp_path / "twice.pack").write_bytes(content * 2)
    positions, tally = one_pass(tmp_path)
    once, single = one_pass(corpus / "games.pack")
    assert sorted(keys(positions)) == sorted(keys(once))
    assert tally.causes[Cause.DUPLICATE] >= single.games


def test_the_memory_of_duplicates_is_bounded() -> None:
    memory = Duplicates(4)
    assert [memory.is_new(n) for n in (1, 2, 1, 5, 5, 1)] == [True, True, False, True, False, True]


def test_a_buffer_gives_back_all_that_it_was_given() -> None:
    buffer = ShuffleBuffer(10, np.random.default_rng(0))
    out = []
    for start in range(0, 100, 25):
        part = empty_positions(25)
        part.actions[:] = range(start, start + 25)
        out += list(buffer.push(part))
    assert sum(map(len, out)) == 90
    assert buffer.is_full
    out.append(buffer.shuffled())
    assert sorted(joined(out).actions.tolist()) == list(range(100))


@pytest.mark.parametrize(
    ("settings", "cause", "count"),
    [
        ({"results": ("draw", "white_win")}, Cause.RESULT, 1),
        ({"min_plies": 10}, Cause.TOO_SHORT, 2),
        ({"max_plies": 6}, Cause.TOO_LONG, 2),
    ],
)
def test_filters_of_games_are_counted(
    tmp_path: Path, settings: dict[str, Any], cause: Cause, count: int
) -> None:
    games = [(12, "white_win"), (9, "black_win"), (6, "truncated")]
    lines = [{"moves": " ".join(MOVES[:n]), "result": result} for n, result in games]
    (tmp_path / "games.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, tally = one_pass(tmp_path, held_out=0.0, **settings)
    assert (tally.causes[cause], tally.games) == (count, 3 - count)


def test_the_lower_rating_counts_and_a_game_without_is_left_out(tmp_path: Path) -> None:
    csa_by_cshogi(tmp_path / "rated.csa", games=3)  # 2500.5, 2501.5, 2502.5 against 2600.
    kif_by_cshogi(tmp_path / "unrated.kif")
    _, tally = one_pass(tmp_path, held_out=0.0, min_rating=2501.0)
    assert (tally.games, tally.causes[Cause.RATING]) == (2, 2)


def test_one_damaged_game_in_a_hundred_is_counted_and_the_others_are_used(
    corpus: Path, tmp_path: Path
) -> None:
    games = (corpus / "games.csa").read_text().split("/\n")
    games = [game.replace("N+greedy", f"N+{n}") for n in range(10) for game in games]
    games[50] = games[50].replace("\n-", "\n-9", 3)
    games[150] = games[150][: len(games[150]) // 2]
    (tmp_path / "games.csa").write_text("/\n".join(games))
    (tmp_path / "empty.kif").write_bytes(b"")
    (tmp_path / "binary.csa").write_bytes(bytes(range(256)))
    _, tally = one_pass(tmp_path, held_out=0.0)
    causes = tally.causes
    assert tally.games + causes[Cause.DUPLICATE] == 198
    damages = (Cause.DAMAGED, Cause.ILLEGAL_MOVE, Cause.NO_RESULT, Cause.NOT_A_GAME)
    assert sum(causes[cause] for cause in damages) == 2
    assert (causes[Cause.EMPTY], causes[Cause.NOT_TEXT]) == (1, 1)
    assert any("left out: 1 files: empty (first: " in line for line in tally.lines())


def test_records_with_nothing_usable_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "games.usi").write_text("startpos moves 7g7f\n" * 3)
    with pytest.raises(RecordsError) as error:
        one_pass(tmp_path)
    assert "nothing to learn from" in str(error.value)
    assert "games: duplicate" in str(error.value)
    assert "games: no result" in str(error.value)
    assert "\n" not in str(error.value)

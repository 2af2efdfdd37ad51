"""The stream that is trained on: passes, places, duplicates, held-out games, damage."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rsshogi.core import Move

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.errors import RecordsError
from keisei_ray.evaluation.generate import GenerateOptions, generate
from keisei_ray.records.left_out import Cause, Tally
from keisei_ray.records.positions import NUM_DRAWN, Positions, joined
from keisei_ray.records.stream import (
    Duplicates,
    Part,
    held_out_positions,
    training_positions,
)
from keisei_ray.rollouts.reader_state import Place
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from tests.helpers.record_corpus import (
    MOVES,
    csa_by_cshogi,
    hcpe3_by_cshogi,
    hcpe_by_cshogi,
    kif_by_cshogi,
)

FORMATS = ("csa", "kif", "hcpe", "psv", "pack")
MATE_IN_ONE = "4k4/9/4P4/9/9/9/9/9/4K4 b G2r2b3g4s4n4l17p 1"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Games of greedy against itself, which end by mate or the ply cap, in every format."""
    out = tmp_path_factory.mktemp("corpus") / "games"
    options = GenerateOptions("greedy", out, num_games=20, max_plies=40, seed=5)
    generate(options, Console(quiet=True))
    return out


def stream_of(*records: Path, rows: int = 1, seed: int = 1, **settings: Any) -> Iterator[Part]:
    """Returns the stream of some records, with settings of `pretrain` and of the stream."""
    names = ("reader", "num_readers", "place", "ended", "changed")
    given = {name: settings.pop(name) for name in names if name in settings}
    config = PretrainConfig(records=tuple(map(str, records)), **settings)
    return training_positions(config, rows=rows, seed=[seed], **given)


def one_pass(*records: Path, **settings: Any) -> tuple[Positions, Tally]:
    """Returns the positions of the first pass, in their order."""
    told: list[Tally] = []
    parts = []
    for part in stream_of(*records, ended=lambda number, tally: told.append(tally), **settings):
        if told:
            break
        parts.append(part.positions)
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


def test_records_that_have_room_in_memory_are_read_once(corpus: Path) -> None:
    told: list[int] = []
    stream = stream_of(corpus / "games.csa", ended=lambda number, tally: told.append(number))
    first = next(stream)
    total = first.tally.positions
    passes = [[first, *islice(stream, total - 1)], list(islice(stream, total))]
    positions = [joined([part.positions for part in parts]) for parts in passes]
    next(stream)
    assert told == [1]
    assert [parts[-1].after.number for parts in passes] == [1, 2]
    assert keys(positions[0]) != keys(positions[1])
    assert sorted(keys(positions[0])) == sorted(keys(positions[1]))


def test_small_windows_give_every_position_once_a_pass(corpus: Path) -> None:
    once, _ = one_pass(corpus / "games.csa")
    stream = stream_of(corpus / "games.csa", shuffle_positions=50)
    passes = [joined([part.positions for part in islice(stream, len(once))]) for _ in range(3)]
    assert [sorted(keys(positions)) for positions in passes] == [sorted(keys(once))] * 3
    assert len({tuple(keys(positions)) for positions in passes}) == 3


@pytest.mark.parametrize("size", [50, 1000])
@pytest.mark.parametrize("taken", [1, 9, 40])
def test_a_stream_goes_on_at_any_place_as_it_would_have(
    corpus: Path, size: int, taken: int
) -> None:
    """With windows smaller and larger than a pass, in the first pass and in later ones."""
    settings: dict[str, Any] = {"rows": 32, "shuffle_positions": size, "held_out": 0.3}
    straight = list(islice(stream_of(corpus / "games.csa", **settings), taken + 30))
    place = straight[taken - 1].after
    resumed = stream_of(corpus / "games.csa", place=place, **settings)
    for expected, part in zip(straight[taken:], resumed, strict=False):
        assert keys(part.positions) == keys(expected.positions)
        assert (part.after, part.tally) == (expected.after, expected.tally)


@pytest.mark.parametrize("change", ["a file", "a setting"])
def test_a_place_in_other_records_is_said_and_the_next_pass_begins(
    corpus: Path, tmp_path: Path, change: str
) -> None:
    (tmp_path / "a.csa").write_bytes((corpus / "games.csa").read_bytes())
    said: list[str] = []
    place = next(stream_of(tmp_path, shuffle_positions=50)).after
    if change == "a file":
        (tmp_path / "b.csa").write_bytes((corpus / "games.csa").read_bytes())
    size = 50 if change == "a file" else 60
    stream = stream_of(
        tmp_path, shuffle_positions=size, place=place, changed=lambda: said.append("changed")
    )
    assert (next(stream).after.number, said) == (2, ["changed"])
    same = stream_of(tmp_path, shuffle_positions=size, eval_weight=0.1, place=Place())
    assert next(same).after.number == 1


def test_the_order_depends_on_the_seed_only(corpus: Path) -> None:
    first, again, other = (one_pass(corpus / "games.csa", seed=seed)[0] for seed in (1, 1, 2))
    assert keys(first) == keys(again)
    assert keys(first) != keys(other)


@pytest.mark.parametrize("beyond", [{"offset": 10**6}, {"found": 10**6, "positions": 9}])
def test_a_place_beyond_the_end_goes_on_behind_it(corpus: Path, beyond: dict[str, int]) -> None:
    first = next(stream_of(corpus / "games.csa", shuffle_positions=50)).after
    place = replace(first, **beyond)  # type: ignore[arg-type]  # Integers.
    part = next(stream_of(corpus / "games.csa", shuffle_positions=50, place=place))
    assert (part.after.number, part.after.found > 0) == (
        (1, True) if "offset" in beyond else (2, False)
    )


def test_in_each_pass_the_policy_learns_another_of_the_moves_that_were_drawn(
    tmp_path: Path,
) -> None:
    """The move that was played first has 30 of the 40 visits there; one position has none."""
    parts = stream_of(hcpe3_by_cshogi(tmp_path / "a.hcpe3"), rows=len(MOVES) - 1, held_out=0.0)
    board = Game(STANDARD_SFEN, max_plies=1).observe().board
    learned = Counter[int]()
    for part in islice(parts, NUM_DRAWN):
        is_start = (part.positions.boards == board).all(axis=1)
        learned.update(part.positions.actions[is_start].tolist())
    assert learned.total() == NUM_DRAWN
    assert learned[int(LABEL_OF_MOVE[0, Move.from_usi("7g7f").value])] == NUM_DRAWN * 30 / 40
    assert len(learned) > 1


def test_positions_of_one_game_are_spread(corpus: Path) -> None:
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


@pytest.mark.parametrize("seed", range(4))
def test_a_game_is_held_out_in_whatever_formats_it_is_there(corpus: Path, seed: int) -> None:
    """Some formats hold whole games, others what follows the opening."""
    trained, tally = one_pass(corpus, held_out=0.3, seed=seed)
    config = PretrainConfig(records=(str(corpus),), held_out=0.3)
    held_out = held_out_positions(config, Tally())
    assert held_out is not None
    whole, single = one_pass(corpus / "games.pack", held_out=0.0)
    assert tally.games < single.games
    boards = [[row.tobytes() for row in rows.boards] for rows in (trained, held_out, whole)]
    assert sorted(boards[0] + boards[1]) == sorted(boards[2])


@pytest.mark.parametrize("seed", range(3))
def test_a_record_without_result_does_not_hide_one_with_a_result(
    corpus: Path, tmp_path: Path, seed: int
) -> None:
    for name in ("games.csa", "games.usi"):
        (tmp_path / name).write_bytes((corpus / name).read_bytes())
    once, single = one_pass(corpus / "games.csa", held_out=0.0)
    positions, tally = one_pass(tmp_path, held_out=0.0, seed=seed)
    assert (tally.games, len(positions)) == (single.games, len(once))
    without_end = single.games - tally.causes[Cause.DUPLICATE]
    assert tally.causes[Cause.NO_RESULT] == without_end > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_readers", [1, 2])
def test_a_record_with_visits_is_used_before_others_of_the_same_game(
    tmp_path: Path, seed: int, num_readers: int
) -> None:
    """Whichever is read first."""
    hcpe3_by_cshogi(tmp_path / "b.hcpe3")
    csa_by_cshogi(tmp_path / "a.csa", games=4)  # One of them is the same game.
    hcpe_by_cshogi(tmp_path / "c.hcpe")
    passes = [
        one_pass(tmp_path, held_out=0.0, seed=seed, reader=reader, num_readers=num_readers)
        for reader in range(num_readers)
    ]
    assert sum(tally.games for _, tally in passes) == 4
    assert sum(tally.causes[Cause.DUPLICATE] for _, tally in passes) == 2
    drawn = np.concatenate([positions.drawn for positions, _ in passes])
    assert (drawn != drawn[:, :1]).any(axis=1).sum() == 2  # Positions with several visited moves.


def test_a_record_with_visits_that_is_left_out_hides_no_other(tmp_path: Path) -> None:
    """Only the CSA file has ratings."""
    hcpe3_by_cshogi(tmp_path / "a.hcpe3")
    csa_by_cshogi(tmp_path / "b.csa")
    _, tally = one_pass(tmp_path, held_out=0.0, min_rating=2000.0)
    assert (tally.games, tally.causes[Cause.RATING]) == (1, 1)


def test_a_result_by_the_rules_is_filtered_as_one_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "mate.usi").write_text(f"sfen {MATE_IN_ONE} moves G*5b\n")
    settings: dict[str, Any] = {"held_out": 0.0}
    assert one_pass(tmp_path, **settings)[1].games == 1
    with pytest.raises(RecordsError, match=r"1 games: result not in pretrain\.results"):
        one_pass(tmp_path, results=("draw",), **settings)


def test_a_record_without_moves_and_result_has_no_moves(tmp_path: Path) -> None:
    (tmp_path / "a.kif").write_text("手合割：平手\n手数----指手---------消費時間--\n")
    with pytest.raises(RecordsError, match="1 games: without moves"):
        one_pass(tmp_path)


def test_held_out_games_are_counted(corpus: Path) -> None:
    _, tally = one_pass(corpus / "games.pack", held_out=0.3)
    assert tally.games + tally.causes[Cause.HELD_OUT] == 20


def test_readers_share_the_games(corpus: Path) -> None:
    passes = [one_pass(corpus / "kif", reader=i, num_readers=3) for i in range(3)]
    whole, tally = one_pass(corpus / "kif")
    assert sorted(keys(joined([positions for positions, _ in passes]))) == sorted(keys(whole))
    assert sum(own.games for _, own in passes) == tally.games
    assert all(own.games < tally.games for _, own in passes)


def test_a_game_in_two_files_counts_once_among_readers(corpus: Path, tmp_path: Path) -> None:
    """Also where it has another format and another name in the second file."""
    (tmp_path / "a.csa").write_bytes((corpus / "games.csa").read_bytes())
    (tmp_path / "games.jsonl").write_bytes((corpus / "games.jsonl").read_bytes())
    (tmp_path / "empty.kif").touch()
    _, single = one_pass(corpus / "games.csa")
    passes = [one_pass(tmp_path, reader=i, num_readers=2)[1] for i in range(2)]
    assert sum(tally.games for tally in passes) == single.games
    assert sum(tally.causes[Cause.DUPLICATE] for tally in passes) >= single.games
    assert [tally.causes[Cause.EMPTY] for tally in passes] == [1, 0]


def test_a_reader_without_a_game_of_its_own_says_what_to_do(tmp_path: Path) -> None:
    csa_by_cshogi(tmp_path / "one.csa")
    told = []
    for reader in range(2):
        try:
            one_pass(tmp_path, held_out=0.0, reader=reader, num_readers=2)
        except RecordsError as error:
            told.append(str(error))
    (message,) = told
    assert message.endswith("Few games need one reader: self_play.num_actors=1.")


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
    assert "3 games: no result" in str(error.value)
    assert "\n" not in str(error.value)

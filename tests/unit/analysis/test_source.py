"""Games and positions to analyze: where they are read from, and what is refused."""

import json
from pathlib import Path

import pytest

from keisei_ray.analysis.source import Source, read_game, read_position
from keisei_ray.errors import ConfigError
from keisei_ray.shogi.game import STANDARD_SFEN

KIF = "手合割：平手\n先手：先手の人\n手数----指手--\n   1 ７六歩(77)\n   2 ３四歩(33)\n   3 投了\n"
MOVES = ("7g7f", "3c3d")
SAVED = {
    "game_id": "0-0-3",
    "result": "white_win",
    "reason": "resign",
    "plies": 2,
    "opening_plies": 1,
    "moves": "7g7f 3c3d",
    "weights_version": 7,
    "opponent": "greedy",
    "learner_color": "white",
}


def read(tmp_path: Path, name: str, content: bytes | str, place: str = "") -> Source:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_game(f"{file}{place}")


@pytest.mark.parametrize(
    "content",
    [
        KIF.encode(),
        b"\xef\xbb\xbf" + KIF.encode(),
        KIF.encode("cp932"),
        KIF.replace("\n", "\r\n").encode("cp932"),
    ],
    ids=["utf-8", "byte order mark", "shift-jis", "shift-jis from windows"],
)
@pytest.mark.parametrize("name", ["game.kif", "game.kifu", "GAME.KIF"])
def test_kif_is_read_in_every_usual_encoding(tmp_path: Path, name: str, content: bytes) -> None:
    source = read(tmp_path, name, content)
    assert (source.moves, source.black, source.fault) == (MOVES, "先手の人", "")
    assert source.kif == KIF
    assert len(source.positions) == 3
    assert source.end == "White wins by resignation"


def test_csa_and_usi_are_read(tmp_path: Path) -> None:
    csa = read(tmp_path, "game.csa", "V2.2\nN+A\nPI\n+\n+7776FU\n-3334FU\n%TORYO\n")
    assert (csa.moves, csa.black) == (MOVES, "A")
    usi = read(tmp_path, "game.usi", "position startpos moves 7g7f 3c3d\n")
    assert (usi.moves, usi.end, usi.fault) == (MOVES, "", "")
    assert "７六歩(77)" in usi.kif


def test_a_game_of_a_run_is_read_with_who_played_it(tmp_path: Path) -> None:
    source = read(tmp_path, "games.jsonl", json.dumps(SAVED) + "\n")
    assert (source.moves, source.black, source.white) == (MOVES, "greedy", "v7")
    assert (source.opening_plies, source.end) == (1, "White wins by resignation")
    assert "投了" in source.kif


@pytest.mark.parametrize(
    ("color", "names"),
    [("black", ("Human", "step-000000000100")), ("white", ("step-000000000100", "Human"))],
)
def test_a_game_of_a_person_is_read_with_who_played_it(
    tmp_path: Path, color: str, names: tuple[str, str]
) -> None:
    game = {
        "result": "white_win",
        "reason": "resign",
        "plies": 2,
        "moves": "7g7f 3c3d",
        "opponent": "step-000000000100",
        "human_color": color,
        "timestep": 100,
        "weights_version": 7,
    }
    source = read(tmp_path, "human_games.jsonl", json.dumps(game) + "\n")
    assert (source.black, source.white) == names
    assert f"先手：{names[0]}\n後手：{names[1]}\n" in source.kif


@pytest.mark.parametrize(
    ("stated", "plies"),
    [("1 random opening plies", 1), ("99 random opening plies", 2), ("1 opening", 0)],
)
def test_opening_plies_that_a_kif_or_csa_record_states_are_read(
    tmp_path: Path, stated: str, plies: int
) -> None:
    kif = KIF.replace("手数", f"*{stated}\n手数")
    assert read(tmp_path, "game.kif", kif).opening_plies == plies
    csa = f"V2.2\nN+A\n'*{stated}\nPI\n+\n+7776FU\n-3334FU\n%TORYO\n"
    assert read(tmp_path, "game.csa", csa).opening_plies == plies
    # Not more than there are moves before a fault.
    faulty = kif.replace("３四歩(33)", "３四歩(34)")
    assert read(tmp_path, "game.kif", faulty).opening_plies == min(plies, 1)


@pytest.mark.parametrize(
    ("opening", "plies"), [(-7, 0), (0, 0), (2, 2), (10**9, 2), (1.5, 0), ("1", 0), (None, 0)]
)
def test_opening_plies_are_plies_of_the_game(tmp_path: Path, opening: object, plies: int) -> None:
    line = json.dumps(SAVED | {"opening_plies": opening})
    assert read(tmp_path, "games.jsonl", line).opening_plies == plies


def test_of_a_file_with_a_game_a_line_the_last_or_the_named_one_is_read(tmp_path: Path) -> None:
    other = json.dumps(SAVED | {"moves": "2g2f", "plies": 1})
    unsaved = json.dumps(SAVED | {"moves": ""})
    content = f"{json.dumps(SAVED)}\n{other}\n{unsaved.replace('moves', 'other')}\n\n"
    assert read(tmp_path, "games.jsonl", content).moves == ("2g2f",)
    assert read(tmp_path, "games.jsonl", content, ":1").moves == MOVES
    assert read(tmp_path, "g.usi", "startpos moves 2g2f\nstartpos\n", ":1").moves == ("2g2f",)


def test_a_game_is_read_up_to_a_move_that_is_not_legal(tmp_path: Path) -> None:
    source = read(tmp_path, "game.usi", "startpos moves 7g7f 3c3d 9i9a 2g2f")
    assert (source.moves, source.fault) == (MOVES, "move 3 '9i9a' is not legal")
    source = read(tmp_path, "games.jsonl", json.dumps(SAVED | {"moves": "7g7f 3c3d x"}))
    assert (source.moves, source.fault, source.end) == (MOVES, "move 3 'x' is not legal", "")
    source = read(tmp_path, "game.kif", KIF.replace("３四歩(33)", "３四歩(34)"))
    assert (source.moves, source.fault) == (("7g7f",), "line 5: move 2 '３四歩(34)' cannot be read")
    source = read(tmp_path, "game.csa", "V2.2\nPI\n+\n+7776FU\n-33")
    assert (source.moves, source.fault) == (("7g7f",), "line 5: move 2 '-33' cannot be read")
    source = read(tmp_path, "game.csa", "PI\n-\n+7776FU\n")
    assert (source.moves, source.fault) == ((), "line 3: move 1 '+7776FU' is not legal")


def test_how_the_rules_have_ended_a_game_is_known(tmp_path: Path) -> None:
    mate = read(tmp_path, "game.usi", "sfen 4k4/9/4P4/9/9/9/9/9/4K4 b G 1 moves G*5b")
    assert mate.end == "Black wins by mate"
    drawn = read(tmp_path, "game.usi", "startpos moves" + " 2h3h 8b7b 3h2h 7b8b" * 3)
    assert drawn.end == "Drawn by fourfold repetition"


def test_a_result_of_another_program_does_not_matter(tmp_path: Path) -> None:
    for change in ({"result": "x"}, {"reason": ["y"]}, {"weights_version": "\x1b[2J\n"}):
        source = read(tmp_path, "games.jsonl", json.dumps(SAVED | change))
        assert source.moves == MOVES
        assert "\x1b" not in source.kif + source.black + source.white


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("game.ki2", KIF, "files of games end in .kif, .kifu, .csa, .usi, .jsonl"),
        ("game.kif", "", "is empty"),
        ("game.kif", "\n\n", "is empty"),
        ("game.kif", "hello", "cannot be read as KIF: no line of KIF"),
        ("game.kif", KIF.replace("平手", "5五将棋"), "start position that is not known"),
        ("game.kif", KIF.encode("utf-16"), "neither UTF-8 nor Shift-JIS"),
        ("game.kif", KIF.encode("euc-jp") + b"\xff", "neither UTF-8 nor Shift-JIS"),
        ("game.csa", "PI\n+\n+7776FU\n".encode("utf-16-le"), "neither UTF-8 nor Shift-JIS"),
        ("game.csa", "hello", "cannot be read as CSA"),
        ("game.csa", "P+59OU\n+\n+5958OU\n", "Expected"),
        ("game.usi", "hello", "line 1: 'hello' is not a game"),
        ("game.usi", "sfen rbsgk/4p/5/P4/KGSBR b - 1", "is not a game"),
        ("game.usi", "sfen 4k4/9/9/9/9/9/9/9/9 b - 1 moves 7g7f", "Expected"),
        ("game.usi", "", "has no game"),
        ("games.jsonl", "{}\n", "has no game"),
        ("games.jsonl", '"moves"', "is not a game with its moves"),
        ("games.jsonl", '{"moves": 3}', "is not a game with its moves"),
        ("games.jsonl", '{"moves": "7g7f", "start_sfen": [1]}', "is not a game with its moves"),
        ("games.jsonl", '{"moves": "7g7f', "is not JSON"),
    ],
)
def test_what_holds_no_game_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | str, what: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, name, content)
    assert what in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_or_a_line_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_game(str(tmp_path / "none.kif"))
    with pytest.raises(ConfigError, match="No such file"):
        read_game(str(tmp_path / "none.jsonl:3"))
    with pytest.raises(ConfigError, match="there is no line 9"):
        read(tmp_path, "games.jsonl", json.dumps(SAVED), ":9")
    (tmp_path / "dir.kif").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        read_game(str(tmp_path / "dir.kif"))


def test_a_position_is_read_with_its_history() -> None:
    source = read_position("startpos moves" + " 2h3h 8b7b 3h2h 7b8b" * 2)
    (position,) = source.positions
    assert position.game.earlier == 2
    assert source.moves == ()
    assert read_position(STANDARD_SFEN).start_sfen == STANDARD_SFEN


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("hello", "is not a position"),
        ("", "is not a position"),
        ("rbsgk/4p/5/P4/KGSBR b - 1", "is not a position"),
        ("4k4/9/9/9/9/9/9/9/9 b - 1", "king"),
        ("4k4/4R4/9/9/9/9/9/9/4K4 b - 1", "could take the king"),
        ("startpos moves 7g7d", "move 1 '7g7d' is not legal"),
        ("sfen 4k4/9/4P4/9/9/9/9/9/4K4 b G 1 moves G*5b", "the game is over there: mate"),
    ],
)
def test_a_position_that_no_game_can_have_is_refused(text: str, what: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_position(text)
    assert what in str(error.value).lower()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.kif", KIF.replace("３四歩(33)", "9" * 5000)),
        ("a.usi", "startpos moves " + "9" * 5000 + "\n"),
        ("a.usi", f"sfen {'9' * 5000} b - 1\n".replace("9 b", "9/9/9/9/9/9/9/9/9 b")),
    ],
)
def test_a_long_word_of_a_record_is_named_without_its_end(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    try:
        told = read_game(str(tmp_path / name)).fault
    except ConfigError as error:
        told = str(error)
    assert "999" in told
    assert len(told) < 1000

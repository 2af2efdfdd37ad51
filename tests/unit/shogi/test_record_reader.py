"""Games in KIF and CSA, up to the first move that cannot be played."""

import pytest

from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.notation import unfinished_to_kif
from keisei_ray.shogi.record_reader import read_csa, read_ki2, read_kif

KIF = """# made by hand
手合割：平手
先手：A
後手：B
手数----指手---------消費時間--
*before
   1 ７六歩(77)   ( 0:01/00:00:01)
*comment
&bookmark
   2 ３四歩(33)   ( 0:01/00:00:01)
   3 ２二角成(88) ( 0:01/00:00:02)
   4 同　銀(31)   ( 0:01/00:00:02)
   5 投了
まで4手で後手の勝ち

変化：2手
   2 ８四歩(83)
   3 ９九玉(59)
"""
MOVES = ("7g7f", "3c3d", "8h2b+", "3a2b")
CSA = "V2.2\nN+A\nN-B\nPI\n+\n+7776FU,T3\n'comment\n-3334FU\n+8822UM\n-3122GI\n%TORYO\n"


def test_a_main_line_is_read_and_the_record_stays_as_it_was() -> None:
    record = read_kif(KIF)
    assert (record.start_sfen, record.moves, record.fault) == (STANDARD_SFEN, MOVES, "")
    assert (record.black, record.white) == ("A", "B")
    assert record.end == "White wins by resignation"
    assert record.kif == KIF


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("中断", "Ends by interruption"),
        ("千日手", "Drawn by repetition"),
        ("切れ負け", "White wins by time"),
        ("入玉勝ち", "Black wins by declaration"),
        ("反則勝ち", "Black wins by an illegal move"),
        ("封じ手", ""),
    ],
)
def test_an_ending_is_told_in_words(word: str, end: str) -> None:
    assert read_kif(KIF.replace("投了", word)).end == end


def test_csa_is_read_as_the_same_game() -> None:
    record = read_csa(CSA)
    assert (record.start_sfen, record.moves, record.fault) == (STANDARD_SFEN, MOVES, "")
    assert (record.black, record.white, record.end) == ("A", "B", "White wins by resignation")
    assert read_kif(record.kif).moves == MOVES


@pytest.mark.parametrize("between", ["/\n", "", "'comment\n"])
def test_the_first_of_several_games_is_read(between: str) -> None:
    record = read_csa(f"{CSA}{between}V2.2\nPI\n+\n+2726FU\n")
    assert (record.moves, record.fault) == (MOVES, "")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("２二角成(88)", "２二角成(77)", "line 11: move 3 '２二角成(77)' is not legal"),
        ("２二角成(88)", "２二角成", "line 11: move 3 '２二角成' cannot be read"),
        ("同　銀(31)", "同　銀(39)", "line 12: move 4 '同\u3000銀(39)' is not legal"),
    ],
)
def test_kif_is_read_up_to_a_move_that_cannot_be_played(old: str, new: str, what: str) -> None:
    record = read_kif(KIF.replace(old, new))
    assert (record.fault, record.end) == (what, "")
    assert record.moves == MOVES[: len(record.moves)]
    assert len(record.moves) == int(what.split()[3]) - 1
    assert read_kif(record.kif).moves == record.moves
    assert "変化" not in record.kif


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("   1 ７六歩", "   2 ７六歩", "line 7: move 1 '７六歩(77)' has number 2, expected 1"),
        ("   3 ２二", "   5 ２二", "line 11: move 3 '２二角成(88)' has number 5, expected 3"),
        ("   3 ２二", "   1 ２二", "line 11: move 3 '２二角成(88)' has number 1, expected 3"),
        ("   5 投了", "   7 投了", "line 13: move 5 '7 投了' has number 7, expected 5"),
        # The move may be legal where the one before it is missing, or not.
        ("   2 ３四歩(33)   ( 0:01/00:00:01)\n", "", "line 10: move 2 '２二角成(88)' has number 3"),
    ],
)
def test_kif_is_read_up_to_where_moves_are_missing(old: str, new: str, what: str) -> None:
    record = read_kif(KIF.replace(old, new, 1))
    assert record.fault.startswith(what)
    assert record.moves == MOVES[: int(what.split()[3]) - 1]
    assert (record.end, record.winner) == ("", None)
    assert read_kif(record.kif).moves == record.moves


def test_kif_is_numbered_as_it_likes_behind_a_diagram_and_at_its_end() -> None:
    lines = unfinished_to_kif("4k4/9/4p4/9/9/9/9/1R7/4K4 b 2G 1", ["8h5h", "5a5b", "G*4b"])
    kif = lines.replace("   1 ", "  36 ").replace("   2 ", "  37 ").replace("   3 ", "  38 ")
    assert kif != lines
    assert read_kif(kif).moves == ("8h5h", "5a5b", "G*4b")
    assert read_kif(kif).fault == ""
    assert read_kif(KIF.replace("   5 投了", "   4 投了")).fault == ""


def test_csa_is_read_up_to_a_move_that_cannot_be_played() -> None:
    record = read_csa(CSA.replace("+8822UM", "+8899UM"))
    assert record.moves == MOVES[:2]
    assert (record.fault, record.end) == ("line 9: move 3 '+8899UM' is not legal", "")
    assert read_kif(record.kif).moves == MOVES[:2]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("+8822UM", "+88XXUM", "line 9: move 3 '+88XXUM' cannot be read"),
        ("+8822UM", "8822UM", "line 9: move 3 '8822UM' cannot be read"),
        ("+8822UM", "-8822UM", "line 9: move 3 '-8822UM' is not legal"),
        ("-3334FU", "-33", "line 8: move 2 '-33' cannot be read"),
        ("-3122GI\n%TORYO\n", "-31", "line 10: move 4 '-31' cannot be read"),
        ("-3122GI\n%TORYO\n", "-", "line 10: move 4 '-' cannot be read"),
        # The first of two faults, though the rules library complains about the second.
        ("-3334FU\n+8822UM", "-3335FU\n+88", "line 8: move 2 '-3335FU' is not legal"),
        ("+7776FU,T3", "+77", "line 6: move 1 '+77' cannot be read"),
        ("+\n+7776FU,T3", "+\n+", "line 6: move 1 '+' cannot be read"),
        ("+\n+7776FU,T3", "-7776FU,T3", "line 5: move 1 '-7776FU' is not legal"),
    ],
)
def test_csa_is_read_up_to_a_line_that_is_damaged(old: str, new: str, what: str) -> None:
    record = read_csa(CSA.replace(old, new))
    assert (record.fault, record.end, record.winner) == (what, "", None)
    assert record.moves == MOVES[: int(what.split()[3]) - 1]


@pytest.mark.parametrize(
    "sfen",
    [
        "lnsgkgsnl/1r7/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL w - 1",
        "2sgkgs2/9/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL w - 1",
        "4k4/9/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL w - 1",
        "5gk2/9/9/9/9/9/9/9/4K4 w P17p 1",
    ],
)
def test_handicaps_and_boards_are_start_positions(sfen: str) -> None:
    move = "4a4b" if "gk2" in sfen else "5a5b"
    record = read_kif(unfinished_to_kif(sfen, [move]))
    assert (record.start_sfen.rpartition(" ")[0], record.moves) == (sfen[:-2], (move,))
    assert record.end == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no line of KIF"),
        ("7g7f 3c3d", "no line of KIF"),
        (KIF.replace("平手", "5五将棋"), "手合割：5五将棋"),
        (KIF.replace("手合割：平手", "手合割：その他"), "start position that is not known"),
    ],
)
def test_what_is_not_a_game_of_shogi_in_kif_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_kif(text)


@pytest.mark.parametrize("text", ["", "hello", "7g7f 3c3d"])
def test_what_is_not_csa_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no line of CSA"):
        read_csa(text)


KI2 = "手合割：平手\n先手：A\n後手：B\n▲７六歩    △３四歩\n*comment\n▲２二角成  △同　銀\n"


def test_ki2_is_read_as_the_same_game() -> None:
    record = read_ki2(KI2 + "▲４五角    △投了\nまで5手で先手の勝ち\n")
    assert (record.start_sfen, record.fault) == (STANDARD_SFEN, "")
    assert record.moves == (*MOVES, "B*4e")
    assert (record.black, record.white, record.end) == ("A", "B", "Black wins by resignation")


@pytest.mark.parametrize(
    "written",
    [
        "▲５八金右",  # As it must be.
        "▲5八金右",
        "▲５八金右上",  # More than is needed.
    ],
)
def test_a_move_of_ki2_may_say_more_than_it_must(written: str) -> None:
    moves = read_ki2(f"▲７六歩 △３四歩\n{written}\n").moves
    assert moves == ("7g7f", "3c3d", "4i5h")


@pytest.mark.parametrize(
    ("written", "move"),
    [
        ("▲２二角打", "move 1 '▲２二角打'"),  # The rules library ends the process at these two.
        ("▲７六歩 △３四歩 ▲２二角成 △同銀 ▲４五角 ▲４五角", "move 6 '▲４五角'"),
        ("▲５八金", "move 1 '▲５八金'"),  # One of two.
        ("▲７六歩 △７六歩", "move 2 '△７六歩'"),
        ("▲同歩", "move 1 '▲同歩'"),
    ],
)
def test_a_move_of_ki2_that_cannot_be_played_is_named(written: str, move: str) -> None:
    with pytest.raises(ValueError, match=f"{move} is not legal"):
        read_ki2(f"{written}\n")

"""Lines of the protocol: read into commands, refused, and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.usi.protocol import (
    INFINITE_MS,
    Go,
    Info,
    Limits,
    Position,
    ProtocolError,
    SetOption,
    bestmove,
    parse,
)

WORDS = ["usi", "isready", "usinewgame", "stop", "ponderhit", "gameover", "quit", "setoption"]
WORDS += ["name", "value", "position", "startpos", "sfen", "moves", "go", "btime", "infinite"]
WORDS += ["ponder", "mate", "nodes", "7g7f", "b", "-", "1", "-5", "9" * 5000, "\x00", "é", "", "\t"]


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("", None),
        (" \t", None),
        ("usi", "usi"),
        ("  isready  ", "isready"),
        ("gameover lose", "gameover"),
        ("setoption name USI_Ponder value true", SetOption("USI_Ponder", "true")),
        ("setoption name Checkpoint value /a b/c", SetOption("Checkpoint", "/a b/c")),
        ("setoption name Skill Level value -3", SetOption("Skill Level", "-3")),
        ("setoption name Checkpoint value", SetOption("Checkpoint", "")),
        ("setoption name Clear Hash", SetOption("Clear Hash", "")),
        ("position startpos", Position(STANDARD_SFEN, ())),
        ("position startpos moves 7g7f 3c3d", Position(STANDARD_SFEN, ("7g7f", "3c3d"))),
        (
            "position sfen 4k4/9/9/9/9/9/9/9/4K4 w R 3 moves 5a4a",
            Position("4k4/9/9/9/9/9/9/9/4K4 w R 3", ("5a4a",)),
        ),
        ("go", Go(Limits())),
        (
            "go ponder btime 1 wtime 2 byoyomi 3 binc 4 winc 5",
            Go(Limits(btime=1, wtime=2, byoyomi=3, binc=4, winc=5, ponder=True)),
        ),
        ("go infinite nodes 7 movetime 8", Go(Limits(nodes=7, movetime=8, infinite=True))),
        ("go mate infinite", Go(Limits(mate=INFINITE_MS))),
        ("go mate 5000", Go(Limits(mate=5000))),
        ("go mate", Go(Limits(mate=INFINITE_MS))),
        ("go mate nodes 100", Go(Limits(mate=INFINITE_MS, nodes=100))),
        ("go mate ponder", Go(Limits(mate=INFINITE_MS, ponder=True))),
        ("go nodes 3 mate infinite ponder", Go(Limits(mate=INFINITE_MS, nodes=3, ponder=True))),
        (f"go nodes {'9' * 5000} infinite", Go(Limits(nodes=10**15, infinite=True))),
        (f"go btime {'9' * 16} wtime {'9' * 15}", Go(Limits(btime=10**15, wtime=10**15 - 1))),
        (f"go btime -{'9' * 5000} nodes {'0' * 5000}7", Go(Limits(btime=0, nodes=7))),
        ("go btime -20 wtime 7", Go(Limits(btime=0, wtime=7))),
    ],
)
def test_commands_are_read(line: str, command: object) -> None:
    assert parse(line) == command


@pytest.mark.parametrize(
    "line",
    ["hello", "position", "position sfen", "position sfen moves 7g7f", "position startpos 7g7f",
     "setoption", "setoption USI_Hash 5", "setoption name", "USI"],
)  # fmt: skip
def test_what_is_no_command_is_refused_in_one_line(line: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "limits", "complaint"),
    [
        ("go byoyomi abc", Limits(), "byoyomi 'abc' is not a number"),
        ("go nodes", Limits(), "nodes '' is not a number"),
        ("go mate soon nodes 5", Limits(mate=INFINITE_MS, nodes=5), "mate 'soon' is not a number"),
        ("go byoyomi nodes 5", Limits(nodes=5), "byoyomi 'nodes' is not a number"),
        ("go byoyomi infinite", Limits(infinite=True), "byoyomi 'infinite' is not a number"),
        ("go depth 3 nodes 5", Limits(nodes=5), "unknown word 'depth'"),
        ("go nodes ٣ btime 1_0", Limits(), "nodes '٣' is not a number"),
    ],
)
def test_go_is_read_as_far_as_it_can_be(line: str, limits: Limits, complaint: str) -> None:
    command = parse(line)
    assert isinstance(command, Go)
    assert command.limits == limits
    assert complaint in command.complaints[0]
    assert max(map(len, command.complaints)) < 400


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=8)).map(" ".join))
def test_any_line_is_a_command_or_refused(line: str) -> None:
    try:
        command = parse(line)
    except ProtocolError:
        assert line.split()[0] != "go"
    else:
        assert (command is None) == (not line.split())


def test_an_info_line_has_what_a_client_shows_and_the_moves_last() -> None:
    info = Info(2, 5, 800, 400, 2000, 12, "cp -35", ("7g7f", "3c3d"), multipv=2)
    assert info.line() == (
        "info depth 2 seldepth 5 time 2000 nodes 800 nps 400 hashfull 12 multipv 2 "
        "score cp -35 pv 7g7f 3c3d"
    )


def test_the_expected_reply_follows_the_move() -> None:
    assert bestmove("7g7f", "3c3d") == "bestmove 7g7f ponder 3c3d"
    assert bestmove("resign") == "bestmove resign"

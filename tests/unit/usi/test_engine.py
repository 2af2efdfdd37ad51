"""The conversation: every command in every order, and one answer to every `go`."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keisei_ray.search.search import Evaluate, Search
from keisei_ray.search.settings import SearchSettings
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.usi import engine, thinker
from keisei_ray.usi.engine import STOP_S
from keisei_ray.usi.messages import Think
from keisei_ray.usi.options import Options
from keisei_ray.usi.position import any_move, described_game
from keisei_ray.usi.protocol import Position, parse
from tests.helpers.usi_talk import MISSING, Talk

MATED = "position sfen 4k4/4G4/4P4/9/9/9/9/9/4K4 w - 1"
DECLARABLE = "position sfen K+R+R6/PPPPPPPPP/9/9/9/9/9/9/4k4 b 2B8P 1"
MATE_IN_ONE = "position sfen 4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
MATE_IN_THREE = "position sfen 7k1/9/8l/4G1S1p/9/9/9/9/4K4 b GR 1"
"""Also by a quiet first move, which is no answer to `go mate`."""
MATE_IN_SEVEN = (
    "position sfen 7+BS/lkg2+N3/6+N1p/lPS1p2+L1/p5pBP/5P3/P4RPPL/SNR2GSK1/7N1 b 2G8P 153"
)
OPEN_PROBLEM = (
    "position sfen 1n4G2/+Rnkgs4/1pp5p/p3p2+B1/9/2PpP4/PP3PPPP/L1G6/1NSK1GSNL b RBS2L4P 49"
)
"""A mate of 17 plies, which takes thousands of positions."""
ONLY_MOVE = "position sfen 4k4/9/9/9/9/9/4r4/3s1g3/4K4 b - 1"


def is_legal(answer: str) -> bool:
    """Whether an answer is a move from the standard position."""
    move = answer.split()[1]
    return described_game(Position(STANDARD_SFEN, ())).find_move(move) is not None


def any_answer(position: str = "position startpos") -> str:
    """The answer where nothing is known."""
    command = parse(position)
    assert isinstance(command, Position)
    return f"bestmove {any_move(described_game(command))}"


def due(talk: Talk) -> float | None:
    return talk.engine.due


class Clock:
    """Stands in for `time`: a millisecond passes with each look at it, and all else when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now


clock = Clock()


@pytest.fixture(autouse=True)
def _a_clock_that_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for an answer that is due in 30,000 years, as to `go mate infinite`."""
    monkeypatch.setattr(clock, "now", 0.0)
    for module in (engine, thinker):
        monkeypatch.setattr(module, "time", clock)


def wait_until_due(talk: Talk) -> None:
    """Lets the time pass until nothing is due any more."""
    while (end := due(talk)) is not None:
        clock.now = end
        talk.engine.answer_in_time()


def test_the_engine_introduces_itself_without_a_network() -> None:
    talk = Talk()
    lines = talk.say("usi")
    assert lines[0].startswith("id name Keisei Ray ")
    assert lines[-1] == "usiok"
    assert all(line.startswith(("id ", "option name ")) for line in lines[:-1])
    assert talk.jobs == []


def test_isready_loads_the_network_once() -> None:
    talk = Talk()
    talk.say("setoption name Checkpoint value a")
    assert talk.ask("isready") == "readyok"
    assert talk.ask("usinewgame", "isready", "isready") == "readyok"
    assert talk.sent.count("readyok") == 3
    talk.ask("setoption name Checkpoint value b", "isready")
    assert talk.loads == ["a", "b"]


def test_a_move_and_what_is_thought_of_it() -> None:
    talk = Talk()
    *infos, answer = talk.say("position startpos", "go nodes 50") + talk.work()
    assert is_legal(answer)
    assert infos[-1].startswith("info depth ")
    assert f" pv {answer.split()[1]} " in infos[-1]


def test_a_number_of_lines_is_shown_in_order() -> None:
    talk = Talk(Options(multi_pv=3, hash_mb=16))
    *infos, answer = talk.say("go nodes 90") + talk.work()
    ranks = [line.split(" multipv ")[1].split()[0] for line in infos[-3:]]
    assert ranks == ["1", "2", "3"]
    assert f" pv {answer.split()[1]} " in infos[-3]


@pytest.mark.parametrize(
    ("position", "go", "answer"),
    [
        (MATED, "go byoyomi 1000", "bestmove resign"),
        (DECLARABLE, "go byoyomi 1000", "bestmove win"),
        (MATE_IN_ONE, "go byoyomi 60000", "bestmove G*5b"),
        ("position sfen 9/9/9/9/9/9/9/9/9 b - 1", "go byoyomi 1000", "bestmove resign"),
        ("position sfen nonsense", "go nodes 5", "bestmove resign"),
        (f"position sfen {STANDARD_SFEN[:-1]}65535", "go nodes 5", "bestmove resign"),
        (MATED, "go mate 1000", "checkmate nomate"),
        (MATE_IN_ONE, "go mate 60000", "checkmate G*5b"),
        ("position sfen nonsense", "go mate 1000", "checkmate notimplemented"),
        ("position startpos", "go mate infinite", "checkmate nomate"),
        (OPEN_PROBLEM, "go mate 500", "checkmate timeout"),
        (MATE_IN_ONE, f"go nodes {'9' * 5000} btime {'9' * 20} wtime {'9' * 20}", "bestmove G*5b"),
        (OPEN_PROBLEM, "go mate nodes 100", "checkmate timeout"),
        (MATE_IN_ONE, "go mate", "checkmate G*5b"),
        (MATE_IN_ONE, "go mate nodes 100", "checkmate G*5b"),
        ("position startpos", "go mate", "checkmate nomate"),
    ],
)
def test_answers_by_the_rules(position: str, go: str, answer: str) -> None:
    assert Talk().ask(position, go) == answer


@pytest.mark.parametrize(
    "line", ["position", "position sfen", "  position start", "position sfen nonsense"]
)
def test_a_position_that_is_refused_takes_the_place_of_the_one_before(line: str) -> None:
    talk = Talk()
    assert is_legal(talk.ask("position startpos", "go nodes 5"))
    assert talk.ask(line, "go nodes 5") == "bestmove resign"
    assert len(talk.complaints) == 1
    assert is_legal(talk.ask("position startpos", "positions", "go nodes 5"))


def test_a_mate_in_three_is_found_and_shown() -> None:
    talk = Talk()
    answer = talk.ask(MATE_IN_THREE, "go mate infinite")
    assert answer.split()[0] == "checkmate"
    assert len(answer.split()) == 4
    assert " score mate 3 " in talk.sent[-2]


def test_a_long_mate_is_played_and_shown_to_its_end() -> None:
    talk = Talk()
    answer = talk.ask(MATE_IN_SEVEN, "go nodes 1000")
    info = talk.sent[-2]
    assert " score mate 7 " in info
    line = info.split(" pv ")[1].split()
    assert len(line) == 7
    assert answer == f"bestmove {line[0]}"


def test_a_search_for_a_mate_tells_how_far_it_is() -> None:
    """Each second, on a clock that counts a millisecond for each position looked at."""
    talk = Talk()
    talk.ask(OPEN_PROBLEM, "go mate 3500")
    counts = [int(line.split(" nodes ")[1].split()[0]) for line in talk.sent if "info" in line]
    assert len(counts) == 4
    assert counts == sorted(counts)
    assert counts[0] > 0


@pytest.mark.parametrize("go", ["go infinite", "go ponder btime 0 wtime 0 byoyomi 100"])
@pytest.mark.parametrize("position", ["position startpos", MATED, DECLARABLE, "position sfen x"])
def test_an_answer_that_must_wait_comes_after_stop(position: str, go: str) -> None:
    talk = Talk()
    talk.say(position, go)
    talk.work()
    assert talk.answers() == []
    assert due(talk) is None
    talk.say("stop")
    assert len(talk.answers()) == 1


def test_ponderhit_starts_the_clock() -> None:
    talk = Talk()
    talk.say("go ponder btime 0 wtime 0 byoyomi 60000")
    (job,) = talk.jobs
    assert isinstance(job, Think)
    assert due(talk) is None
    before = clock.monotonic()
    talk.say("ponderhit")
    assert before + 59.8 <= (due(talk) or 0) <= clock.monotonic() + 59.8
    assert job.control.stop_at == due(talk)
    talk.work()
    assert len(talk.answers()) == 1


def test_a_reply_is_expected_only_where_the_client_ponders() -> None:
    assert len(Talk().ask("go nodes 60").split()) == 2
    words = Talk().ask("setoption name USI_Ponder value true", "go nodes 60").split()
    assert words[2] == "ponder"


def test_the_time_is_kept_though_the_thinker_does_not_answer() -> None:
    talk = Talk()
    talk.say("go btime 0 wtime 0 byoyomi 20")
    wait_until_due(talk)
    (answer,) = talk.answers()
    assert is_legal(answer)
    assert talk.work() == []


def test_the_best_move_so_far_is_played_where_time_is_up() -> None:
    talk = Talk()
    talk.say("go byoyomi 20")
    (job,) = talk.jobs
    assert isinstance(job, Think)
    job.control.best = "2g2f"
    wait_until_due(talk)
    assert talk.answers() == ["bestmove 2g2f"]


def test_a_searched_move_is_played_where_there_is_no_time() -> None:
    talk = Talk()
    searched = talk.ask("go nodes 60")
    assert searched != any_answer()
    for go in ("go movetime 0", "go btime 0 wtime 0 byoyomi 0", "go btime 0 wtime 0 byoyomi 20"):
        talk.say("position startpos", go)
        wait_until_due(talk)
        assert talk.sent[-1] == searched
    talk.say("go infinite", "go infinite", "stop")  # The first is answered at once.
    wait_until_due(talk)
    assert talk.sent[-2:] == [searched] * 2
    talk.say("usinewgame", "go movetime 0")
    wait_until_due(talk)
    assert talk.sent[-1] == any_answer()


def test_a_move_of_the_kept_tree_is_known_before_anything_that_takes_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk, same = Talk(most_evaluations=100), Talk(most_evaluations=100)
    line = talk.ask("setoption name USI_Ponder value true", "go nodes 600")
    assert same.ask("setoption name USI_Ponder value true", "go nodes 600") == line
    position = f"position startpos moves {line.split()[1]} {line.split()[3]}"
    known = same.ask(position, "go nodes 1").split()[1]
    assert f"bestmove {known}" != any_answer(position)
    monkeypatch.setattr(Search, "start", None)
    assert talk.ask(position, "go movetime 0") == f"bestmove {known}"
    assert talk.complaints == ["search failed: TypeError: 'NoneType' object is not callable"]


def test_a_late_answer_waits_a_little_for_the_first_move_of_the_thinker() -> None:
    talk = Talk()
    talk.say("go movetime 100")
    (job,) = talk.jobs
    assert isinstance(job, Think)
    clock.now = due(talk) or 0  # After half of the time.
    talk.engine.answer_in_time()
    assert talk.answers() == []
    assert job.started + 0.07 < (due(talk) or 0) < job.started + 0.08
    job.control.best = "2g2f"
    talk.engine.answer_in_time()
    assert talk.answers() == ["bestmove 2g2f"]


def test_on_a_busy_machine_moves_are_given_less_time() -> None:
    talk = Talk()
    talk.engine.note_delay(0.3)
    talk.engine.note_delay(0.1)
    before = clock.monotonic()
    talk.say("go btime 0 wtime 0 byoyomi 9000")
    assert before + 8.49 < (due(talk) or 0) <= clock.monotonic() + 8.51
    for _ in range(5000):
        talk.engine.note_delay(0.0)
    before = clock.monotonic()
    talk.say("go btime 0 wtime 0 byoyomi 9000")
    assert before + 8.79 < (due(talk) or 0)


def test_stop_is_answered_soon_though_the_thinker_does_not_answer() -> None:
    talk = Talk()
    talk.say("go infinite")
    before = clock.monotonic()
    talk.say("stop")
    assert before <= (due(talk) or 0) <= clock.monotonic() + STOP_S
    talk.say("stop")
    talk.work()
    assert len(talk.answers()) == 1


@pytest.mark.parametrize("line", ["go nodes 9", "isready", "usinewgame"])
def test_an_open_go_is_answered_before_what_comes_next(line: str) -> None:
    talk = Talk()
    talk.say("go infinite", line)
    assert len(talk.answers()) == 1
    talk.work()
    assert len(talk.answers()) == 1 + line.startswith("go")


def test_stop_without_a_search_is_not_answered() -> None:
    talk = Talk()
    assert talk.say("stop", "gameover win", "stop") == []
    assert talk.complaints == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hello", "unknown command 'hello'"),
        ("\x1b[2J", "unknown command '\\x1b[2J'"),
        ("setoption name MultiPV value 0", "expected a whole number from 1 to 593"),
        ("position startpos moves 7g7e", "is not legal"),
        ("ponderhit", "after 'go ponder' only"),
    ],
)
def test_what_makes_no_sense_is_complained_about_in_one_line(line: str, told: str) -> None:
    talk = Talk()
    assert talk.say(line) == []
    (complaint,) = talk.complaints
    assert told in complaint
    assert "\n" not in complaint


def test_a_checkpoint_that_is_missing_is_said_and_ends_the_engine() -> None:
    talk = Talk()
    line = talk.ask(f"setoption name Checkpoint value {MISSING}", "isready")
    assert line == f"info string Error: CheckpointError: {MISSING} is missing."
    assert talk.engine.exit_code == 2
    assert "readyok" not in talk.sent


def test_a_go_is_answered_though_there_is_no_network() -> None:
    talk = Talk(Options(checkpoint=MISSING))
    talk.ask("position startpos", "go byoyomi 1000")
    (answer,) = talk.answers()
    assert is_legal(answer)


def test_a_network_that_is_named_in_a_game_is_loaded_at_the_next_isready() -> None:
    talk = Talk()
    talk.ask("setoption name Checkpoint value a", "go nodes 20")  # The first go has to load one.
    assert talk.loads == ["a"]
    talk.say(f"setoption name Checkpoint value {MISSING}", "setoption name Threads value 2")
    *infos, answer = talk.say("go nodes 20") + talk.work()
    assert answer.split()[1] in infos[-1]
    assert talk.complaints == []
    talk.ask("setoption name Checkpoint value b", "isready", "go nodes 20")
    assert talk.loads == ["a", "b"]
    talk.ask(f"setoption name Checkpoint value {MISSING}", "isready")
    assert talk.engine.exit_code == 2


def test_a_search_that_fails_is_answered_and_the_next_one_works() -> None:
    talk = Talk()
    talk.ask("isready")
    talk.breaks = True
    talk.ask("go nodes 20")
    assert talk.complaints == ["search failed: RuntimeError: broken network"]
    talk.breaks = False
    assert is_legal(talk.ask("go nodes 20"))
    assert len(talk.answers()) == 2
    assert talk.engine.exit_code is None


def test_it_resigns_when_set_to() -> None:
    lost = "position sfen 4k4/9/9/9/9/9/9/9/R3K3R w 2G2S 1"
    talk = Talk(Options(resign_value=1000, hash_mb=16))
    assert talk.ask(lost, "go nodes 30") == "bestmove resign"
    assert talk.ask("setoption name ResignValue value 0", "go nodes 30") != "bestmove resign"
    talk.say("setoption name ResignValue value 1000")
    assert talk.ask(MATE_IN_ONE, "go nodes 30") == "bestmove G*5b"


@pytest.mark.parametrize("draw_value", [0, 250, 1000])
@pytest.mark.parametrize("nodes", [1, 2, 100])
def test_chances_and_scores_count_a_draw_as_half(draw_value: int, nodes: int) -> None:
    """Also after the single look at the root, where no move has been tried."""
    talk = Talk(Options(hash_mb=16, resign_value=50, draw_value=draw_value), 200)
    talk.most_value, talk.draw_prob = 0.0, 0.97
    assert is_legal(talk.ask(f"go nodes {nodes}"))
    assert " score cp 0 " in talk.sent[-2]
    talk.say("usinewgame", "setoption name ResignValue value 510")
    assert talk.ask(f"go nodes {nodes}") == "bestmove resign"


def test_the_tree_is_kept_from_move_to_move() -> None:
    def visits(talk: Talk) -> int:
        return int(talk.sent[-2].split(" nodes ")[1].split()[0])

    talk = Talk(most_evaluations=100)
    first, reply = talk.ask("setoption name USI_Ponder value true", "go nodes 600").split()[1::2]
    position = f"position startpos moves {first} {reply}"
    talk.ask(position, "go nodes 1")
    assert visits(talk) > 1
    talk.ask("usinewgame", position, "go nodes 1")
    assert visits(talk) == 1


@pytest.mark.parametrize("draw_value", [0, 500])
def test_a_tree_is_kept_where_a_draw_is_worth_the_same_to_the_same_side(draw_value: int) -> None:
    def visits(talk: Talk) -> int:
        return int(
            [line for line in talk.sent if " nodes " in line][-1].split(" nodes ")[1].split()[0]
        )

    talk = Talk(most_evaluations=100)
    first = talk.ask(f"setoption name DrawValue value {draw_value}", "go nodes 600").split()[1]
    talk.ask("go nodes 1")
    assert visits(talk) > 100
    talk.say("go infinite nodes 1")  # There a draw counts half.
    talk.work()
    assert (visits(talk) > 100) == (draw_value == 500)
    talk.ask("stop", "go nodes 600")
    assert visits(talk) > 100
    talk.ask(f"position startpos moves {first}", "go nodes 1")  # The other side is to move.
    assert (visits(talk) > 1) == (draw_value == 500)


def test_weaker_play_is_more_varied() -> None:
    talk = Talk()
    assert len({talk.ask("usinewgame", "go nodes 60") for _ in range(6)}) == 1
    talk.say("setoption name Temperature value 500")
    assert len({talk.ask("usinewgame", "go nodes 60") for _ in range(12)}) > 1


def test_a_full_memory_ends_the_search_with_a_move() -> None:
    talk = Talk(Options(hash_mb=1), most_evaluations=10**6)
    assert is_legal(talk.ask("go nodes 1000000"))
    assert " hashfull 1000 " in talk.sent[-2]
    assert is_legal(talk.ask("usinewgame", "go nodes 100"))


def limit_memory(monkeypatch: pytest.MonkeyPatch, most_mb: int) -> None:
    """Has larger trees refused by the operating system."""

    def limited(evaluate: Evaluate, settings: SearchSettings, memory_bytes: int) -> Search:
        if memory_bytes > most_mb << 20:
            raise MemoryError
        return Search(evaluate, settings, memory_bytes)

    monkeypatch.setattr(thinker, "Search", limited)


@pytest.mark.parametrize(("machine_mb", "given_mb"), [(32, 2**20), (64, 32)])
def test_a_tree_that_memory_cannot_hold_is_said_once_and_becomes_smaller(
    machine_mb: int, given_mb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thinker, "_most_hash_mb", lambda: machine_mb)
    limit_memory(monkeypatch, given_mb)
    talk = Talk()
    talk.ask("setoption name USI_Hash value 1048576", "isready")
    said, ready = talk.sent
    assert ready == "readyok"
    assert said == (
        "info string option USI_Hash = 1048576: this machine can hold 32 MiB, with which it goes "
        "on. Set USI_Hash to at most 32."
    )
    talk.ask("usinewgame", "isready", "go nodes 30")
    assert [line.split()[0] for line in talk.sent[2:]] == ["readyok", "info", "bestmove"]
    assert talk.complaints == [said.removeprefix("info string ")]
    talk.ask("setoption name USI_Hash value 32", "go nodes 30")
    assert len(talk.complaints) == 1


def test_without_memory_for_the_least_tree_there_is_no_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_memory(monkeypatch, 1)
    with pytest.raises(MemoryError):
        Talk().ask("isready")


LINES = [
    "usi", "isready", "usinewgame", "stop", "ponderhit", "gameover lose", "", "garbage",
    "go", "go infinite", "go ponder btime 0 wtime 0 byoyomi 5", "go btime 0 wtime 0 byoyomi 5",
    "go nodes 3", "go movetime 4", "go mate 5", "go mate infinite", "go btime 10 wtime 10",
    "go byoyomi x", "position startpos", "position startpos moves 7g7f 3c3d",
    "position startpos moves 7g7e", "position sfen 9/9/9/9/9/9/9/9/9 b - 1", MATED, DECLARABLE,
    MATE_IN_ONE, ONLY_MOVE, "setoption name MultiPV value 3", "setoption name BatchSize value 1",
    "setoption name Checkpoint value other", "setoption name USI_Hash value 17",
    "setoption name Simulations value 5", "setoption name USI_Ponder value true",
    "setoption name MaxMovesToDraw value 1", "setoption name ResignValue value 500",
    "setoption name Temperature value 100", "setoption name TimeMargin value -1",
]  # fmt: skip
WORK, WAIT = object(), object()
"""Steps besides lines: the thinker does its jobs; the time that is due comes."""


@settings(max_examples=60)
@example(["go mate infinite", WAIT])
@given(st.lists(st.sampled_from([*LINES, WORK, WORK, WAIT]), max_size=25))
def test_every_go_gets_one_answer_whatever_else_is_said(steps: list[object]) -> None:
    talk = Talk(most_evaluations=4)
    goes = 0
    for step in steps:
        if step is WORK:
            talk.work()
        elif step is WAIT:
            wait_until_due(talk)
        else:
            assert isinstance(step, str)
            talk.say(step)
            goes += step.startswith("go")
            if step.startswith("go"):
                assert len(talk.answers()) >= goes - 1
        assert len(talk.answers()) <= goes
    talk.say("stop")
    talk.work()
    assert len(talk.answers()) == goes
    assert talk.engine.exit_code is None
    talk.say("quit")
    assert talk.engine.exit_code == 0

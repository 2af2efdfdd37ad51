"""USI engines as players: good ones, every kind of bad one, and the processes they leave."""

import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keisei_ray.config.player_spec import EngineSpec
from keisei_ray.errors import EngineDiedError, EngineTimeoutError, PlayerError
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, play_match
from keisei_ray.players import usi_player
from keisei_ray.players.player import Player, open_player
from keisei_ray.players.policies import choose_random
from keisei_ray.players.usi_engine import UsiEngine, centipawns_of, go_command
from keisei_ray.players.usi_player import UsiPlayer
from keisei_ray.shogi.game_record import MAX_EVAL
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.engines import (
    assert_all_ended,
    choose_by_rule,
    fake_spec,
    find_engine,
    living_members,
    rule_spec,
)
from tests.helpers.waiting import wait_until

RANDOM = Player("random", choose_random)
START = "position sfen lnsgkgsnl/1r5b1/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL b - 1"
OWNER = f"""
import sys
from keisei_ray.config.player_spec import EngineSpec
from keisei_ray.players.usi_engine import UsiEngine
engine = UsiEngine(EngineSpec.parse(sys.argv[1]))
engine.prepare()
engine.best_move({START!r})
"""


def play(spec: str, num_games: int = 4, **settings: Any) -> list[PlayedGame]:
    """Plays a match of the engine, as first player, against random."""
    match = MatchSettings(num_games, **({"seed": 3, "max_plies": 40} | settings))
    with open_player(spec) as engine:
        return sorted(play_match((engine, RANDOM), match), key=lambda game: game.index)


def reasons(games: list[PlayedGame]) -> Counter[str]:
    return Counter(game.reason for game in games)


# Engines that play


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_an_engine_plays_every_lane_as_the_same_rule_does_without_it(processes: int) -> None:
    """Positions and answers reach the right game, however many processes share them."""
    match = MatchSettings(10, seed=5, max_plies=60)
    rule = Player("rule", choose_by_rule)
    expected = list(play_match((rule, RANDOM), match))
    with open_player(rule_spec(f"processes={processes}")) as engine:
        assert engine.identity == {"engine": "rule engine"}
        assert list(play_match((engine, RANDOM), match)) == expected


def test_the_spec_is_the_name() -> None:
    spec = rule_spec("Depth=3&processes=1")
    with open_player(spec) as engine:
        assert engine.name == spec


@pytest.mark.parametrize(
    ("query", "go"),
    [
        ("", "go btime 0 wtime 0 byoyomi 100"),
        ("?byoyomi-ms=250", "go btime 0 wtime 0 byoyomi 250"),
        ("?nodes=7", "go nodes 7"),
    ],
)
def test_an_engine_thinks_within_its_limit(query: str, go: str) -> None:
    assert go_command(EngineSpec.parse(f"usi:engine{query}")) == go


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("rnadom", "unknown player 'rnadom'"),
        ("usi:a?nodes=0", "nodes = '0'"),
        ("usi:no-such-engine", "'no-such-engine' is not found"),
        ("usi:/etc/passwd", "'/etc/passwd' is not found"),
    ],
)
def test_a_player_that_cannot_be_had_is_refused_in_one_line(spec: str, says: str) -> None:
    with pytest.raises(PlayerError) as error:
        open_player(spec)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_text("not a program\n")
    program.chmod(0o755)
    with pytest.raises(PlayerError, match="cannot be started: Exec format error"):
        open_player(f"usi:{program}")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("Skil Level=1", "no option 'Skil Level'. Did you mean 'Skill Level'?"),
        ("Skill_Level=1", "no option 'Skill_Level'. Did you mean 'Skill Level'?"),
        ("Skill Level=21", "'spin default 20 min -20 max 20'"),
        ("Skill Level=x", "option 'Skill Level' = 'x'"),
        ("Ponder=yes", "option 'Ponder' = 'yes'"),
        ("Style=Risky", "option 'Style' = 'Risky'"),
    ],
)
def test_an_option_that_the_engine_does_not_have_is_refused(
    tmp_path: Path, option: str, says: str
) -> None:
    lines = (
        "option name Skill Level type spin default 20 min -20 max 20",
        "option name Ponder type check default false",
        "option name Style type combo default Very Solid var Very Solid var Normal",
    )
    spec = fake_spec(tmp_path, usi=";".join(f"echo {line}" for line in (*lines, "usiok")))
    with pytest.raises(PlayerError) as error:
        open_player(f"{spec}&{option}")
    assert says in str(error.value)
    open_player(f"{spec}&Skill Level=-20&Ponder=true&Style=Normal&USI_Hash=16").close()
    open_player(f"{spec}&Style=Very Solid").close()


def test_options_and_the_new_game_are_sent_before_the_first_position(tmp_path: Path) -> None:
    told = tmp_path / "told"
    usi = "echo option name A B type string; echo usiok"
    spec = fake_spec(tmp_path, start=f"told={told}", usi=usi)
    with UsiEngine(EngineSpec.parse(f"{spec}&A B=c d&nodes=5")) as engine:
        engine.prepare()
        engine.best_move(START)
    expected = ["usi", "setoption name A B value c d", "isready", "usinewgame", START, "go nodes 5"]
    assert told.read_text().splitlines() == [*expected, "quit"]


# Engines that cannot be started


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "error", "says"),
    [
        ({"start": "echo no >&2; exit 3"}, EngineDiedError, "exit code 3; it printed last: no"),
        ({"start": "kill -9 $$"}, EngineDiedError, "ended with signal 9"),
        ({"start": "exec >&-"}, EngineDiedError, "closed its output"),
        ({"usi": "echo hello"}, EngineTimeoutError, "no usiok in time; it printed last: hello"),
        ({"usi": "while :; do echo noise; done"}, EngineTimeoutError, "gave no usiok in time"),
        ({"usi": "while :; do printf noise; done"}, EngineTimeoutError, "gave no usiok in time"),
        ({"isready": ":"}, EngineTimeoutError, "gave no readyok in time"),
        ({"isready": "exit 0"}, EngineDiedError, "ended with exit code 0"),
    ],
    ids=lambda value: next(iter(value.items()))[1][:20] if isinstance(value, dict) else "",
)  # fmt: skip
def test_an_engine_that_fails_its_handshake_is_one_line_and_leaves_nothing(
    tmp_path: Path, parts: dict[str, str], error: type[PlayerError], says: str
) -> None:
    pids = tmp_path / "pids"
    parts = parts | {"start": f"echo $$ >> {pids}; {parts.get('start', ':')}"}
    spec = fake_spec(tmp_path, **parts, query="timeout-s=1")
    with pytest.raises(error) as raised:
        open_player(spec)
    assert says in str(raised.value)
    assert "engine.sh" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert_all_ended(pids)


# Engines that fail in a game


@pytest.mark.parametrize(
    ("go", "reason"),
    [
        ("exit 1", "engine_died"),
        ("kill -9 $$", "engine_died"),
        ("exec >&-", "engine_died"),
        (":", "engine_timeout"),
        ("echo bestmove 1a4c", "engine_illegal_move"),
        ("echo bestmove P*1a", "engine_illegal_move"),
        ("echo bestmove", "engine_garbage"),
        ("echo 'bestmove (none)'", "engine_garbage"),
        ("printf 'bestmove \\377\\376\\n'", "engine_garbage"),
        ("echo bestmove resign", "resign"),
        ("echo bestmove win", "engine_false_win"),
    ],
)
def test_each_way_to_fail_loses_the_game_and_is_counted(
    tmp_path: Path, go: str, reason: str
) -> None:
    games = play(fake_spec(tmp_path, go=go, query="processes=2&timeout-s=1"), num_games=2)
    assert reasons(games) == {reason: 2}
    assert {game.outcome for game in games} == {"loss"}
    assert {game.is_black for game in games} == {True, False}


@pytest.mark.slow
def test_a_flood_of_lines_without_a_move_is_a_time_out(tmp_path: Path) -> None:
    spec = fake_spec(tmp_path, go="yes info", query="timeout-s=0.5&processes=1")
    assert reasons(play(spec, num_games=2)) == {"engine_timeout": 2}


def test_an_engine_that_reads_nothing_is_a_time_out(tmp_path: Path) -> None:
    spec = fake_spec(tmp_path, go="sleep 1000", query="timeout-s=0.5&processes=1")
    with UsiEngine(EngineSpec.parse(spec)) as engine:
        engine.prepare()
        with pytest.raises(EngineTimeoutError, match="gave no bestmove"):
            engine.best_move(START)
        with pytest.raises(EngineTimeoutError, match="did not read 'position"):
            engine.best_move(START + " moves" + " 7g7f" * 20_000)


def test_much_noise_on_both_outputs_does_not_stop_an_engine(tmp_path: Path) -> None:
    noise = "head -c 300000 /dev/zero | tr '\\0' x >&2; seq 20000; echo bestmove 7g7f"
    with UsiEngine(EngineSpec.parse(fake_spec(tmp_path, go=noise, query="timeout-s=60"))) as engine:
        engine.prepare()
        assert [engine.best_move(START) for _ in range(3)] == ["7g7f"] * 3


def test_a_second_answer_is_not_taken_for_the_next_position(tmp_path: Path) -> None:
    go = "printf 'bestmove 7g7f\\nbestmove 2g2f\\n'"
    with UsiEngine(EngineSpec.parse(fake_spec(tmp_path, go=go))) as engine:
        engine.prepare()
        assert [engine.best_move(START) for _ in range(3)] == ["7g7f"] * 3


def test_an_engine_is_started_again_for_the_next_game(tmp_path: Path) -> None:
    """The engine resigns twice and dies the third time, again and again."""
    starts = tmp_path / "starts"
    go = "[ $n -lt 3 ] || exit 1; echo bestmove resign"
    games = play(fake_spec(tmp_path, start=f"echo x >> {starts}", go=go), num_games=8)
    assert reasons(games) == {"resign": 6, "engine_died": 2}
    assert len(starts.read_text().split()) == 3


def test_an_engine_that_fails_for_ever_ends_the_match_and_finished_games_stand(
    tmp_path: Path,
) -> None:
    starts = tmp_path / "starts"
    spec = fake_spec(tmp_path, start=f"echo x >> {starts}", go="echo oops >&2; exit 4")
    games: list[PlayedGame] = []
    match = play_match((open_player(spec), RANDOM), MatchSettings(200, seed=1), num_lanes=8)
    with pytest.raises(PlayerError) as error:
        games.extend(match)  # Keeps what came before the error.
    assert len(games) >= usi_player.MAX_RESTARTS
    assert set(reasons(games)) == {"engine_died"}
    assert "ended with exit code 4; it printed last: usiok / readyok / oops" in str(error.value)
    assert len(starts.read_text().split()) == 1 + usi_player.MAX_RESTARTS


def test_a_failing_engine_does_not_hurt_its_neighbour(tmp_path: Path) -> None:
    """The first of two processes dies at once, the other continues."""
    flag = tmp_path / "flag"
    start = f"if mkdir {flag} 2>/dev/null; then first=1; fi"
    spec = fake_spec(tmp_path, start=start, go="[ -z $first ] || exit 1; echo bestmove resign",
                     query="processes=2&timeout-s=10")  # fmt: skip
    assert reasons(play(spec, num_games=8)) == {"engine_died": 1, "resign": 7}


# Processes after the match


def test_closing_ends_the_engine_and_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    spec = fake_spec(tmp_path, start=f"echo $$ >> {pids}; sleep 1000 & sleep 1000 &")
    with open_player(spec):
        (pid,) = map(int, pids.read_text().split())
        assert len(living_members(pid)) == 4  # With the shell that guards them.
    assert_all_ended(pids)


def test_an_engine_that_does_not_quit_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    start = f"echo $$ >> {pids}; trap '' TERM INT HUP"
    spec = fake_spec(tmp_path, start=start, stop="sleep 1000", query="timeout-s=0.5")
    open_player(spec).close()
    assert_all_ended(pids)


def test_an_engine_is_asked_to_quit_before_it_is_killed(tmp_path: Path) -> None:
    spec = fake_spec(tmp_path, stop=f"echo bye > {tmp_path}/bye; exit")
    open_player(spec).close()
    assert (tmp_path / "bye").read_text() == "bye\n"


def test_an_engine_that_was_not_closed_is_killed_with_its_owner(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    engine = UsiEngine(EngineSpec.parse(fake_spec(tmp_path, start=f"echo $$ >> {pids}")))
    engine.prepare()
    del engine
    assert_all_ended(pids)


@pytest.mark.parametrize("engine", ["kill -STOP $$", "sleep 1000"])
def test_a_hung_engine_is_killed_with_an_owner_that_is_killed(tmp_path: Path, engine: str) -> None:
    """The owner has no time to end it, and the engine does not read that its input has ended."""
    pids = tmp_path / "pids"
    spec = fake_spec(tmp_path, go=f"echo $$ > {pids}; {engine}", query="timeout-s=600")
    owner = subprocess.Popen([sys.executable, "-c", OWNER, spec])
    try:
        wait_until(pids.exists)
        wait_until(lambda: bool(pids.read_text()))
        group = int(pids.read_text())
        assert living_members(group)
    finally:
        owner.kill()
        owner.wait()
    wait_until(lambda: not living_members(group))


def test_closing_while_the_engine_thinks_does_not_wait_for_it(tmp_path: Path) -> None:
    """An interrupt closes an engine in the middle of a search like this."""
    pids = tmp_path / "pids"
    spec = fake_spec(
        tmp_path, start=f"echo $$ >> {pids}", go="kill -USR1 $PPID; sleep 1000",
        query="processes=1&timeout-s=600",
    )  # fmt: skip
    games = VectorGames(1, max_plies=9, rng_for_game=np.random.default_rng)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with closing(UsiPlayer(EngineSpec.parse(spec))) as player, pytest.raises(KeyboardInterrupt):
            player.choose(games, np.array([0]), np.array([0.5]))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert_all_ended(pids)


# Real engines


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "nodes=1&Skill Level=-20",
        "nodes=200&Skill Level=20&Threads=1",
        "byoyomi-ms=10&UCI_LimitStrength=true&UCI_Elo=1350",
    ],
)
def test_fairy_stockfish_plays_legal_games_to_their_end(query: str) -> None:
    games = play(f"usi:{find_engine('fairy-stockfish')}?{query}", num_games=4, max_plies=120)
    assert set(reasons(games)) <= {"mate", "max_plies", "repetition", "perpetual_check"}


def test_fairy_stockfish_mates_drops_and_promotes() -> None:
    spec = EngineSpec.parse(f"usi:{find_engine('fairy-stockfish')}?nodes=2000")
    with UsiEngine(spec) as engine:
        engine.prepare()
        assert engine.name.startswith("Fairy-Stockfish")
        # The only mates are a gold dropped in front of the king and a pawn that promotes there.
        assert engine.best_move("position sfen 4k4/9/4P4/9/9/9/9/9/4K4 b G 1") == "G*5b"
        assert engine.best_move("position sfen 4k4/9/4P4/4L4/9/9/9/9/4K4 b - 1") == "5c5b+"


@pytest.mark.slow
def test_gpsshogi_plays_legal_moves_and_dies_of_a_limit_that_it_does_not_know() -> None:
    gpsusi = find_engine("gpsusi")
    games = play(f"usi:{gpsusi}?byoyomi-ms=20&processes=1", num_games=2, max_plies=14)
    assert set(reasons(games)) <= {"max_plies", "mate", "resign"}
    with UsiEngine(EngineSpec.parse(f"usi:{gpsusi}?nodes=10")) as engine:
        engine.prepare()
        with pytest.raises(EngineDiedError, match="unknown option in go nodes"):
            engine.best_move(START)


def test_the_name_of_an_engine_is_cut_and_made_visible(tmp_path: Path) -> None:
    name = "printf 'id name \\033[2J'; head -c 5000 /dev/zero | tr '\\0' n; printf '\\nusiok\\n'"
    with UsiEngine(EngineSpec.parse(fake_spec(tmp_path, usi=name))) as engine:
        engine.prepare()
        assert engine.name.startswith("\\x1b[2Jnnnn")
        assert len(engine.name) < 120


def test_a_long_answer_is_cut_and_made_visible_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = "printf 'bestmove \\033[2J'; head -c 9000 /dev/zero | tr '\\0' n; echo"
    games = play(fake_spec(tmp_path, go=long, query="processes=1&timeout-s=20"), num_games=2)
    assert reasons(games) == {"engine_garbage": 2}
    assert len(caplog.messages) == 2
    for message in caplog.messages:
        assert "bestmove \\x1b[2Jnnn" in message
        assert "(9004 characters)" in message
        assert len(message) < 500


def test_the_last_words_of_an_engine_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    spec = fake_spec(tmp_path, usi="printf '\\033]0;title\\007\\n'; exit 3")
    with pytest.raises(EngineDiedError, match=r"last: \\x1b\]0;title\\x07"), open_player(spec):
        pass


@pytest.mark.parametrize("rank", ["", "multipv 1 "])
def test_the_evaluation_is_that_of_the_best_line(tmp_path: Path, rank: str) -> None:
    said = [
        f"info depth 3 {rank}score cp 120 pv 7g7f",
        "info depth 3 multipv 2 score cp -300 pv 2g2f",
        "info string score cp 5",
        "bestmove 7g7f",
    ]
    spec = fake_spec(tmp_path, go="; ".join(f"echo '{line}'" for line in said))
    with UsiEngine(EngineSpec.parse(spec)) as engine:
        engine.prepare()
        assert engine.best_move(START) == "7g7f"
        assert engine.evaluation == 120


@pytest.mark.parametrize(
    ("said", "evaluation"),
    [
        ("cp 31", 31),
        ("cp +5", 5),
        ("cp --5", None),
        ("cp 1_0", None),
        pytest.param("cp " + "9" * 5000, None, id="more digits than make a number"),
        ("mate -3", -MAX_EVAL),
        ("cp", None),
    ],
)
def test_a_score_that_is_no_number_counts_as_none(said: str, evaluation: int | None) -> None:
    assert centipawns_of(f"info depth 3 score {said}".split()) == evaluation

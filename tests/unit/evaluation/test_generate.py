"""Games as files of records: every format by a reader of others, and what an interrupt leaves."""

import json
import signal
from pathlib import Path
from typing import Any

import cshogi
import cshogi.CSA
import numpy as np
import pytest
from rich.console import Console

from keisei_ray.errors import ConfigError
from keisei_ray.evaluation import generate as module
from keisei_ray.evaluation.generate import GenerateOptions, Judgements, generate
from keisei_ray.evaluation.matches import MatchSettings, play_match
from keisei_ray.players.player import Player
from keisei_ray.players.policies import (
    NO_JUDGEMENT,
    Ints,
    Judgement,
    Uniforms,
    choose_greedy,
    choose_random,
)
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.engines import fake_spec
from tests.helpers.record_readers import hcpe3_moves, read_by_cshogi, read_by_python_shogi
from tests.helpers.saved_runs import save_untrained

QUIET = Console(quiet=True)


def made(tmp_path: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    """Generates some games; returns their directory and the summary."""
    out = tmp_path / "games"
    given: dict[str, Any] = {"player": "greedy", "num_games": 6, "max_plies": 60} | options
    return out, generate(GenerateOptions(out=out, **given), QUIET)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "games.jsonl").read_text().splitlines()]


def test_every_format_holds_the_same_games(tmp_path: Path) -> None:
    out, summary = made(tmp_path)
    games = lines(out)
    whole = [game["moves"] for game in games]
    chosen = [" ".join(game["moves"].split()[game["opening_plies"] :]) for game in games]
    num_positions = sum(len(moves.split()) for moves in chosen)
    assert (summary["games"], summary["positions"]) == (6, num_positions)
    by_csa = cshogi.CSA.Parser.parse_file(str(out / "games.csa"), encoding="utf-8")
    assert [" ".join(map(cshogi.move_to_usi, game.moves)) for game in by_csa] == whole
    for game, moves in zip(games, whole, strict=True):
        kif = out / "kif" / f"game-{game['index']:06d}.kifu"
        assert read_by_cshogi(kif).moves == read_by_python_shogi(kif).moves == moves
    usi = (out / "games.usi").read_text().splitlines()
    assert [line.partition(" moves ")[2] for line in usi] == chosen
    for name, dtype in (
        ("hcpe", cshogi.HuffmanCodedPosAndEval),
        ("psv", cshogi.PackedSfenValue),
    ):
        assert len(np.fromfile(out / f"games.{name}", dtype)) == num_positions


def test_games_of_one_player_have_an_opening_each_and_those_of_two_share_one_in_pairs(
    tmp_path: Path,
) -> None:
    def openings(games: list[dict[str, Any]]) -> list[str]:
        games = sorted(games, key=lambda game: int(game["index"]))
        return [" ".join(game["moves"].split()[: game["opening_plies"]]) for game in games]

    alone = openings(lines(made(tmp_path / "1")[0]))
    two = openings(lines(made(tmp_path / "2", opponent="random")[0]))
    assert len(set(alone)) == 6
    assert two[::2] == two[1::2]
    assert len(set(two)) == 3


def test_a_directory_with_something_in_it_is_refused_in_one_line(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(ConfigError, match="is not empty") as error:
        made(tmp_path)
    assert "\n" not in str(error.value)


def test_an_opening_as_long_as_the_game_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--opening-plies 60"):
        made(tmp_path, opening_plies=60)


def test_an_interrupt_keeps_every_game_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **settings: Any) -> Any:
        games = play_match(*arguments, **settings)
        yield [next(games)]
        yield [next(games)]
        signal.raise_signal(signal.SIGINT)
        yield [next(games)]

    monkeypatch.setattr(module, "play_plies", interrupted)
    out, summary = made(tmp_path)
    assert (summary["interrupted"], summary["games"], len(lines(out))) == (True, 2, 2)


def test_judgements_are_those_of_the_mover_before_each_of_its_moves() -> None:
    judged: list[Judgement] = []

    def choose(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        numbers = (1000 * int(games.game_index[i]) + int(games.plies[i]) for i in lanes.tolist())
        judged[:] = [Judgement(number, ((number, 1),)) for number in numbers]
        return choose_random(games, lanes, uniforms)

    judgements = Judgements()
    player = judgements.watching(Player("judge", choose, judgements=lambda: judged))
    other = judgements.watching(Player("greedy", choose_greedy))
    for game in play_match((player, other), MatchSettings(4, seed=1, max_plies=40)):
        of_game = judgements.take(game)
        assert len(of_game) == game.plies
        for ply, judgement in enumerate(of_game):
            is_own = game.opening_plies <= ply and (ply % 2 == 0) == game.is_black
            number = 1000 * game.index + ply
            expected = Judgement(number, ((number, 1),)) if is_own else NO_JUDGEMENT
            assert judgement == expected


@pytest.mark.parametrize("root", ["puct", "gumbel"])
def test_what_a_search_finds_is_in_the_records(root: str, tmp_path: Path) -> None:
    saved = save_untrained(tmp_path / "run", timestep=5)
    player = f"checkpoint:{saved}?simulations=40&root={root}"
    out, _ = made(tmp_path, player=player, opponent="greedy", num_games=4, max_plies=30)
    by_moves = {
        tuple(move for move, _, _ in moves): moves for moves in hcpe3_moves(out / "games.hcpe3")
    }
    for game in lines(out):
        usi, opening = game["moves"].split(), game["opening_plies"]
        board = cshogi.Board()
        for move in usi[:opening]:
            board.push_usi(move)
        for ply, (move, evaluation, visits) in enumerate(by_moves[tuple(usi[opening:])], opening):
            assert evaluation == (game["evals"][ply] or 0)
            assert set(visits) <= set(map(cshogi.move_to_usi, board.legal_moves))
            if (game["black"] != "greedy") == (ply % 2 == 0):
                if root == "puct":  # The move that is tried most is played.
                    assert visits[move] == max(visits.values())
                    assert len(visits) > 1 or abs(evaluation) == 30_000
            else:
                assert (visits, evaluation) == ({move: 1}, 0)
            board.push_usi(move)


def test_an_engines_evaluations_are_in_the_records(tmp_path: Path) -> None:
    engine = fake_spec(
        tmp_path, go="echo info depth 1 score cp -37 nodes 5 pv 7g7f; echo bestmove resign"
    )
    out, _ = made(tmp_path, player=engine, opponent="random", num_games=2, opening_plies=0)
    black, white = sorted(lines(out), key=lambda game: int(game["index"]))
    assert (black["plies"], white["evals"]) == (0, [None])
    other = fake_spec(tmp_path, go="echo info score mate -3; echo bestmove 7g7f")
    out, _ = made(tmp_path / "2", player=other, opponent="random", num_games=2, opening_plies=0)
    black = next(game for game in lines(out) if game["index"] == 0)
    assert black["evals"][:2] == [-30_000, None]
    assert "'** -30000" in (out / "games.csa").read_text()

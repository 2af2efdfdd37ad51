"""Games against the pool: who plays which game and side, until it ends; signs of advantages.

Every test goes through the real `SelfPlay`, and `UpdateBatch` where advantages are compared.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.player_spec import POOL_KINDS, PlayerKind
from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError
from keisei_ray.learning.update_batch import UpdateBatch
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.weights import pack_weights
from keisei_ray.players.acting import DeviceActingNetwork
from keisei_ray.players.player import Player
from keisei_ray.players.policies import (
    Ints,
    Uniforms,
    choose_random,
    network_outputs,
)
from keisei_ray.rollouts.actor_state import read_state
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.rollout import Rollout
from keisei_ray.selfplay import pairing as pairing_module
from keisei_ray.selfplay.opponent_mix import SELF_PLAY_ONLY, OpponentMix, SnapshotRotation
from keisei_ray.selfplay.pairing import Pairing
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.vector_games import VectorGames
from keisei_ray.telemetry.reports import CollectReport
from tests.helpers.engines import assert_all_ended, choose_by_rule, fake_spec, rule_spec
from tests.helpers.pools import EVEN, FEARED, pool_with
from tests.helpers.tiny import N, T, tiny_config

MATE_IN_ONE = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"


def pool_config(share: float = 1.0, pool: dict[str, Any] | None = None, **play: Any) -> Config:
    return tiny_config(
        pool={"share": share, "members": ("greedy",)} | (pool or {}),
        self_play={"finish_mates": False} | play,
    )


def weights(config: Config, seed: int = 0, version: int = 0, scale: float = 20) -> np.ndarray:
    model = build_model(config.model, seed=seed)
    with torch.no_grad():
        model.value_out.weight.mul_(scale)
        model.policy_head.weight.mul_(scale)
    return pack_weights(model, version, weights_format="lossless", zstd_level=1)


def new(config: Config, scale: float = 20) -> SelfPlay:
    self_play = SelfPlay(config, 0, 0)
    self_play.set_weights(weights(config, scale=scale))
    return self_play


def against(name: str, share: float = 1.0) -> OpponentMix:
    """A mix of one scripted member."""
    return OpponentMix(share, ((name, 1.0),))


def mix_of(config: Config, versions: Sequence[int], share: float = 1.0) -> tuple[Any, ...]:
    """A mix of these snapshots, with equal probabilities, and their weights."""
    names = tuple(f"v{version}" for version in versions)
    mix = OpponentMix(share, tuple((name, 1 / len(names)) for name in names), names)
    return mix, [weights(config, seed=version, version=version) for version in versions]


def collect(
    self_play: SelfPlay, mix: OpponentMix, opponents: Sequence[Any] = ()
) -> tuple[tuple[FinishedGame, ...], Rollout]:
    report, packed = self_play.collect(mix, opponents)
    rollout = unpack_rollout(packed)  # Which validates it.
    assert report.trained_timesteps == rollout.is_trained.sum()
    return report.games, rollout


@pytest.fixture
def lowest_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """`greedy` plays the legal move with the lowest label instead."""

    def choose(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        ends = games.legal_offsets
        return np.array([games.legal_labels[ends[n] : ends[n + 1]].argmin() for n in lanes])

    monkeypatch.setattr(pairing_module, "open_player", lambda name, **_: Player(name, choose))


def test_members_are_opened_as_kinds_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of the pool need not be one that may play matches."""
    opened = {}

    def open_player(name: str, kinds: Sequence[PlayerKind], forfeits: bool) -> Player:
        assert not forfeits
        opened[name] = kinds
        return Player(name, choose_random)

    monkeypatch.setattr(pairing_module, "open_player", open_player)
    new(pool_config()).collect(against("greedy"))
    assert opened == {"greedy": POOL_KINDS}


# ---- who moves ----


def test_without_a_share_every_byte_is_that_of_a_run_without_a_pool() -> None:
    plain, with_pool = new(tiny_config()), new(pool_config(share=0.0, finish_mates=True))
    for _ in range(3):
        assert plain.collect()[1].tobytes() == with_pool.collect(SELF_PLAY_ONLY)[1].tobytes()


def turns_of(self_play: SelfPlay, mix: OpponentMix, opponents: Sequence[Any] = ()) -> Iterator[Any]:
    """Plays a rollout; yields a ply's sides to move, opponents, `is_trained` and game indices."""
    seen: list[Any] = []
    begin: Any = self_play._begin_ply

    def spied(rollout: Rollout, t: int, group: Any) -> None:
        begin(rollout, t, group)
        opponents_now = [self_play._pairing.opponent_of(lane) for lane in range(N)]
        games = group.games
        seen.append(
            (
                games.turns.copy(),
                opponents_now,
                rollout.is_trained[t].copy(),
                games.game_index.copy(),
            )
        )

    self_play._begin_ply = spied
    collect(self_play, mix, opponents)
    self_play._begin_ply = begin
    yield from seen


def test_the_learner_moves_its_own_side_only() -> None:
    config = pool_config(share=0.6, max_plies=11)
    self_play = new(config)
    kinds: Counter[str | None] = Counter()
    for _ in range(12):
        for turns, opponents, is_trained, _ in turns_of(self_play, against("greedy", 0.6)):
            for turn, (name, color), trained in zip(turns, opponents, is_trained, strict=True):
                assert (name == "") == (color is None)
                assert trained == (color is None or color == ("black", "white")[turn])
                kinds[color] += 1
    assert set(kinds) == {None, "black", "white"}


@pytest.mark.usefixtures("lowest_label")
def test_the_opponent_plays_its_own_moves_and_the_rest_of_its_row_is_empty() -> None:
    self_play = new(pool_config(share=0.5))
    seen = 0
    for _ in range(4):
        _, rollout = collect(self_play, against("greedy", 0.5))
        foreign = ~rollout.is_trained
        seen += int(foreign.sum())
        legal = np.unpackbits(rollout.legal_bits, axis=2)
        np.testing.assert_array_equal(rollout.actions[foreign], legal.argmax(axis=2)[foreign])
        for name in ("values", "draw_probs", "behavior_log_probs"):
            assert not getattr(rollout, name)[foreign].any()
        assert (rollout.behavior_log_probs[rollout.is_trained] < 0).any()
    assert seen > 2 * T


def test_values_and_log_probs_of_learner_plies_are_the_networks_own() -> None:
    """This holds also where only some lanes go through the network."""
    config = pool_config()
    self_play = new(config)
    _, rollout = collect(self_play, against("greedy"))
    for t in range(T):
        logits, values, _ = network_outputs(
            self_play._model, rollout.boards[t], rollout.hands[t], rollout.scalars[t]
        )
        own = np.flatnonzero(rollout.is_trained[t])
        assert 0 < rollout.is_trained.sum() < T * N
        np.testing.assert_allclose(rollout.values[t, own], values[own], atol=1e-6)
        mask = np.unpackbits(rollout.legal_bits[t], axis=1).astype(bool)
        exact = np.where(mask, logits.astype(np.float64), -np.inf)
        exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
        played = exact[np.arange(N), rollout.actions[t]]
        np.testing.assert_allclose(rollout.behavior_log_probs[t, own], played[own], atol=1e-5)


def test_a_snapshot_samples_from_its_own_policy() -> None:
    """Frequencies of the moves that it plays in one position, over many games."""
    config = tiny_config(
        pool={"share": 1.0, "networks_per_actor": 1},
        self_play={
            "start_positions": (MATE_IN_ONE,),
            "random_opening_plies": 0,
            "max_plies": 2,
            "games_per_actor": 64,
            "rollout_length": 64,
            "finish_mates": False,
        },
    )
    mix, _ = mix_of(config, [7])
    buffers = [weights(config, seed=7, version=7, scale=400)]
    self_play = SelfPlay(config, 0, 0)
    self_play.set_weights(weights(config, scale=1))
    _, rollout = collect(self_play, mix, buffers)
    # Black begins; where the learner is white, black's ply is the snapshot's.
    first = (rollout.boards == rollout.boards[0, 0]).all(axis=2) & ~rollout.is_trained
    played = rollout.actions[first]
    assert len(played) > 500
    model = build_model(config.model, seed=7)
    with torch.no_grad():
        model.policy_head.weight.mul_(400)
    logits, _, _ = network_outputs(
        model, *(a[0, :1] for a in (rollout.boards, rollout.hands, rollout.scalars))
    )
    legal = np.flatnonzero(np.unpackbits(rollout.legal_bits[0, 0]))
    odds = np.exp(logits[0, legal].astype(np.float64))
    expected = len(played) * odds / odds.sum()
    counts = np.array([(played == label).sum() for label in legal])
    assert counts.sum() == len(played)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic <= len(legal) - 1 + 5 * np.sqrt(2 * len(legal))
    # And these are not nearly alike, as the learner's own are.
    assert expected.max() > 2 * expected.min()


@pytest.mark.parametrize("opponent", ["random", "v1"])
def test_mates_in_one_are_played_by_both_sides_when_that_is_on(opponent: str) -> None:
    config = pool_config(
        finish_mates=True,
        start_positions=(MATE_IN_ONE,),
        random_opening_plies=0,
        games_per_actor=16,
        pool={"members": ("random",)},
    )
    self_play = new(config)
    mix, buffers = (against("random"), []) if opponent == "random" else mix_of(config, [1])
    games, rollout = collect(self_play, mix, buffers)
    assert {g.opponent for g in games} == {opponent}
    assert len(games) == 16 * T
    assert {(g.plies, g.reason, g.result) for g in games} == {(1, "mate", "black_win")}
    assert {g.learner_color for g in games} == {"black", "white"}
    for row in rollout.rewards:
        assert (row == 1).all()


def test_an_engine_may_be_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's moves are those of the same rule called without a process."""
    engine = rule_spec()
    self_play = new(pool_config(pool={"members": (engine,)}))
    expected: list[Ints] = []
    begin: Any = self_play._begin_ply

    def spied(rollout: Rollout, t: int, group: Any) -> None:
        games = group.games
        by_rule = choose_by_rule(games, np.arange(N), np.zeros(N))
        expected.append(games.legal_labels[games.legal_offsets[:-1] + by_rule])
        begin(rollout, t, group)

    monkeypatch.setattr(self_play, "_begin_ply", spied)
    _, rollout = collect(self_play, against(engine))
    foreign = ~rollout.is_trained
    assert foreign.sum() > T
    np.testing.assert_array_equal(rollout.actions[foreign], np.array(expected)[foreign])


def test_an_engine_that_resigns_has_lost_and_its_row_stays_valid(tmp_path: Path) -> None:
    engine = fake_spec(tmp_path, go="echo bestmove resign")
    # Neighbouring lanes have different legal moves.
    starts = (MATE_IN_ONE, STANDARD_SFEN)
    config = pool_config(pool={"members": (engine,)}, start_positions=starts)
    self_play = new(config)
    games, rollout = collect(self_play, against(engine))
    assert {game.reason for game in games} == {"resign", "mate"}  # The learner finds some.
    assert {game.learner_score for game in games} == {1.0}
    assert (rollout.rewards[~rollout.is_trained] == -1).all()
    assert (filled(rollout).on_device()["advantages"] > 0).any()


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ({"start": "exit 3"}, "ended with exit code 3"),
        ({"usi": ":"}, "gave no usiok in time"),
        ({"isready": "kill -STOP $$"}, "gave no readyok in time"),
        ({"go": "kill -STOP $$"}, "gave no bestmove in time"),
        ({"go": "exit 1"}, "ended with exit code 1"),
        ({"go": "echo bestmove '(none)'"}, r"answered 'bestmove \(none\)' in .*: no legal move"),
        ({"go": "echo bestmove P*1a"}, "answered 'bestmove P.1a' in .*: no legal move"),
        ({"go": "echo bestmove win"}, "declared a win too early"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_engine_that_fails_is_benched_and_its_games_go_on_as_self_play(
    tmp_path: Path, parts: dict[str, str], cause: str
) -> None:
    pids = tmp_path / "pids"
    start = f"echo $$ >> {pids}; {parts.get('start', ':')}"
    engine = fake_spec(tmp_path, **parts | {"start": start}, query="processes=2&timeout-s=0.5")
    self_play = new(pool_config(pool={"members": (engine,)}, max_plies=5))
    report, packed = self_play.collect(against(engine))
    (benched,) = report.benched
    assert benched.name == engine
    assert re.search(cause, benched.cause)
    rollout = unpack_rollout(packed)
    # At the latest with its first ply it has failed in all of its games, of either side.
    assert rollout.is_trained[1:].all()
    assert {game.opponent for game in report.games} == {""}
    assert {game.reason for game in report.games} <= {"max_plies", "mate"}
    assert len(report.games) >= N
    assert_all_ended(pids)
    again, packed = self_play.collect(against(engine))
    assert again.benched == ()
    assert unpack_rollout(packed).is_trained.all()


def test_the_plies_that_an_engine_has_played_before_it_fails_stay_its_own(tmp_path: Path) -> None:
    """Its one move is legal for Black only, so it fails in its games with White, a ply later."""
    engine = fake_spec(tmp_path)
    config = pool_config(pool={"members": (engine,)}, random_opening_plies=0)
    report, packed = new(config).collect(against(engine))
    assert len(report.benched) == 1
    is_trained = unpack_rollout(packed).is_trained
    assert not is_trained[0].all()
    assert is_trained[0].any()
    assert is_trained[1:].all()


def test_the_learner_plays_the_ply_in_which_an_engine_fails(tmp_path: Path) -> None:
    """Another opponent's network is asked in the same ply, and keeps its lanes."""
    engine = fake_spec(tmp_path, go="exit 1")
    config = pool_config(
        pool={"members": (engine,), "networks_per_actor": 1},
        games_per_actor=16,
        random_opening_plies=0,
    )
    _, buffers = mix_of(config, [1])
    mix = OpponentMix(1.0, ((engine, 0.5), ("v1", 0.5)), ("v1",))
    self_play = new(config)
    opponents: list[Any] = []
    begin: Any = self_play._begin_ply

    def spied(rollout: Rollout, t: int, group: Any) -> None:
        opponents.append([self_play._pairing.opponent_of(lane) for lane in range(16)])
        begin(rollout, t, group)

    self_play._begin_ply = spied
    report, packed = self_play.collect(mix, buffers)
    assert [benched.name for benched in report.benched] == [engine]
    rollout = unpack_rollout(packed)
    # Black is to move in every lane of the first ply.
    is_snapshots = np.array([pair == ("v1", "white") for pair in opponents[0]])
    is_engines = np.array([pair == (engine, "white") for pair in opponents[0]])
    assert is_snapshots.any()
    assert is_engines.any()
    np.testing.assert_array_equal(rollout.is_trained[0], ~is_snapshots)
    assert (rollout.behavior_log_probs[0, is_engines] < 0).all()


def test_a_failed_engine_leaves_its_part_to_the_other_members() -> None:
    engine = "usi:/does/not/exist"
    config = pool_config(pool={"members": (engine, "greedy")}, max_plies=5)
    self_play = new(config)
    mix = OpponentMix(1.0, ((engine, 0.5), ("greedy", 0.5)))
    report, _ = self_play.collect(mix)
    (benched,) = report.benched
    assert "'/does/not/exist' is not found" in benched.cause
    assert {game.opponent for game in self_play.collect(mix)[0].games} == {"greedy"}


def test_an_engine_that_is_slow_within_its_time_stays(tmp_path: Path) -> None:
    go = "sleep 0.2; echo bestmove resign"
    engine = fake_spec(tmp_path, go=go, query="processes=4&timeout-s=60")
    self_play = new(pool_config(pool={"members": (engine,)}))
    report, _ = self_play.collect(against(engine))
    assert report.benched == ()
    assert {game.opponent for game in report.games} == {engine}


# ---- pairing ----


def test_opponent_and_colour_stay_until_the_game_ends_across_collects() -> None:
    config = pool_config(share=0.7, max_plies=29, pool={"members": ("greedy", "random")})
    self_play = new(config)
    of_game: dict[int, Any] = {}
    reported: dict[int, Any] = {}
    for round_ in range(16):
        name = ("greedy", "random")[round_ % 2]
        for _, opponents, _, index in turns_of(self_play, against(name, 0.7)):
            for game, opponent in zip(index.tolist(), opponents, strict=True):
                assert of_game.setdefault(game, opponent) == opponent
    # A finished game is reported with the same opponent and side.
    for _ in range(6):
        report, _ = self_play.collect(against("greedy", 0.7))
        reported |= {g.index: (g.opponent, g.learner_color) for g in report.games}
    both = of_game.keys() & reported.keys()
    assert both
    assert all(of_game[index] == reported[index] for index in both)
    assert {name for name, _ in of_game.values()} == {"", "greedy", "random"}


def pairings_of_many_games(share: float, mix: OpponentMix, pool: dict[str, Any]) -> Counter[Any]:
    config = pool_config(share=share, pool=pool)
    pairing = Pairing(config, 1, lambda index: np.random.default_rng([5, index]))
    pairing.set_mix(mix, ())
    counts: Counter[Any] = Counter()
    for index in range(GAMES):
        pairing.start_game(0, index)
        counts[pairing.opponent_of(0)] += 1
    return counts


GAMES = 20_000


def assert_share(count: int, of: int, expected: float) -> None:
    """The observed share lies within four deviations."""
    sigma = (expected * (1 - expected) / of) ** 0.5
    assert count / of == pytest.approx(expected, abs=4 * sigma)


def test_the_share_the_members_probabilities_and_the_colours_are_kept() -> None:
    mix = OpponentMix(0.3, (("greedy", 0.8), ("random", 0.2)))
    counts = pairings_of_many_games(0.3, mix, {"members": ("greedy", "random")})
    assert_share(counts["", None], GAMES, 0.7)
    assert_share(counts["greedy", "black"] + counts["greedy", "white"], GAMES, 0.24)
    assert_share(counts["random", "black"] + counts["random", "white"], GAMES, 0.06)
    greedy = counts["greedy", "black"] + counts["greedy", "white"]
    assert_share(counts["greedy", "black"], greedy, 0.5)


def test_the_colours_are_balanced_against_each_member() -> None:
    counts = pairings_of_many_games(1.0, against("greedy"), {})
    assert set(counts) == {("greedy", "black"), ("greedy", "white")}
    assert_share(counts["greedy", "black"], GAMES, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_networks_are_held_than_allowed_whatever_the_mix(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pool_config(share=0.9, max_plies=21, pool={"members": (), "networks_per_actor": limit})
    self_play = new(config)
    held = 0
    seen: set[str] = set()
    start_game = Pairing.start_game

    def spied(pairing: Pairing, lane: int, game_index: int) -> None:
        nonlocal held
        start_game(pairing, lane, game_index)
        held = max(held, len(pairing._networks))
        in_play = {pairing.opponent_of(n)[0] for n in range(N)} - {""}
        assert in_play <= set(pairing._networks)
        seen.update(in_play)

    monkeypatch.setattr(Pairing, "start_game", spied)
    for round_ in range(16):
        mix, buffers = mix_of(config, [round_, round_ + 1][:limit], share=0.9)
        collect(self_play, mix, buffers)
    assert held == limit
    assert len(seen) > 4


def test_a_network_out_of_the_mix_gets_no_new_games_and_is_dropped_after_its_last() -> None:
    config = pool_config(max_plies=30, pool={"members": (), "networks_per_actor": 2})
    self_play = new(config)
    collect(self_play, *mix_of(config, [1]))
    begun = {self_play._pairing.opponent_of(n)[0] for n in range(N)}
    assert begun == {"v1"}
    later, buffers = mix_of(config, [2])
    started_before = int(self_play._groups[0].games.game_index.max())
    for _ in range(8):
        for _, opponents, _, index in turns_of(self_play, later, buffers):
            for (name, _), game in zip(opponents, index.tolist(), strict=True):
                assert name == ("v1" if game <= started_before else "v2")
    assert list(self_play._pairing._networks) == ["v2"]


def test_where_no_slot_is_free_the_game_is_self_play() -> None:
    config = pool_config(max_plies=60, pool={"members": (), "networks_per_actor": 1})
    self_play = new(config)
    collect(self_play, *mix_of(config, [1]))
    self_play._pairing.set_mix(*mix_of(config, [2]))
    self_play._pairing.start_game(0, 1000)
    assert self_play._pairing.opponent_of(0) == ("", None)
    assert list(self_play._pairing._networks) == ["v1"]
    self_play._pairing.start_game(1, 1001)
    self_play._pairing.start_game(2, 1002)
    self_play._pairing.start_game(3, 1003)
    assert self_play._pairing.opponent_of(3)[0] == "v2"
    assert list(self_play._pairing._networks) == ["v2"]


def test_where_no_slot_is_free_for_one_the_others_keep_their_proportion() -> None:
    config = pool_config(pool={"members": ("greedy", "random"), "networks_per_actor": 1})
    pairing = Pairing(config, 2, lambda index: np.random.default_rng([6, index]))
    pairing.set_mix(*mix_of(config, [1]))
    pairing.start_game(0, 0)
    _, buffers = mix_of(config, [2])
    pairing.set_mix(
        OpponentMix(1.0, (("greedy", 0.1), ("random", 0.3), ("v2", 0.6)), ("v2",)), buffers
    )
    counts: Counter[str] = Counter()
    for index in range(GAMES):
        pairing.start_game(1, index)
        counts[pairing.opponent_of(1)[0]] += 1
    assert list(pairing._networks) == ["v1"]
    assert counts.keys() == {"greedy", "random"}
    assert_share(counts["greedy"], GAMES, 0.25)


def test_the_same_weights_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = pool_config(max_plies=9, pool={"members": (), "networks_per_actor": 2})
    loads: list[str] = []
    load = Pairing._load

    def counted_load(*arguments: Any) -> Any:
        loads.append("x")
        return load(*arguments)

    monkeypatch.setattr(Pairing, "_load", counted_load)
    self_play = new(config)
    for _ in range(6):
        collect(self_play, *mix_of(config, [1, 2]))
    assert len(loads) == 2


def test_the_network_of_a_snapshot_that_has_left_is_used_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU a new one would have to be captured again."""
    config = pool_config(max_plies=9, pool={"members": (), "networks_per_actor": 1})
    models: list[Any] = []
    load = Pairing._load

    def seen_load(*arguments: Any) -> Any:
        network = load(*arguments)
        models.append(network.model)
        return network

    monkeypatch.setattr(Pairing, "_load", seen_load)
    self_play = new(config)
    for version in (1, 2, 3):
        for _ in range(3):
            collect(self_play, *mix_of(config, [version]))
    assert len(models) == 3
    assert len(set(map(id, models))) == 1
    expected = build_model(config.model, seed=3).state_dict()["stem.weight"]
    torch.testing.assert_close(models[0].state_dict()["stem.weight"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("on_device", [False, True])
def test_opponents_play_in_every_group(on_device: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Games against a snapshot and a scripted member, in lanes of both groups."""
    if on_device:
        monkeypatch.setattr(
            "keisei_ray.selfplay.pairing.acting_network",
            DeviceActingNetwork,
        )
    config = pool_config(
        share=0.8,
        max_plies=14,
        finish_mates=True,
        start_positions=(STANDARD_SFEN, MATE_IN_ONE),
        pool={"networks_per_actor": 2},
    )
    one, two = (SelfPlay(config, 0, 0, num_groups=number) for number in (1, 2))
    packed = weights(config)
    met: Counter[tuple[str, bool]] = Counter()
    mix, buffers = mix_of(config, [1, 2], share=0.8)
    for self_play in (one, two):
        self_play.set_weights(packed)
    for _ in range(8):
        games, rollout = collect(one, mix, buffers)
        other_games, other = collect(two, mix, buffers)
        assert games == other_games
        np.testing.assert_array_equal(rollout.actions, other.actions)
        np.testing.assert_array_equal(rollout.is_trained, other.is_trained)
        for lane in range(N):
            met[two._pairing.opponent_of(lane)[0], lane < N // 2] += 1
    assert len(met) >= 6


def test_all_networks_of_a_ply_are_asked_before_any_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group's networks are its own: those of the other group have not answered yet."""
    unanswered: set[DeviceActingNetwork] = set()
    events: list[str] = []

    class NotedNetwork(DeviceActingNetwork):
        def begin(self, *args: Any) -> None:
            assert self not in unanswered
            unanswered.add(self)
            events.append("begin")
            super().begin(*args)

        def wait(self) -> bool:
            unanswered.discard(self)
            events.append("wait")
            return super().wait()

    def noted_network(model: Any, num_rows: int) -> NotedNetwork:
        assert num_rows == 8
        return NotedNetwork(model, num_rows)

    for module in ("pairing", "self_play"):
        monkeypatch.setattr(f"keisei_ray.selfplay.{module}.acting_network", noted_network)
    config = pool_config(share=0.7, pool={"networks_per_actor": 2}, games_per_actor=16)
    self_play = SelfPlay(config, 0, 0, num_groups=2)
    self_play.set_weights(weights(config))
    most_unanswered = 0
    begin: Any = self_play._begin_ply

    def noted_ply(*args: Any) -> None:
        nonlocal most_unanswered
        events.clear()
        begin(*args)
        assert "wait" not in events
        most_unanswered = max(most_unanswered, len(unanswered))

    monkeypatch.setattr(self_play, "_begin_ply", noted_ply)
    for _ in range(3):
        collect(self_play, *mix_of(config, [1, 2], share=0.7))
        assert not unanswered
    assert most_unanswered == 6  # In each group the learner's and those of both snapshots.


def test_positions_are_batched_by_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ply costs one pass of the learner's network and at most one of each opponent's."""
    config = pool_config(share=0.7, pool={"networks_per_actor": 2}, games_per_actor=16)
    self_play = new(config)
    mix, buffers = mix_of(config, [1, 2], share=0.7)
    calls: Counter[str] = Counter()

    def counted_outputs(model: PolicyValueNet, *positions: Any) -> Any:
        calls["learner" if model is self_play._model else "opponent"] += 1
        return network_outputs(model, *positions)

    monkeypatch.setattr("keisei_ray.players.acting.network_outputs", counted_outputs)
    per_ply: list[Counter[str]] = []
    begin: Any = self_play._begin_ply

    def counted_ply(rollout: Rollout, t: int, group: Any) -> None:
        calls.clear()
        begin(rollout, t, group)
        per_ply.append(calls.copy())
        lanes = [group.learner_lanes, *(asked.lanes for asked in group.asked_opponents)]
        assert sorted(np.concatenate(lanes)) == list(range(16))  # Each asked for once.

    monkeypatch.setattr(self_play, "_begin_ply", counted_ply)
    for _ in range(6):
        calls.clear()
        collect(self_play, mix, buffers)
        assert calls["learner"] <= 2  # The last ply's, and one for all bootstrap values.
    assert max(c["learner"] for c in per_ply) == 1
    assert max(c["opponent"] for c in per_ply) == 2


# ---- signs ----

GAMMA, LAMBDA = 0.9, 0.8


def oracle(rollout: Rollout, t: int, n: int) -> float:
    """The advantage of the learner's ply [t, n], by definition, in float64.

    A sum over the learner's plies j from t on in the same game: each one's own error (what came
    until the learner's next decision, less the value it saw), seen by the side that moved at t.
    """
    mover = t % 2
    total = 0.0
    for j in range(t, len(rollout.actions)):
        sign = 1 if j % 2 == mover else -1
        if rollout.is_trained[j, n]:
            gain, discount = 0.0, 1.0
            for k in range(j, len(rollout.actions)):
                side = 1 if k % 2 == j % 2 else -1
                if k > j and rollout.is_trained[k, n]:
                    gain += discount * side * float(rollout.values[k, n])
                    break
                gain += discount * side * float(rollout.rewards[k, n])
                discount *= GAMMA
                if rollout.terminated[k, n]:
                    break
                if rollout.truncated[k, n] or k == len(rollout.actions) - 1:
                    gain -= discount * side * float(rollout.bootstrap_values[k, n])
                    break
            error = gain - float(rollout.values[j, n])
            total += (GAMMA * LAMBDA) ** (j - t) * sign * error
        if rollout.terminated[j, n] or rollout.truncated[j, n]:
            break
    return total


def filled(rollout: Rollout) -> UpdateBatch:
    batch = UpdateBatch(rollout.is_trained.size, torch.device("cpu"))
    batch.fill([rollout], gamma=GAMMA, gae_lambda=LAMBDA)
    return batch


@pytest.mark.usefixtures("lowest_label")
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_advantages_of_played_games_equal_a_double_loop_and_only_learner_plies_are_rows(
    share: float,
) -> None:
    config = pool_config(
        share=share,
        start_positions=(MATE_IN_ONE, "4k4/9/4P4/9/9/9/9/9/4K4 w Gg 1"),
        random_opening_plies=1,
        max_plies=7,
        games_per_actor=12,
        rollout_length=16,
    )
    self_play = new(config, scale=5)
    ends: Counter[str] = Counter()
    for _ in range(4):
        games, rollout = collect(self_play, against("greedy", share))
        ends.update(game.reason for game in games)
        batch = filled(rollout)
        rows = np.argwhere(rollout.is_trained)
        assert batch.rows == len(rows)
        assert (len(rows) == rollout.is_trained.size) == (share == 0)
        fields = batch.on_device()
        for row, (t, n) in enumerate(rows):
            np.testing.assert_array_equal(fields["boards"][row].numpy(), rollout.boards[t, n])
            assert fields["actions"][row].item() == rollout.actions[t, n]
            expected = oracle(rollout, t, n)
            assert fields["advantages"][row].item() == pytest.approx(expected, abs=1e-5)
    assert {"mate", "max_plies"} <= set(ends)


@pytest.mark.parametrize("color", ["black", "white"])
def test_the_learners_last_ply_gets_the_sign_of_the_mate_that_ends_the_game(
    color: str,
) -> None:
    """Values are next to zero here, so the sign is the result's."""
    config = pool_config(
        finish_mates=True,
        start_positions=("4k4/9/9/9/9/9/4p4/9/P3K3P b g 1", "p3k3p/9/4P4/9/9/9/9/9/4K4 w G 1"),
        random_opening_plies=0,
        games_per_actor=8,
        rollout_length=32,
        max_plies=40,
        pool={"members": ("random",)},
    )
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"material_prior": 0.0})}
    )
    self_play = new(config, scale=1e-3)
    seen = 0
    for _ in range(3):
        games, rollout = collect(self_play, against("random"))
        fields = filled(rollout).on_device()
        row_of = {tuple(place): row for row, place in enumerate(np.argwhere(rollout.is_trained))}
        ends = np.argwhere(rollout.terminated | rollout.truncated)
        for (t, n), game in zip(ends, games, strict=True):
            if game.reason != "mate" or game.learner_color != color:
                continue
            won = game.result == f"{color}_win"
            # The side that mated played the last ply.
            assert rollout.is_trained[t, n] == won
            last = (t, n) if won else (t - 1, n)
            if last in row_of:
                seen += 1
                advantage = fields["advantages"][row_of[last]].item()
                assert advantage == pytest.approx(1 if won else -GAMMA, abs=0.01)
    assert seen > 4


# ---- an actor that plays on elsewhere ----


def rotating_config(settings: dict[str, Any], **pool: Any) -> Config:
    """Half the games against greedy and snapshots, of which an actor holds two at a time."""
    return pool_config(0.5, pool, max_plies=20, **settings)


def next_collect(self_play: SelfPlay, rotation: SnapshotRotation) -> tuple[bytes, CollectReport]:
    mix = rotation.next_mix(0, 0)
    report, packed = self_play.collect(mix, snapshots_of(self_play._config, mix.snapshots))
    return packed.tobytes(), report


def snapshots_of(config: Config, names: Sequence[str]) -> list[np.ndarray]:
    versions = [int(name.removeprefix("v")) for name in names]
    return [weights(config, seed=version, version=version) for version in versions]


PLAYS: tuple[dict[str, Any], ...] = (
    {},
    {"finish_mates": True},
    {"start_positions": (STANDARD_SFEN, MATE_IN_ONE), "finish_mates": True},
    {"random_opening_plies": 0},
)


@pytest.mark.slow
@settings(max_examples=6)
@given(
    st.integers(1, 5),
    st.sampled_from(PLAYS),
    st.sampled_from(({"share": 0.0}, {}, {"networks_per_actor": 1, "pfsp": "even"})),
)
def test_an_actor_that_plays_on_from_a_state_plays_the_same_bytes(
    rollouts: int, play: dict[str, Any], pool: dict[str, Any]
) -> None:
    config = rotating_config(play, **pool)
    members = pool_with({"greedy": EVEN, "v3": FEARED, "v7": EVEN}, max_snapshots=2)
    straight, rotation = new(config), SnapshotRotation(config, members)
    for version in range(rollouts):
        _, report = next_collect(straight, rotation)
        if version % 2:
            members.add_snapshot(20 + version, "d" * 64)  # Others leave; games against them stay.
    state = read_state(report.state)
    resumed, other_rotation = SelfPlay(config, 0, 0), SnapshotRotation(config, members)
    resumed.restore(state, snapshots_of(config, state.pairing.networks))
    resumed.set_weights(weights(config))
    other_rotation.restore(state)
    for _ in range(3):
        one, report = next_collect(straight, rotation)
        other, other_report = next_collect(resumed, other_rotation)
        assert one == other
        assert report.games == other_report.games
        assert report.state == other_report.state


def test_a_state_with_an_opponent_that_is_not_here_is_refused() -> None:
    config = pool_config()
    playing = new(config)
    playing.collect(against("greedy"))
    without = SelfPlay(pool_config(pool={"members": ("random",)}), 0, 0)
    with pytest.raises(CheckpointError, match="against 'greedy', which is not in the opponent"):
        without.restore(playing.state())


def test_a_network_without_a_game_in_play_is_restored_while_it_is_held() -> None:
    """It takes a slot, so which members a new game can get depends on it."""
    config = pool_config(pool={"networks_per_actor": 2})
    mix, packed = mix_of(config, [1, 2], share=1.0)
    straight = new(config)
    straight.collect(mix, packed)
    held = straight.state().pairing
    state = replace(
        straight.state(), pairing=replace(held, opponents=("",) * N, networks=("v1", "v2"))
    )
    resumed = SelfPlay(config, 0, 0)
    resumed.restore(state, packed)
    assert resumed.state() == state

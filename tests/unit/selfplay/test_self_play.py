"""Self-play: valid, reproducible rollouts; signs, values, cuts and ends of games."""

import gc
import tracemalloc
from typing import Any

import cshogi
import numpy as np
import pytest
import torch

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError, ConfigError, NumericalError
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import pack_weights
from keisei_ray.players.acting import DeviceActingNetwork
from keisei_ray.players.policies import network_outputs
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.rollout import Rollout
from keisei_ray.selfplay.self_play import SelfPlay, choose_num_groups
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.observation import observe
from tests.helpers.games import replay_game
from tests.helpers.setting_values import make_config
from tests.helpers.tiny import N, T, tiny_config

MATE_IN_ONE = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
MANY_MATES = (
    "4k4/9/9/9/9/9/9/9/4K4 b RBGSrbgs 1",
    "4k4/9/4P4/9/9/4p4/9/9/4K4 w RGrg 1",
    MATE_IN_ONE,
)
"""Few pieces and many in hand: mates in one are frequent for both sides."""


def weights(config: Config, seed: int = 0, version: int = 0) -> np.ndarray:
    """Weights whose values differ from position to position."""
    model = build_model(config.model, seed=seed)
    with torch.no_grad():
        model.value_out.weight.mul_(20)
        model.policy_head.weight.mul_(20)
    return pack_weights(model, version, weights_format="lossless", zstd_level=1)


def new(config: Config, actor_id: int = 0, incarnation: int = 0, version: int = 0) -> SelfPlay:
    self_play = SelfPlay(config, actor_id, incarnation)
    self_play.set_weights(weights(config, version=version))
    return self_play


def collect(self_play: SelfPlay) -> Rollout:
    return unpack_rollout(self_play.collect()[1])


def test_the_same_seed_gives_the_same_bytes_rollout_after_rollout() -> None:
    one, other = new(tiny_config()), new(tiny_config())
    for _ in range(3):
        assert one.collect()[1].tobytes() == other.collect()[1].tobytes()


def test_actor_incarnation_and_run_seed_give_games_and_moves_of_their_own() -> None:
    plain = tiny_config()
    reseeded = tiny_config(run={"seed": 4})
    runs = [new(plain), new(plain, 1, 0), new(plain, 0, 1), new(plain, 1, 1), new(reseeded)]
    rollouts = [collect(run) for run in runs]
    assert len({r.actions.tobytes() for r in rollouts}) == 5
    assert len({r.boards[0].tobytes() for r in rollouts}) == 5


def test_games_of_one_actor_differ() -> None:
    boards = collect(new(tiny_config(self_play={"rollout_length": 16}))).boards[-1]
    assert len(np.unique(boards, axis=0)) == N


def test_header_and_report_say_where_the_rollout_comes_from() -> None:
    config = tiny_config()
    self_play = new(config, 5, 2, version=7)
    for sequence in range(3):
        report, packed = self_play.collect()
        rollout = unpack_rollout(packed)
        header = rollout.header
        assert report.header == header
        assert (header.actor_id, header.incarnation, header.sequence) == (5, 2, sequence)
        assert (header.weights_version, header.T, header.N) == (7, T, N)
        assert report.wire_bytes == len(packed)
        assert report.raw_bytes == rollout.raw_bytes


def test_games_go_on_from_one_rollout_to_the_next() -> None:
    """Two short rollouts hold the plies of one long one, and cut it in the middle."""
    short = new(tiny_config())
    first, second = collect(short), collect(short)
    long = collect(new(tiny_config(self_play={"rollout_length": 2 * T})))
    for name in ("boards", "hands", "scalars", "legal_bits", "actions", "rewards", "terminated"):
        both = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_array_equal(both, getattr(long, name))
    alive = first.is_cut[-1] & ~first.truncated[-1]
    assert alive.any()
    np.testing.assert_allclose(
        first.bootstrap_values[-1, alive], second.values[0, alive], atol=1e-6
    )


def test_values_and_log_probs_are_the_networks_own() -> None:
    config = tiny_config()
    rollout = collect(new(config))
    model = build_model(config.model, seed=0)
    with torch.no_grad():
        model.value_out.weight.mul_(20)
        model.policy_head.weight.mul_(20)
    for t in range(T):
        logits, values, draws = network_outputs(
            model, rollout.boards[t], rollout.hands[t], rollout.scalars[t]
        )
        np.testing.assert_allclose(rollout.values[t], values, atol=1e-6)
        np.testing.assert_allclose(rollout.draw_probs[t], draws, rtol=1e-3)
        mask = np.unpackbits(rollout.legal_bits[t], axis=1).astype(bool)
        exact = np.where(mask, logits.astype(np.float64), -np.inf)
        exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
        played = exact[np.arange(N), rollout.actions[t]]
        np.testing.assert_allclose(rollout.behavior_log_probs[t], played, atol=1e-5)
    assert rollout.behavior_log_probs.std() > 0.01


def test_bootstrap_values_are_those_of_the_positions_the_games_were_cut_at() -> None:
    """Replayed from the finished games' moves: the last position, not the next game's first."""
    config = tiny_config(self_play={"max_plies": 7, "random_opening_plies": 3})
    self_play = new(config)
    model = self_play._model
    seen = 0
    for _ in range(3):
        report, packed = self_play.collect()
        rollout = unpack_rollout(packed)
        cuts = np.argwhere(rollout.truncated)
        assert len(cuts) == len(report.games) >= N
        # Games are reported in order of plies, then lanes, as argwhere lists them.
        for (t, n), game in zip(cuts, report.games, strict=True):
            assert (game.result, game.plies) == ("truncated", 7)
            last = replay_game(STANDARD_SFEN, game.moves.split(), max_plies=99)
            position = observe(last.board, earlier=last.earlier)._replace(
                scalars=np.array(list(last.scalars()), np.uint8)
            )
            _, value, draw = network_outputs(model, *(part[None] for part in position))
            assert rollout.bootstrap_values[t, n] == pytest.approx(value[0], abs=1e-6)
            assert rollout.bootstrap_draw_probs[t, n] == pytest.approx(draw[0], rel=1e-3)
            if t + 1 < T:
                assert rollout.bootstrap_values[t, n] != rollout.values[t + 1, n]
            seen += 1
    assert seen > 3 * N


def test_where_nothing_is_cut_the_bootstrap_is_zero() -> None:
    config = tiny_config(self_play={"max_plies": 7, "random_opening_plies": 3})
    self_play = new(config)
    for _ in range(3):
        rollout = collect(self_play)
        for values in (rollout.bootstrap_values, rollout.bootstrap_draw_probs):
            assert (values[~rollout.is_cut] == 0).all()
            assert (values[rollout.is_cut] != 0).all()


def test_the_winners_last_move_is_rewarded_and_nothing_else() -> None:
    """From a mate in one, so that games are won by both the first and later plies."""
    config = tiny_config(
        self_play={
            "start_positions": (MATE_IN_ONE,),
            "random_opening_plies": 0,
            "rollout_length": 64,
            "games_per_actor": 16,
            "max_plies": 3,
        }
    )
    report, packed = new(config).collect()
    rollout = unpack_rollout(packed)
    mates = [game for game in report.games if game.reason == "mate"]
    assert mates
    assert rollout.terminated.sum() == sum(g.reason != "max_plies" for g in report.games)
    assert (rollout.rewards[rollout.terminated] != 0).sum() >= len(mates)
    assert (rollout.rewards[~rollout.terminated] == 0).all()
    # Every mate here is given by the side that moved, so its ply has +1.
    ends = np.argwhere(rollout.terminated | rollout.truncated)
    for (t, n), game in zip(ends, report.games, strict=True):
        if game.reason == "mate":
            assert rollout.rewards[t, n] == 1
            assert game.result == ("black_win" if game.plies % 2 else "white_win")


def finishing_config(finish_mates: bool) -> Config:
    return tiny_config(
        self_play={
            "start_positions": MANY_MATES,
            "finish_mates": finish_mates,
            "random_opening_plies": 0,
            "rollout_length": 40,
            "games_per_actor": 16,
            "max_plies": 20,
        }
    )


def mating_moves(board: cshogi.Board) -> set[int]:
    """Every legal move after which the other side is in check and has no move."""
    mates = set()
    for move in list(board.legal_moves):
        board.push(move)
        if board.is_check() and not list(board.legal_moves):
            mates.add(move)
        board.pop()
    return mates


@pytest.mark.parametrize("finish_mates", [True, False])
def test_every_mate_in_one_is_played_where_mates_are_finished(finish_mates: bool) -> None:
    """The games replayed by another library, which tries every legal move of every position."""
    report, packed = new(finishing_config(finish_mates)).collect()
    played, missed = 0, 0
    for game in report.games:
        board = cshogi.Board(game.start_sfen)
        for ply, usi in enumerate(game.moves.split(), 1):
            mates = mating_moves(board)
            move = board.push_usi(usi)
            if move in mates:
                played += 1
                assert (game.plies, game.reason) == (ply, "mate")
                assert game.result == ("white_win" if board.turn == cshogi.BLACK else "black_win")
            elif mates:
                missed += 1
    if finish_mates:
        assert played >= 50
        assert missed == 0
    else:
        assert missed >= 20
    rollout = unpack_rollout(packed)
    assert rollout.is_trained.all()
    assert (rollout.rewards == 1).sum() == played
    # Without finishing no ply is forced; with it those that mate are, and no other.
    assert (rollout.is_forced == ((rollout.rewards == 1) & finish_mates)).all()


def test_the_log_prob_of_a_finished_mate_is_the_policys_own() -> None:
    config = finishing_config(finish_mates=True)
    rollout = collect(new(config))
    mating = rollout.rewards == 1
    positions = (getattr(rollout, name)[mating] for name in ("boards", "hands", "scalars"))
    logits, _, _ = network_outputs(new(config)._model, *positions)
    mask = np.unpackbits(rollout.legal_bits[mating], axis=1).astype(bool)
    exact = np.where(mask, logits.astype(np.float64), -np.inf)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    expected = exact[np.arange(len(exact)), rollout.actions[mating]]
    assert len(expected) >= 50
    assert expected.min() < -2  # Moves that the policy alone would seldom have played.
    np.testing.assert_allclose(rollout.behavior_log_probs[mating], expected, atol=1e-5)


def test_the_policy_chooses_every_move_except_mates() -> None:
    """Each lane's first game, with and without: the same plies up to a mate."""
    plain, finishing = (collect(new(finishing_config(value))) for value in (False, True))
    done = plain.terminated | plain.truncated | finishing.terminated | finishing.truncated
    differing = 0
    for n, end in enumerate(done.argmax(axis=0).tolist()):
        for name in ("boards", "hands", "scalars", "legal_bits", "values"):
            both = (getattr(rollout, name)[: end + 1, n] for rollout in (plain, finishing))
            np.testing.assert_array_equal(*both)
        np.testing.assert_array_equal(plain.actions[:end, n], finishing.actions[:end, n])
        if plain.actions[end, n] != finishing.actions[end, n]:
            assert finishing.rewards[end, n] == 1
            differing += 1
    assert differing >= 8


def test_finished_games_carry_an_identity_of_their_own() -> None:
    config = tiny_config(self_play={"max_plies": 5, "random_opening_plies": 2})
    self_play = new(config, 3, 1, version=9)
    games = [game for _ in range(3) for game in self_play.collect()[0].games]
    assert len(games) > 2 * N
    assert len({game.game_id for game in games}) == len(games)
    for game in games:
        assert game.game_id == f"3-1-{game.index}"
        assert (game.actor_id, game.incarnation, game.weights_version) == (3, 1, 9)


def test_an_unchanged_version_costs_nothing_and_a_new_one_is_played() -> None:
    config = tiny_config()
    self_play = new(config)
    places = self_play._model.stem.weight.data_ptr()
    self_play._model.stem.weight.data.zero_()
    self_play.set_weights(weights(config, version=0))
    assert not self_play._model.stem.weight.any()
    self_play.set_weights(weights(config, seed=1, version=1))
    assert self_play._model.stem.weight.any()
    assert self_play._model.stem.weight.data_ptr() == places
    assert collect(self_play).header.weights_version == 1


def test_other_weights_under_the_same_version_are_loaded() -> None:
    """The digest tells them apart, for example after a resume in another run directory."""
    config = tiny_config()
    one, other = new(config), new(config)
    other.set_weights(weights(config, seed=9, version=0))
    assert collect(one).values[0].tolist() != collect(other).values[0].tolist()


def test_weights_of_another_architecture_are_refused() -> None:
    other = tiny_config(model={"activation": "silu"})
    with pytest.raises(CheckpointError, match="architecture"):
        SelfPlay(tiny_config(), 0, 0).set_weights(weights(other))


def test_one_storage_serves_every_rollout_and_a_packed_one_is_independent_of_it() -> None:
    self_play = new(tiny_config())
    storage = {name: array.ctypes.data for name, array in self_play._rollout.arrays().items()}
    first = self_play.collect()[1]
    before = first.tobytes()
    for _ in range(3):
        self_play.collect()
        arrays = self_play._rollout.arrays()
        assert {name: array.ctypes.data for name, array in arrays.items()} == storage
    assert first.tobytes() == before


GROUPS_PLAY = {"games_per_actor": 7, "max_plies": 24, "random_opening_plies": 3}


def grouped(num_groups: int) -> SelfPlay:
    config = tiny_config(self_play=GROUPS_PLAY)
    self_play = SelfPlay(config, 0, 0, num_groups=num_groups)
    self_play.set_weights(weights(config))
    return self_play


def assert_same_rollout(one: Rollout, other: Rollout) -> None:
    """Batches of other sizes may round the network's outputs differently."""
    for (name, array), theirs in zip(one.arrays().items(), other.arrays().values(), strict=True):
        found, expected = array.astype(np.float64), theirs.astype(np.float64)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("num_groups", [2, 3, 7, 9])
def test_a_rollout_does_not_depend_on_the_groups(num_groups: int) -> None:
    """Also numbers of games, random numbers and the state, game for game."""
    one, several = grouped(1), grouped(num_groups)
    ended = 0
    for _ in range(6):
        report, packed = one.collect()
        other, other_packed = several.collect()
        assert_same_rollout(unpack_rollout(packed), unpack_rollout(other_packed))
        assert report.games == other.games
        assert report.state == other.state
        ended += len(report.games)
    assert ended > 7


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 2)])
def test_a_state_is_played_on_from_in_other_groups(before: int, after: int) -> None:
    straight, resumed = grouped(before), grouped(after)
    for _ in range(3):
        straight.collect()
    resumed.restore(straight.state())
    for _ in range(3):
        one, other = straight.collect(), resumed.collect()
        assert_same_rollout(unpack_rollout(one[1]), unpack_rollout(other[1]))
        assert one[0].games == other[0].games
        assert one[0].state == other[0].state


def test_each_group_is_asked_before_the_other_is_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    self_play = grouped(2)
    calls: list[tuple[str, int, int]] = []
    for what in ("_begin_ply", "_finish_ply"):
        real = getattr(self_play, what)

        def noted(rollout: Rollout, t: int, group: Any, *rest: Any, real: Any = real) -> Any:
            calls.append((real.__name__, t, self_play._groups.index(group)))
            return real(rollout, t, group, *rest)

        monkeypatch.setattr(self_play, what, noted)
    self_play.collect()
    assert len(calls) == 4 * T
    assert calls[:6] == [
        ("_begin_ply", 0, 0), ("_begin_ply", 0, 1),
        ("_finish_ply", 0, 0), ("_begin_ply", 1, 0),
        ("_finish_ply", 0, 1), ("_begin_ply", 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "num_actors", "num_gpus", "expected"),
    [
        ("cuda", 1, 1, 2),  # Beside the learner.
        ("cuda", 2, 1, 1),
        ("cuda", 2, 2, 2),  # The learner has a GPU of its own.
        ("cuda", 3, 2, 1),
        ("cuda", 3, 4, 2),
        ("cpu", 1, 1, 1),
    ],
)
def test_an_actor_that_shares_a_gpu_with_others_plays_in_one_group(
    device: str, num_actors: int, num_gpus: int, expected: int
) -> None:
    config = make_config(
        self_play={"device": device, "num_actors": num_actors}, learner={"device": "cuda"}
    )
    resolved = resolve_auto(config, 8, num_gpus)
    assert choose_num_groups(resolved.self_play) == expected


def test_the_device_path_plays_valid_rollouts_of_the_networks_own_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU, with two groups, but on the CPU. An unpacked rollout is validated."""
    monkeypatch.setattr(
        "keisei_ray.selfplay.self_play.acting_network",
        DeviceActingNetwork,
    )
    self_play = grouped(2)
    log_probs = []
    for _ in range(3):
        rollout = collect(self_play)
        log_probs.append(rollout.behavior_log_probs)
        for t in range(T):
            logits, values, _ = network_outputs(
                self_play._model, rollout.boards[t], rollout.hands[t], rollout.scalars[t]
            )
            np.testing.assert_allclose(rollout.values[t], values, atol=1e-6)
            mask = np.unpackbits(rollout.legal_bits[t], axis=1).astype(bool)
            exact = np.where(mask, logits.astype(np.float64), -np.inf)
            exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
            played = exact[np.arange(7), rollout.actions[t]]
            np.testing.assert_allclose(rollout.behavior_log_probs[t], played, atol=1e-5)
    assert np.std(log_probs) > 0.01


def test_a_gpu_that_the_process_does_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tiny_config()
    play = config.self_play.model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match=r"self_play\.device = 'cuda', but torch sees no CUDA"):
        SelfPlay(config.model_copy(update={"self_play": play}), 0, 0)


@pytest.mark.slow
def test_memory_stays_flat_over_rollouts() -> None:
    self_play = new(tiny_config(self_play={"max_plies": 20}))
    for _ in range(5):
        self_play.collect()
    tracemalloc.start()
    try:
        self_play.collect()
        gc.collect()  # What is collected later is no leak.
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            self_play.collect()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 65_000  # Games of other lengths; a leak of one rollout a call is 195 kB.


def test_weights_whose_outputs_are_not_finite_end_self_play_by_name() -> None:
    """They are finite themselves, but overflow on the way."""
    model = build_model(tiny_config().model, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e30)
    self_play = SelfPlay(tiny_config(), 0, 0)
    self_play.set_weights(pack_weights(model, 7, weights_format="lossless", zstd_level=1))
    with pytest.raises(
        NumericalError, match=r"outputs are not finite .* weights version 7"
    ) as told:
        self_play.collect()
    assert "\n" not in str(told.value)

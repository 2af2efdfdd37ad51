"""The network: shapes, symmetry, layout, its prior, and that acting and learning agree."""

import itertools

import numpy as np
import pytest
import torch
from rsshogi.core import Board
from torch import nn

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.listed_moves import ListedMoves
from keisei_ray.network.model import (
    AMP_DTYPES,
    PolicyValueNet,
    architecture_digest,
    build_model,
    legal_mask,
    masked_log_probs,
)
from keisei_ray.network.origins import num_board_labels
from keisei_ray.players.policies import network_outputs, sample_legal
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.actions import LABEL_TO_PLANE_SQUARE
from keisei_ray.shogi.observation import Observation, observe
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.tiny import tiny_config

SMALL = tiny_config().model.model_dump()
VARIANTS = [
    ModelConfig.model_validate(
        {
            "depth": depth,
            "width": 16,
            "value_hidden": 8,
            "activation": act,
            "squeeze_excitation": se,
            "value_head": head,
            "attackers": attackers,
            "origins": se,
        }
    )
    for depth, act, se, (head, attackers) in itertools.product(
        (1, 2), ("relu", "silu"), (False, True), (("wdl", True), ("scalar", False))
    )
] + [
    ModelConfig(depth=1, width=16, value_hidden=8, value_head="wdl", attackers=False),
    ModelConfig(depth=1, width=16, value_hidden=8, value_head="scalar", attackers=True),
]


def lively(config: ModelConfig, seed: int = 0) -> PolicyValueNet:
    """A network with large random weights, so that nothing is close to zero by construction."""
    model = build_model(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "material_weight":
                spread = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(spread / max(1, parameter[0].numel()) ** 0.5)
    return model


def played_games(num_games: int = 6, plies: int = 40) -> VectorGames:
    """Positions out of random games, both sides to move, with pieces in hand."""
    rng = np.random.default_rng(0)
    games = VectorGames(
        num_games,
        max_plies=300,
        random_opening_plies=9,
        rng_for_game=lambda index: np.random.default_rng([5, index]),
    )
    for _ in range(plies):
        games.step(rng.integers(np.diff(games.legal_offsets)))
    assert games.hands.any()
    return games


def forward(model: PolicyValueNet, positions: list[Observation]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and values."""
    return network_outputs(model, *(np.stack(part) for part in zip(*positions, strict=True)))[:2]


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_every_variant_gives_a_logit_per_label_and_a_value_in_range(config: ModelConfig) -> None:
    games = played_games()
    logits, values, draw_probs = network_outputs(
        lively(config), games.boards, games.hands, games.scalars
    )
    assert (logits.shape, logits.dtype.name) == ((6, NUM_ACTIONS), "float32")
    assert (values.shape, values.dtype.name) == ((6,), "float32")
    assert np.isfinite(logits).all()
    assert (draw_probs.shape, draw_probs.dtype.name) == ((6,), "float32")
    assert (np.abs(values) <= 1).all()
    assert (draw_probs > 0).all() == (config.value_head == "wdl")
    assert (draw_probs + np.abs(values) <= 1 + 1e-6).all()
    assert logits.std(axis=0).min() > 0


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_every_trained_parameter_of_every_variant_gets_gradient(config: ModelConfig) -> None:
    games = played_games()
    model = lively(config)
    logits, outcomes = model(*map(torch.from_numpy, (games.boards, games.hands, games.scalars)))
    (logits.square().mean() + outcomes[:, 0].sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_settings_of_the_tower_appear_in_it() -> None:
    kinds = [{type(m) for m in build_model(config, seed=0).modules()} for config in VARIANTS]
    for config, found in zip(VARIANTS, kinds, strict=True):
        assert (nn.SiLU in found) == (config.activation == "silu")
        assert (nn.ReLU in found) == (config.activation == "relu")
        names = {kind.__name__ for kind in found}
        assert ("SqueezeExcitation" in names) == config.squeeze_excitation
    assert len(build_model(ModelConfig(depth=3, width=16), seed=0).blocks) == 3


def test_a_position_and_its_twin_of_the_other_colour_get_the_same_policy_and_value() -> None:
    """The twin, written by hand: board turned by 180 degrees, colours and hands swapped."""
    black = Board("ln1gk2nl/1r2g1s2/p1pppp1pp/6p2/1p7/2P1P4/PP1P1PPPP/1B1S3R1/LN1GKGSNL b Bs 1")
    white = Board("lnsgkg1nl/1r3s1b1/pppp1p1pp/4p1p2/7P1/2P6/PP1PPPP1P/2S1G2R1/LN2KG1NL w bS 1")
    model = lively(ModelConfig(**SMALL))
    twins = [observe(board, earlier=1) for board in (black, white)]
    for seen, other in zip(*twins, strict=True):
        np.testing.assert_array_equal(seen, other)
    (logits, other_logits), (value, other_value) = forward(model, twins)
    np.testing.assert_array_equal(logits, other_logits)
    assert value == other_value


def test_history_reaches_policy_and_value() -> None:
    model = lively(ModelConfig(**SMALL))
    seen = [observe(Board(), earlier=e, own_checks=c) for e, c in ((0, 0), (2, 0), (0, 2))]
    logits, values = forward(model, seen)
    assert len(np.unique(values)) == 3
    assert len(np.unique(logits, axis=0)) == 3


def test_many_checks_in_a_row_count_like_a_few() -> None:
    model = lively(ModelConfig(**SMALL))
    logits, values = forward(model, [observe(Board(), own_checks=c) for c in (4, 255)])
    assert values[0] == values[1]
    np.testing.assert_array_equal(logits[0], logits[1])


def inputs_of(games: VectorGames) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.from_numpy, (games.boards, games.hands, games.scalars)))


def test_a_labels_logit_is_read_at_its_square_and_direction() -> None:
    """The head alone, as a map [27, 9 files, 9 ranks]: label k is pair LABEL_TO_PLANE_SQUARE[k]."""
    model = build_model(ModelConfig(**SMALL | {"origins": False}), seed=0)
    towers: list[torch.Tensor] = []
    model.blocks.register_forward_hook(lambda _, __, out: towers.append(out))
    with torch.no_grad():
        logits, _ = model(*inputs_of(played_games(2)))
        by_plane = model.policy_head(towers[0]).numpy()
    assert by_plane.shape == (2, 27, 9, 9)
    expected = by_plane.reshape(2, -1)[:, LABEL_TO_PLANE_SQUARE]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-6)
    assert np.abs(expected).max() > 0.01


def test_the_planes_are_the_board_at_file_and_rank() -> None:
    model = build_model(ModelConfig(**SMALL), seed=0)
    seen: dict[str, torch.Tensor] = {}
    model.stem.register_forward_pre_hook(lambda _, inputs: seen.update(planes=inputs[0]))
    games = played_games(2)
    with torch.no_grad():
        model(*inputs_of(games))
    planes = seen["planes"]
    assert planes.shape == (2, 29, 9, 9)
    assert planes.is_contiguous(memory_format=torch.channels_last)
    expected = np.arange(29)[None, :, None] == games.boards[:, None, :]
    np.testing.assert_array_equal(planes.numpy().reshape(2, 29, 81), expected)


def test_a_rook_ahead_is_good_and_a_rook_behind_is_bad_from_the_start() -> None:
    start = observe(Board())
    ahead = start.hand.copy()
    ahead[5] += 1
    behind = start.hand.copy()
    behind[7 + 5] += 1
    missing = start.board.copy()
    missing[missing == 6] = 0
    captured = start.board.copy()
    captured[captured == 14 + 6] = 0
    positions = [
        start,
        start._replace(hand=ahead),
        start._replace(hand=behind),
        start._replace(board=missing),
        start._replace(board=captured),
    ]
    _, (even, up, down, lost, won) = forward(
        build_model(ModelConfig(**SMALL | {"material_prior": 0.05}), seed=0), positions
    )
    assert abs(even) < 0.1
    assert up == pytest.approx(np.tanh(0.5), abs=0.1)
    assert down == pytest.approx(-np.tanh(0.5), abs=0.1)
    assert lost < -0.3
    assert won > 0.3


@pytest.mark.parametrize("prior", [0.02, 0.1])
def test_the_material_prior_sets_the_factor_it_starts_from(prior: float) -> None:
    config = ModelConfig(**SMALL | {"material_prior": prior})
    start = observe(Board())
    ahead = start.hand.copy()
    ahead[5] += 1
    model = build_model(config, seed=0)
    _, (even, up) = forward(model, [start, start._replace(hand=ahead)])
    rook = float(model.hand_material[5])
    assert up - even == pytest.approx(np.tanh(prior * rook), abs=0.1)
    assert model.material_weight.requires_grad


def test_without_the_material_prior_the_first_value_ignores_material() -> None:
    config = ModelConfig(**SMALL | {"material_prior": 0.0})
    start = observe(Board())
    ahead = start.hand.copy()
    ahead[5] += 2
    model = build_model(config, seed=0)
    _, values = forward(model, [start, start._replace(hand=ahead)])
    assert np.abs(values).max() < 0.1
    assert not model.material_weight.requires_grad


def test_the_first_policy_is_close_to_uniform_over_legal_moves() -> None:
    games = played_games()
    logits, _, _ = network_outputs(
        build_model(ModelConfig(), seed=0), games.boards, games.hands, games.scalars
    )
    mask = legal_mask(torch.from_numpy(games.legal_bits()))
    log_probs = masked_log_probs(torch.from_numpy(logits), mask)
    assert log_probs.shape == (6, NUM_ACTIONS)
    entropy = -(log_probs.exp() * log_probs).sum(1)
    np.testing.assert_allclose(entropy, mask.sum(1).float().log(), rtol=0.01)


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_model(ModelConfig(**SMALL), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert not torch.equal(one.stem.weight, other.stem.weight)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_no_layer_behaves_differently_in_training_or_by_its_neighbours_in_the_batch(
    config: ModelConfig,
) -> None:
    games = played_games()
    model = lively(config)
    arrays = (games.boards, games.hands, games.scalars)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = network_outputs(model.train(), *arrays)
    acting = network_outputs(model.eval(), *arrays)
    alone = network_outputs(model, *(array[2:3] for array in arrays))
    for left, right, single in zip(training, acting, alone, strict=True):
        np.testing.assert_array_equal(left, right)
        np.testing.assert_allclose(left[2:3], single, atol=1e-5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_the_log_probs_acted_on_are_those_learnt_from(config: ModelConfig) -> None:
    """Sampling reads ragged legal labels, a GPU's learner a mask over all labels."""
    games = played_games()
    model = lively(config)
    logits, _, _ = network_outputs(model, games.boards, games.hands, games.scalars)
    rng = np.random.default_rng(1)
    choices, acted = sample_legal(logits, games.legal_labels, games.legal_offsets, rng.random(6))
    labels = games.legal_labels[games.legal_offsets[:-1] + choices]
    fresh, _ = model(*map(torch.from_numpy, (games.boards, games.hands, games.scalars)))
    learnt = masked_log_probs(fresh, legal_mask(torch.from_numpy(games.legal_bits())))
    assert acted.shape == (6,)
    assert acted.min() < -1
    np.testing.assert_allclose(acted, learnt.detach().numpy()[np.arange(6), labels], atol=1e-5)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_listed_moves_have_the_logits_and_the_gradients_that_they_have_among_all_labels(
    config: ModelConfig,
) -> None:
    games = played_games()
    model = lively(config)
    inputs = [torch.from_numpy(part) for part in (games.boards, games.hands, games.scalars)]
    rng = torch.Generator().manual_seed(3)
    labels = torch.randint(NUM_ACTIONS, (6, 50), generator=rng)
    labels[:, :4] = torch.tensor([0, num_board_labels() - 1, num_board_labels(), NUM_ACTIONS - 1])
    moves = ListedMoves(torch.arange(6).repeat_interleave(50), labels.flatten())
    weights = torch.randn(300, generator=rng)
    found: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
    for asked in (None, moves):
        model.zero_grad(set_to_none=True)
        logits, _ = model(*inputs, asked)
        logits = logits if asked is not None else logits[moves.rows, moves.labels]
        (logits * weights).sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((logits.detach(), gradients))
    (among_all, theirs), (alone, own) = found
    assert torch.equal(alone, among_all)
    assert len(own) == len(theirs) > 4
    for left, right in zip(own, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_the_legal_mask_is_numpys_unpackbits() -> None:
    bits = np.random.default_rng(0).integers(0, 256, (50, 187), dtype=np.uint8)
    mask = legal_mask(torch.from_numpy(bits))
    assert mask.dtype == torch.bool
    expected = np.unpackbits(bits, axis=1).astype(bool)
    assert expected.shape == (50, NUM_ACTIONS)
    np.testing.assert_array_equal(mask.numpy(), expected)


def test_masked_probabilities_sum_to_one_over_legal_moves_and_are_zero_elsewhere() -> None:
    games = played_games()
    mask = legal_mask(torch.from_numpy(games.legal_bits()))
    logits = torch.randn(6, NUM_ACTIONS, generator=torch.Generator().manual_seed(0)) * 10
    probabilities = masked_log_probs(logits, mask).exp()
    assert mask.sum(1).tolist() == np.diff(games.legal_offsets).tolist()
    assert (probabilities[~mask] == 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_convolutions_keep_channels_last_memory() -> None:
    model = build_model(ModelConfig(**SMALL), seed=0)
    for convolution in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_constants_are_not_weights() -> None:
    names = {name.split(".")[0] for name in build_model(ModelConfig(**SMALL), seed=0).state_dict()}
    assert "one_hot" not in names
    assert "material_weight" in names


def test_the_architecture_digest_changes_with_every_setting_of_the_model() -> None:
    changes = {
        "depth": 2,
        "width": 32,
        "activation": "silu",
        "squeeze_excitation": True,
        "value_hidden": 16,
        "value_head": "scalar",
        "attackers": False,
        "origins": False,
        "material_prior": 0.0,
    }
    assert changes.keys() == ModelConfig.model_fields.keys()
    base = ModelConfig(**SMALL)
    digests = {architecture_digest(base.model_copy(update={k: v})) for k, v in changes.items()}
    assert len(digests | {architecture_digest(base)}) == len(changes) + 1
    assert architecture_digest(ModelConfig(**SMALL)) == architecture_digest(base)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_half_precision_is_of_the_tower_alone(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, heads and outputs stay float32; the outputs are close to those of float32."""
    exact, half = lively(config), lively(config)
    half.tower_dtype = AMP_DTYPES["bf16"]
    precisions = {}
    for name, module in half.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: precisions.update({name: output.dtype})
            )
    by_square = half._by_square

    def keep_precision(x: torch.Tensor) -> torch.Tensor:
        output = by_square(x)
        precisions["_by_square"] = output.dtype
        return output

    monkeypatch.setattr(half, "_by_square", keep_precision)
    games = played_games()
    positions = inputs_of(games)
    with torch.no_grad():
        outputs, expected = half(*positions), exact(*positions)
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.dtype == torch.float32
        assert not torch.equal(output, wanted)
        assert float((output - wanted).abs().max()) < 0.05 * float(wanted.abs().max())
    in_float32 = {name for name, dtype in precisions.items() if dtype == torch.float32}
    assert in_float32 == {"globals", "value_hidden", "value_out", "_by_square"}
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}


def test_half_precision_does_not_depend_on_the_number_of_rows() -> None:
    model = build_model(ModelConfig(depth=2, width=48), seed=0, amp="bf16")
    games = played_games(num_games=40)
    positions = tuple(map(torch.from_numpy, (games.boards, games.hands, games.scalars)))
    with torch.no_grad():
        whole = model(*positions)
        for start, end in ((0, 1), (3, 20), (7, 40)):
            part = model(*(position[start:end] for position in positions))
            for all_rows, some_rows in zip(whole, part, strict=True):
                torch.testing.assert_close(some_rows, all_rows[start:end], rtol=0, atol=1e-5)

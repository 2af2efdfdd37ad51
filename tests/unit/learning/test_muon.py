"""Muon takes torch's own Muon steps with the blocks' kernels and AdamW's with all the rest."""

import pytest
import torch
from torch import Tensor, nn

from keisei_ray.config.sections import ModelConfig
from keisei_ray.learning.adamw import AdamW
from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.learner_state import copied_state, read_learner_state, write_learner_state
from keisei_ray.learning.muon import Muon, orthogonalized
from keisei_ray.network.model import PolicyValueNet, build_model
from tests.helpers.tiny import played, tiny_config

LR, EPS, DECAY = 0.05, 1e-5, 0.1
MODEL = ModelConfig(depth=2, width=16, squeeze_excitation=True)


class Trained:
    """A network, its flat weights and gradients, and a Muon or an AdamW of them."""

    def __init__(self, *, is_muon: bool) -> None:
        self.model = build_model(MODEL, seed=3)
        self.layout = FlatLayout.of(self.model)
        self.weights = self.layout.flatten_weights(self.model)
        self.weights.grad = self.layout.flatten_gradients(self.model)
        self.optimizer = (
            Muon(self.weights, self.layout, lr=LR, eps=EPS, weight_decay=DECAY)
            if is_muon
            else AdamW(self.weights, lr=LR, eps=EPS, weight_decay=DECAY)
        )

    def step(self, number: int) -> None:
        """Makes a step by random gradients that only the number of the step decides."""
        assert self.weights.grad is not None
        drawn = torch.randn(self.layout.size, generator=torch.Generator().manual_seed(number))
        self.weights.grad.copy_(drawn)
        self.optimizer.step()

    def named(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters())


def kernels(model: PolicyValueNet) -> dict[str, Tensor]:
    """The parameters that are matrices inside of the blocks, found by their modules."""
    return {
        f"blocks.{index}.{name}.weight": module.weight
        for index, block in enumerate(model.blocks)
        for name, module in block.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


@pytest.mark.parametrize("shape", [(5, 5), (8, 40), (40, 8), (3, 6, 50)])
def test_singular_vectors_stay_and_singular_values_become_about_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalized(matrices)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ found @ vh.mT  # Diagonal if the singular vectors are the same.
    values = inside.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(inside, torch.diag_embed(values), atol=2e-4, rtol=0)
    assert 0.6 < values.min() <= values.max() < 1.21
    torch.testing.assert_close(orthogonalized(1e-3 * matrices), found, atol=1e-3, rtol=0)


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert not orthogonalized(torch.zeros(2, 3, 4)).any()


def test_steps_of_kernels_are_those_of_torchs_muon_and_all_others_those_of_adamw() -> None:
    muon, adamw = Trained(is_muon=True), Trained(is_muon=False)
    matrices = kernels(muon.model)
    assert len(matrices) == 8
    assert {matrix.dim() for matrix in matrices.values()} == {2, 4}
    copies = {
        name: nn.Parameter(matrix.detach().flatten(1).clone()) for name, matrix in matrices.items()
    }
    torchs = torch.optim.Muon(
        copies.values(), lr=LR, weight_decay=DECAY, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    for number in range(4):
        before = {name: copy.detach().clone() for name, copy in copies.items()}
        muon.step(number)
        adamw.step(number)
        for name, copy in copies.items():
            copy.grad = muon.named()[name].grad.flatten(1)  # type: ignore[union-attr]
        torchs.step()
        for name, copy in copies.items():
            found = muon.named()[name].detach().flatten(1)
            step = copy.detach() - before[name]
            # torch orthogonalizes in bfloat16, of which these are a few roundings.
            assert (found - copy).norm() < 0.03 * (number + 1) * step.norm(), name
    for name, parameter in adamw.named().items():
        if name not in matrices:
            assert torch.equal(muon.named()[name], parameter), name


def test_a_withheld_step_changes_nothing() -> None:
    trained = Trained(is_muon=True)
    trained.step(0)
    weights = trained.weights.detach().clone()
    state = {name: t.clone() for name, t in trained.optimizer.state[trained.weights].items()}
    is_withheld = torch.ones(())
    trained.optimizer.found_inf = is_withheld  # type: ignore[attr-defined]
    trained.step(1)
    trained.weights.grad.fill_(torch.nan)  # type: ignore[union-attr]
    trained.optimizer.step()
    assert torch.equal(trained.weights, weights)
    for name, tensor in state.items():
        assert torch.equal(trained.optimizer.state[trained.weights][name], tensor)
    is_withheld.zero_()
    trained.step(1)
    assert not torch.equal(trained.weights, weights)


def test_steps_go_on_from_a_saved_state_bit_for_bit() -> None:
    whole, first, second = (Trained(is_muon=True) for _ in range(3))
    for number in range(5):
        whole.step(number)
        (first if number < 3 else second).step(number)
        if number == 2:
            generator = torch.Generator()
            scaler = torch.amp.GradScaler("cpu", enabled=False)
            content = write_learner_state(
                copied_state(3, first.optimizer, first.layout, scaler, generator, None, 1e-4)
            )
            second.weights.data.copy_(first.weights)
            state = read_learner_state(
                content, second.optimizer, second.layout, generator, torch.device("cpu")
            )
            second.optimizer.load_state_dict(state.optimizer)
    assert torch.equal(second.weights, whole.weights)


@pytest.mark.parametrize(("saved_by", "read_by"), [("adamw", "muon"), ("muon", "adamw")])
def test_either_optimizer_goes_on_from_the_state_of_the_other(saved_by: str, read_by: str) -> None:
    first, second = (
        Learner(tiny_config(learner={"optimizer": name})) for name in (saved_by, read_by)
    )
    first.update([played(tiny_config(), first)], 0)
    second.load_state_files(first.state_files())
    for name, tensor in first._optimizer.state_dict()["state"][0].items():
        assert torch.equal(second._optimizer.state_dict()["state"][0][name], tensor), name
    report = second.update([played(tiny_config(), second)], 0)
    assert report.optimizer_steps > 0


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_learner_takes_the_optimizer_that_is_set(name: str) -> None:
    changes = {"optimizer": name, "target_kl": None, "num_epochs": 1, "num_minibatches": 1}
    config = tiny_config(learner=changes)
    learner = Learner(config)
    before = {name: kernel.detach().clone() for name, kernel in kernels(learner.model).items()}
    learner.update([played(config, learner)], 0)
    lengths = []
    for name_, kernel in kernels(learner.model).items():
        step = (kernel.detach() - before[name_]).flatten(1)
        unit = 0.2 * max(step.shape) ** 0.5 * config.learner.learning_rate
        lengths.append(float(torch.linalg.matrix_norm(step, ord=2)) / unit)
    moved = [length for length in lengths if length]  # Some have no gradient in the first step.
    assert moved
    assert all(0.6 < length < 1.21 for length in moved) == (name == "muon")

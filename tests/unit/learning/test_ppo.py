"""The PPO loss against its definition in float64 numpy, and its gradient against the formula."""

import numpy as np
import pytest
import torch

from keisei_ray.learning.ppo import PPOSums, ppo_sums
from keisei_ray.network.model import masked_log_probs

B, A = 64, 1496
HEADS = {"wdl": 3, "scalar": 1}
"""Value head -> outcome logits."""
COEFFICIENTS = {"clip_coef": 0.2, "vf_coef": 0.5, "ent_coef": 0.01}


def gradient_of(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


class Rows:
    """Random rows whose ratios lie on both sides of the clip range."""

    def __init__(self, seed: int = 0, head: str = "wdl") -> None:
        rng = np.random.default_rng(seed)
        self.logits = rng.normal(0, 2, (B, A)).astype(np.float32)
        self.mask = rng.random((B, A)) < 0.05
        self.actions = rng.integers(0, A, B)
        self.mask[np.arange(B), self.actions] = True
        current = self.log_probs()[np.arange(B), self.actions]
        self.behavior = (current + rng.normal(0, 0.4, B)).astype(np.float32)
        self.outcomes = rng.normal(0, 1.5, (B, HEADS[head])).astype(np.float32)
        self.advantages = rng.normal(0, 1, B).astype(np.float32)
        self.wdl_targets = rng.dirichlet([0.5, 0.5, 0.5], B)
        win, draw, loss = self.wdl_targets.T
        self.value_targets = (win - loss).astype(np.float32)
        self.draw_targets = draw.astype(np.float32)

    def log_probs(self) -> np.ndarray:
        """[B, A] float64, -inf where illegal."""
        logits = np.where(self.mask, self.logits.astype(np.float64), -np.inf)
        logits -= logits.max(axis=1, keepdims=True)
        shifted: np.ndarray = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return shifted

    def value_loss(self) -> tuple[np.float64, np.ndarray]:
        """The loss by its definition, and its gradient at the outcome's logits, in float64."""
        outcomes = self.outcomes.astype(np.float64)
        if outcomes.shape[1] == 1:
            values = np.tanh(outcomes[:, 0])
            errors = values - self.value_targets.astype(np.float64)
            return 0.5 * (errors**2).sum(), (errors * (1 - values**2))[:, None]
        probs = np.exp(outcomes) / np.exp(outcomes).sum(axis=1, keepdims=True)
        return -(self.wdl_targets * np.log(probs)).sum(), probs - self.wdl_targets

    def sums(
        self,
        logits: torch.Tensor | None = None,
        outcomes: torch.Tensor | None = None,
        **changes: float,
    ) -> PPOSums:
        if logits is None:
            logits = torch.from_numpy(self.logits)
        if outcomes is None:
            outcomes = torch.from_numpy(self.outcomes)
        return ppo_sums(
            masked_log_probs(logits, torch.from_numpy(self.mask)),
            outcomes,
            torch.from_numpy(self.actions),
            torch.from_numpy(self.behavior),
            torch.from_numpy(self.advantages),
            torch.from_numpy(self.value_targets),
            torch.from_numpy(self.draw_targets),
            **(COEFFICIENTS | changes),
        )


@pytest.mark.parametrize("head", HEADS)
def test_every_sum_equals_its_definition(head: str) -> None:
    rows = Rows(head=head)
    log_probs = rows.log_probs()
    log_ratio = log_probs[np.arange(B), rows.actions] - rows.behavior
    ratio = np.exp(log_ratio)
    advantages = rows.advantages.astype(np.float64)
    policy = -np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages).sum()
    value, _ = rows.value_loss()
    entropy = 0.0
    for row, mask in zip(log_probs, rows.mask, strict=True):
        entropy -= (np.exp(row[mask]) * row[mask]).sum()
    outside = (ratio < 0.8) | (ratio > 1.2)
    assert 0 < outside.sum() < B
    expected = {
        "loss": policy + 0.5 * value - 0.01 * entropy,
        "policy_loss": policy,
        "value_loss": value,
        "entropy": entropy,
        "approx_kl": (ratio - 1 - log_ratio).sum(),
        "clipped": outside.sum(),
    }
    sums = rows.sums()._asdict()
    assert sums.keys() == expected.keys()
    for name, tensor in sums.items():
        assert tensor.shape == ()
        assert tensor.dtype == torch.float32
        assert float(tensor) == pytest.approx(expected[name], rel=1e-5), name


def test_the_policy_gradient_flows_where_the_ratio_may_still_improve_and_only_there() -> None:
    """Clipped away: ratio above 1.2 of a good move, below 0.8 of a bad one."""
    rows = Rows()
    logits = torch.from_numpy(rows.logits).requires_grad_()
    rows.sums(logits, vf_coef=0.0, ent_coef=0.0).loss.backward()
    log_probs = rows.log_probs()
    index = np.arange(B)
    ratio = np.exp(log_probs[index, rows.actions] - rows.behavior)
    flows = np.where(rows.advantages > 0, ratio <= 1.2, ratio >= 0.8)
    # d log p(a) / d logit_j = [j = a] - p(j)
    slope = -np.exp(log_probs)
    slope[index, rows.actions] += 1
    expected = -(flows * ratio * rows.advantages)[:, None] * slope
    assert 0 < flows.sum() < B
    np.testing.assert_allclose(gradient_of(logits).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_the_value_gradient_is_that_of_the_definition(head: str) -> None:
    rows = Rows(head=head)
    outcomes = torch.from_numpy(rows.outcomes).requires_grad_()
    rows.sums(outcomes=outcomes).loss.backward()
    _, expected = rows.value_loss()
    assert expected.shape == (B, HEADS[head])
    np.testing.assert_allclose(gradient_of(outcomes).numpy(), 0.5 * expected, atol=1e-6)


def test_a_value_target_beyond_the_chance_of_a_decision_by_rounding_stays_finite() -> None:
    """draw_targets was packed as float16: 1 - P(draw) may fall a little below |value|."""
    rows = Rows()
    rows.value_targets[:] = 0.7
    rows.draw_targets[:] = 0.3001
    outcomes = torch.from_numpy(rows.outcomes).requires_grad_()
    sums = rows.sums(outcomes=outcomes)
    sums.loss.backward()
    rows.wdl_targets = np.tile([0.7, 0.3, 0.0], (B, 1))
    value, gradient = rows.value_loss()
    assert float(sums.value_loss) == pytest.approx(value, rel=1e-3)
    np.testing.assert_allclose(gradient_of(outcomes).numpy(), 0.5 * gradient, atol=1e-3)


def test_masked_logits_get_no_gradient_and_the_others_a_finite_one() -> None:
    rows = Rows()
    logits = torch.from_numpy(rows.logits).requires_grad_()
    rows.sums(logits, ent_coef=1.0).loss.backward()
    gradient = gradient_of(logits).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[~rows.mask] == 0).all()
    assert (gradient[rows.mask] != 0).mean() > 0.99


def test_illegal_logits_change_nothing_however_large() -> None:
    rows = Rows()
    before = rows.sums()
    rows.logits[~rows.mask] = 1e6
    assert rows.sums() == before


def test_entropy_counts_legal_moves_only() -> None:
    rows = Rows()
    rows.logits[:] = 1.5
    expected = np.log(rows.mask.sum(axis=1)).sum()
    assert float(rows.sums().entropy) == pytest.approx(expected, rel=1e-5)
    rows.mask[:] = False
    rows.mask[np.arange(B), rows.actions] = True
    assert float(rows.sums().entropy) == 0


def test_entropy_is_rewarded() -> None:
    rows = Rows()
    logits = torch.from_numpy(rows.logits).requires_grad_()
    rows.sums(logits, vf_coef=0.0, ent_coef=1.0).loss.backward()
    with_bonus = gradient_of(logits).clone()
    logits.grad = None
    rows.sums(logits, vf_coef=0.0, ent_coef=0.0).loss.backward()
    step = torch.from_numpy(rows.logits) - 0.1 * (with_bonus - gradient_of(logits))
    assert float(rows.sums(step).entropy) > float(rows.sums().entropy)


def test_approx_kl_estimates_the_divergence_of_the_current_policy_from_behavior() -> None:
    """Over many actions drawn from behavior, k3's mean is KL(behavior || current)."""
    behavior, current = np.log([0.9, 0.06, 0.04]), np.log([0.4, 0.3, 0.3])
    forward = (np.exp(behavior) * (behavior - current)).sum()
    backward = (np.exp(current) * (current - behavior)).sum()
    assert backward > 1.3 * forward
    draws = 200_000
    actions = np.random.default_rng(0).choice(3, draws, p=np.exp(behavior))
    zeros = torch.zeros(draws)
    sums = ppo_sums(
        torch.tensor(current, dtype=torch.float32).expand(draws, 3),
        zeros[:, None],
        torch.from_numpy(actions),
        torch.from_numpy(behavior[actions].astype(np.float32)),
        zeros,
        zeros,
        zeros,
        **COEFFICIENTS,
    )
    assert float(sums.approx_kl) / draws == pytest.approx(forward, rel=0.05)


def test_approx_kl_tells_ratios_apart_that_float32_rounds_to_one() -> None:
    """approx_kl also measures the first minibatch's ratio, where 1e-4 is already a fault."""
    log_ratio = 1e-4
    zero = torch.zeros(1)
    label = torch.zeros(1, dtype=torch.int64)
    log_probs = torch.full((1, 1), log_ratio)
    sums = ppo_sums(log_probs, zero[:, None], label, zero, zero, zero, zero, **COEFFICIENTS)
    assert float(sums.approx_kl) == pytest.approx(log_ratio**2 / 2, rel=0.01)


def test_only_the_loss_carries_a_gradient() -> None:
    rows = Rows()
    sums = rows.sums(torch.from_numpy(rows.logits).requires_grad_())
    assert [name for name, tensor in sums._asdict().items() if tensor.requires_grad] == ["loss"]

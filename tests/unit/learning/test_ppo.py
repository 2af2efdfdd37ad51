"""The PPO loss against its definition in float64 numpy, and its gradient against the formula."""

import numpy as np
import pytest
import torch

from keisei_ray.learning.ppo import LossCoefs, PPOSums, masked_policy, ppo_sums
from keisei_ray.network.model import masked_log_probs, outcome_values

B, A = 64, 1496
HEADS = {"wdl": 3, "scalar": 1}
"""Value head -> outcome logits."""
COEFS = LossCoefs(
    clip_coef=0.2, max_importance_weight=1.5, mate_coef=0.7, vf_coef=0.5, ent_coef=0.01
)


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
        self.proximal = (current + rng.normal(0, 0.4, B)).astype(np.float32)
        self.behavior = (self.proximal + rng.normal(0, 0.5, B)).astype(np.float32)
        self.is_forced = rng.random(B) < 0.2
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
    ) -> PPOSums[torch.Tensor]:
        if logits is None:
            logits = torch.from_numpy(self.logits)
        if outcomes is None:
            outcomes = torch.from_numpy(self.outcomes)
        log_probs = masked_log_probs(logits, torch.from_numpy(self.mask))
        return ppo_sums(
            masked_policy(log_probs, torch.from_numpy(self.actions)),
            outcomes,
            torch.from_numpy(self.behavior),
            torch.from_numpy(self.proximal),
            torch.from_numpy(self.is_forced),
            torch.from_numpy(self.advantages),
            torch.from_numpy(self.value_targets),
            torch.from_numpy(self.draw_targets),
            COEFS._replace(**changes),
        )


@pytest.mark.parametrize("head", HEADS)
def test_every_sum_equals_its_definition(head: str) -> None:
    rows = Rows(head=head)
    log_probs = rows.log_probs()
    taken = log_probs[np.arange(B), rows.actions]
    policy = mate = kl_proximal = squares = kl_behavior = 0.0
    clipped = truncated = 0
    for log_prob, proximal, behavior, is_forced, advantage in zip(
        taken,
        rows.proximal.astype(np.float64),
        rows.behavior.astype(np.float64),
        rows.is_forced,
        rows.advantages.astype(np.float64),
        strict=True,
    ):
        if is_forced:
            mate -= log_prob
            continue
        ratio, weight = np.exp(log_prob - proximal), np.exp(proximal - behavior)
        bounded = min(max(ratio, 0.8), 1.2)
        policy -= min(weight, 1.5) * min(ratio * advantage, bounded * advantage)
        kl_proximal += ratio - 1 - np.log(ratio)
        squares += (ratio - 1 - np.log(ratio)) ** 2
        kl_behavior += ratio * weight - 1 - np.log(ratio * weight)
        clipped += bounded != ratio
        truncated += weight > 1.5
    value, _ = rows.value_loss()
    with torch.no_grad():
        values = outcome_values(torch.from_numpy(rows.outcomes.astype(np.float64)))[0].numpy()
    errors = rows.value_targets.astype(np.float64) - values
    entropy = 0.0
    for row, mask in zip(log_probs, rows.mask, strict=True):
        entropy -= (np.exp(row[mask]) * row[mask]).sum()
    sampled = B - rows.is_forced.sum()
    assert 0 < clipped < sampled < B
    assert 0 < truncated < sampled
    expected = {
        "loss": policy + 0.7 * mate + 0.5 * value - 0.01 * entropy,
        "policy_loss": policy,
        "mate_loss": mate,
        "value_loss": value,
        "value_errors": errors.sum(),
        "value_error_squares": (errors**2).sum(),
        "entropy": entropy,
        "kl_proximal": kl_proximal,
        "kl_proximal_squares": squares,
        "kl_behavior": kl_behavior,
        "clipped": clipped,
        "truncated_weights": truncated,
        "sampled": sampled,
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
    ratio = np.exp(log_probs[index, rows.actions] - rows.proximal)
    flows = np.where(rows.advantages > 0, ratio <= 1.2, ratio >= 0.8)
    weight = np.minimum(np.exp(rows.proximal.astype(np.float64) - rows.behavior), 1.5)
    # d log p(a) / d logit_j = [j = a] - p(j)
    slope = -np.exp(log_probs)
    slope[index, rows.actions] += 1
    pull = np.where(rows.is_forced, 0.7, weight * flows * ratio * rows.advantages)
    expected = -pull[:, None] * slope
    assert 0 < (flows & ~rows.is_forced).sum() < (~rows.is_forced).sum()
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


def test_without_lag_and_forced_mates_the_loss_is_that_of_ppo_bit_for_bit() -> None:
    rows = Rows()
    rows.behavior = rows.proximal
    rows.is_forced[:] = False
    sums = rows.sums()
    log_prob = torch.from_numpy(rows.logits)
    log_prob = masked_log_probs(log_prob, torch.from_numpy(rows.mask))
    log_prob = log_prob[torch.arange(B), torch.from_numpy(rows.actions)]
    ratio = (log_prob - torch.from_numpy(rows.behavior)).exp()
    advantages = torch.from_numpy(rows.advantages)
    plain = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).sum()
    assert sums.policy_loss == plain
    assert sums.kl_proximal == sums.kl_behavior
    assert float(sums.truncated_weights) == float(sums.mate_loss) == 0


def test_a_mate_that_the_policy_all_but_excludes_leaves_every_gradient_finite() -> None:
    rows = Rows()
    rows.is_forced[:] = True
    rows.proximal[:] = rows.behavior[:] = -200.0
    logits = torch.from_numpy(rows.logits).requires_grad_()
    sums = rows.sums(logits)
    sums.loss.backward()
    assert torch.isfinite(gradient_of(logits)).all()
    assert all(torch.isfinite(value) for value in sums)
    assert float(sums.sampled) == float(sums.kl_proximal) == float(sums.kl_behavior) == 0


def k3_sums(current: np.ndarray, old: np.ndarray, actions: np.ndarray) -> PPOSums[torch.Tensor]:
    """Sums of rows with three legal moves, all played by the old policy."""
    count = len(actions)
    zeros = torch.zeros(count)
    old_log_probs = torch.from_numpy(old[actions].astype(np.float32))
    log_probs = torch.tensor(current, dtype=torch.float32).expand(count, len(current))
    return ppo_sums(
        masked_policy(log_probs, torch.from_numpy(actions)),
        zeros[:, None],
        old_log_probs,
        old_log_probs,
        torch.zeros(count, dtype=torch.bool),
        zeros,
        zeros,
        zeros,
        COEFS,
    )


def test_the_kl_estimates_tend_to_the_divergence_of_the_current_policy_from_the_old() -> None:
    """Over many actions drawn from the old policy, k3's mean is KL(old || current)."""
    old, current = np.log([0.9, 0.06, 0.04]), np.log([0.4, 0.3, 0.3])
    forward = (np.exp(old) * (old - current)).sum()
    backward = (np.exp(current) * (current - old)).sum()
    assert backward > 1.3 * forward
    draws = 200_000
    actions = np.random.default_rng(0).choice(3, draws, p=np.exp(old))
    sums = k3_sums(current, old, actions)
    assert float(sums.kl_behavior) / draws == pytest.approx(forward, rel=0.05)
    assert float(sums.kl_proximal) / draws == pytest.approx(forward, rel=0.05)


def test_the_kl_estimates_tell_ratios_apart_that_float32_rounds_to_one() -> None:
    """kl_behavior also measures the first minibatch's ratio, where 1e-4 is already a fault."""
    log_ratio = 1e-4
    sums = k3_sums(np.array([log_ratio]), np.zeros(1), np.zeros(1, np.int64))
    assert float(sums.kl_behavior) == pytest.approx(log_ratio**2 / 2, rel=0.01)

"""The pull towards the starting policy: its definition in float64, and the gradient that it is."""

import numpy as np
import pytest
import torch

from keisei_ray.config.schema import Config
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.schedules import scheduled_kl_start_coef
from keisei_ray.learning.start_anchor import anchored_advantages, divergence_sum
from keisei_ray.network.model import legal_mask, masked_log_probs
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.storage.run_layout import MODEL_FILE
from tests.helpers.setting_values import make_config
from tests.helpers.tiny import N, T, played, tiny_config


def test_advantages_equal_their_definition() -> None:
    rng = np.random.default_rng(0)
    advantages, own, reference = (rng.normal(size=50) for _ in range(3))
    is_forced = rng.random(50) < 0.3
    expected = [
        advantage if drawn_by_rule else advantage - 0.3 * (log_p - log_q)
        for advantage, log_p, log_q, drawn_by_rule in zip(
            advantages, own, reference, is_forced, strict=True
        )
    ]
    a, p, q = (torch.from_numpy(x.astype(np.float32)) for x in (advantages, own, reference))
    forced = torch.from_numpy(is_forced)
    found = anchored_advantages(a, p, q, forced, 0.3)
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-6)
    kl = divergence_sum(p, q, forced)
    assert kl == pytest.approx((own - reference)[~is_forced].sum(), abs=1e-5)
    assert divergence_sum(p, q, torch.ones(50, dtype=torch.bool)) == 0.0


def test_the_policy_gradient_of_the_penalty_is_the_gradient_of_the_divergence() -> None:
    """Over all actions, each as often as the policy plays it."""
    torch.manual_seed(1)
    logits = torch.randn(9, dtype=torch.float64, requires_grad=True)
    log_q = torch.log_softmax(torch.randn(9, dtype=torch.float64), 0)
    log_p = torch.log_softmax(logits, 0)
    (of_divergence,) = torch.autograd.grad(
        (log_p.exp() * (log_p - log_q)).sum(), logits, retain_graph=True
    )
    penalty = anchored_advantages(
        torch.zeros(9, dtype=torch.float64),
        log_p.detach(),
        log_q,
        torch.zeros(9, dtype=torch.bool),
        1.0,
    )
    (of_loss,) = torch.autograd.grad(-(log_p.detach().exp() * penalty * log_p).sum(), logits)
    torch.testing.assert_close(of_loss, of_divergence)


@pytest.mark.parametrize(
    ("progress", "weight"), [(0.0, 0.4), (0.1, 0.2), (0.2, 0.0), (0.7, 0.0), (1.5, 0.0)]
)
def test_the_weight_fades_to_zero(progress: float, weight: float) -> None:
    learner = make_config(
        run={"init_from": "x"}, learner={"kl_start_coef": 0.4, "kl_start_until": 0.2}
    ).learner
    assert scheduled_kl_start_coef(learner, progress) == pytest.approx(weight)


def anchored(weight: float, **run: object) -> Config:
    return tiny_config(
        run={"seed": 3, "total_timesteps": 1000, "init_from": "x", **run},
        learner={"kl_start_coef": weight, "kl_start_until": 1.0, "learning_rate": 0.01},
    )


def after_updates(weight: float, updates: int = 8) -> tuple[float, list[float | None]]:
    """KL divergence from the start after some updates, and those that were reported."""
    config = anchored(weight)
    learner, start = Learner(config), Learner(config)
    if weight:
        learner.pull_to(start.state_files()[MODEL_FILE])
    reported = []
    for update in range(updates):
        reported.append(learner.update([played(config, learner)], update * T * N).kl_start)
    rollout = unpack_rollout(played(config, start, actor_id=1), max_timesteps=T * N)
    fields = (rollout.boards, rollout.hands, rollout.scalars, rollout.legal_bits)
    boards, hands, scalars, bits = (torch.from_numpy(f.reshape(T * N, -1)) for f in fields)
    with torch.no_grad():
        log_p, log_q = (
            masked_log_probs(one.model(boards, hands, scalars)[0], legal_mask(bits))
            for one in (learner, start)
        )
    return float((log_p.exp() * (log_p - log_q)).sum(1).mean()), reported


@pytest.mark.slow
def test_a_pull_keeps_the_policy_near_its_start() -> None:
    free, nothing = after_updates(0.0)
    held, reported = after_updates(1.0)
    assert nothing == [None] * 8
    assert reported[0] == pytest.approx(0.0, abs=1e-5)
    assert held < free / 2


def test_with_a_weight_that_has_faded_an_update_is_that_without_bit_for_bit() -> None:
    digests = []
    for weight in (0.0, 0.5):
        config = anchored(weight)
        learner = Learner(config)
        if weight:
            learner.pull_to(Learner(config).state_files()[MODEL_FILE])
        report = learner.update([played(config, learner)], 1000)
        assert report.kl_start is None
        digests.append(learner.weights_digest())
    assert digests[0] == digests[1]


def test_a_pull_without_a_start_is_refused() -> None:
    with pytest.raises(ValueError, match="the starting policy is random"):
        make_config(learner={"kl_start_coef": 0.1})

"""A step is undone as if it had not been made."""

import pytest
import torch

from keisei_ray.learning.step_backup import StepBackup


@pytest.mark.parametrize("undone", [1, 2, 3])
def test_the_newest_steps_can_be_undone_up_to_the_depth(undone: int) -> None:
    weights = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weights], lr=0.1, fused=True)
    backup = StepBackup(optimizer, depth=3)
    seen = []
    for step in range(5):
        seen.append(
            [weights.tolist(), {k: v.tolist() for k, v in optimizer.state[weights].items()}]
        )
        assert backup.save() == step
        weights.grad = torch.tensor([1.0, -2.0, float(step)])
        optimizer.step()
    backup.undo(5 - undone)
    after = [weights.tolist(), {k: v.tolist() for k, v in optimizer.state[weights].items()}]
    assert after == seen[5 - undone]
    with pytest.raises(AssertionError, match="copy 1 of 5"):
        backup.undo(1)


def test_undoing_the_first_step_leaves_an_optimizer_without_state() -> None:
    weights = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weights], lr=0.1, fused=True)
    backup = StepBackup(optimizer, depth=2)
    for _ in range(2):
        backup.save()
        weights.grad = torch.ones(3)
        optimizer.step()
    backup.undo(0)
    assert not optimizer.state
    assert weights.tolist() == [1.0] * 3

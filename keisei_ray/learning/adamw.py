"""AdamW of one flat parameter, by torch's function without what torch's class does around it.

torch wraps each step for profilers and hooks, which takes longer than a step of a small network.
Other methods are marked for `torch.compile`, whose modules are imported at the first such call:
0.9 s of a core and 70 MB in each learner (torch 2.13). They are called without the marks. Where
torch has none, they are torch's own.
"""

from inspect import unwrap

import torch
from torch import nn
from torch.optim.adamw import adamw


class AdamW(torch.optim.AdamW):
    """AdamW of one flat parameter, to be used as it is, outside of what is compiled.

    Attributes:
        found_inf: if it is set, a scalar on the device: no step is made where it is 1.
    """

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)

    def __init__(
        self, weights: nn.Parameter, *, lr: float, eps: float, weight_decay: float
    ) -> None:
        """Args:
        weights: [F] all trained weights.
        lr: learning rate.
        eps: epsilon of the steps.
        weight_decay: decoupled weight decay.
        """
        super().__init__([weights], lr=lr, eps=eps, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Makes one step from the gradient; none where `found_inf`, if it is set, is 1."""
        (group,) = self.param_groups
        (weights,) = group["params"]
        assert weights.grad is not None, "the gradient is computed before the step"
        state = self.state[weights]
        if not state:
            state["step"] = torch.zeros((), device=weights.device)
            state["exp_avg"] = torch.zeros_like(weights)
            state["exp_avg_sq"] = torch.zeros_like(weights)
        beta1, beta2 = group["betas"]
        adamw(
            [weights],
            [weights.grad],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            fused=True,
            grad_scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    step.hooked = True  # type: ignore[attr-defined]  # So that torch leaves it as it is.

"""AdamW as torch has it, without the compiler that torch would load for it.

torch marks what an optimizer does for `torch.compile`, whose modules are imported at the first such
call: 0.9 s of a core and 70 MB in each learner (torch 2.13). The learner compiles its network at
most, so it calls the same functions without the marks. Where torch has none, this is torch's class.
"""

from inspect import unwrap

import torch


class AdamW(torch.optim.AdamW):
    """torch's optimizer, to be used as it is, outside of what is compiled."""

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))

"""A copy of many tensors in one transfer is the same as a copy of each."""

import torch

from keisei_ray.network.host_copy import copied, on_host, together


def test_tensors_of_any_shape_and_layout_are_copied_together() -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = [image, torch.tensor(2.5), torch.randn(4, 6).t(), torch.ones(3, requires_grad=True)]
    for copies in (together(tensors), on_host(tensors)):
        assert [copy.shape for copy in copies] == [tensor.shape for tensor in tensors]
        for copy, tensor in zip(copies, tensors, strict=True):
            assert torch.equal(copy, tensor)
            assert copy.is_contiguous()
            assert not copy.requires_grad
    own = copied(tensors)
    assert [copy.stride() for copy in own] == [tensor.stride() for tensor in tensors]
    image.zero_()
    assert together(tensors)[0].abs().sum() == 0
    assert own[0].abs().sum() > 0
    assert copied([]) == []
    assert copies[0].abs().sum() > 0

"""NADE has one pass for densities and draws, so it is compared with its formula written out."""

import torch

from physgen import models


def test_the_running_sum_is_the_formula():
    torch.manual_seed(0)
    nade = models.build("nade", (2, 3), hidden=5, symbols=3).double()
    with torch.no_grad():
        for p in nade.parameters():
            p += 0.5 * torch.randn_like(p)
        values = torch.randint(0, 3, (4, 6))
        one_hot = torch.nn.functional.one_hot(values, 3).double()
        direct = nade.direct.masked().reshape(6, 3, 6, 3)
        fields = nade(values)
        for i in range(6):
            before, bias = one_hot[:, :i], nade.direct.bias[3 * i : 3 * i + 3]
            a = nade.bias + torch.einsum("njs,jsh->nh", before, nade.inner[:i])
            expected = bias + torch.einsum("njs,rjs->nr", before, direct[i, :, :i])
            expected += torch.tanh(a) @ nade.outer[i]
            torch.testing.assert_close(fields[:, i], expected, atol=1e-12, rtol=0)

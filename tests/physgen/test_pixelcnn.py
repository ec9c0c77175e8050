"""PixelCNN: shapes and hyper-parameters beyond the contract of every model."""

import pytest
import torch

from ising import exact
from physgen.distributions import draw_spins
from physgen.models import build


@pytest.mark.parametrize(
    ("shape", "hyper"),
    [((2, 6), {"depth": 1}), ((6, 2), {"depth": 3, "kernel": 5}), ((3, 4), {"depth": 2, "kernel": 3})],
)
def test_any_window_is_normalised_and_sampled_as_it_is_evaluated(shape, hyper):
    torch.manual_seed(0)
    net = build("pixelcnn", shape, width=4, **hyper).double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
        assert abs(net.log_prob(exact.states(12)).logsumexp(0)) < 1e-12
        spins = net.sample(30, torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(1)
        again = [draw_spins(fields, generator) for fields in net(spins).T.contiguous()]
        assert torch.equal(spins, torch.stack(again, -1))


def test_a_window_that_sees_the_site_itself_is_not_normalised():
    """Negative control: a first layer of type B."""
    torch.manual_seed(0)
    net = build("pixelcnn", (3, 3), depth=2, width=4).double()
    net.layers[0].itself = True
    net.layers[0].left = torch.nn.Conv2d(1, 4, (1, 3), bias=False).double()
    with torch.no_grad():
        assert abs(net.log_prob(exact.states(9)).logsumexp(0)) > 0.01


@pytest.mark.parametrize(
    ("shape", "hyper", "message"),
    [
        ((16,), {}, "needs a two-dimensional lattice with sides of at least 2, got shape"),
        ((4, 4, 4), {}, "take MADE for other lattices"),
        ((1, 8), {}, "at least 2"),
        ((4, 4), {"kernel": 4}, "kernel is odd"),
    ],
)
def test_refusals(shape, hyper, message):
    with pytest.raises(ValueError, match=message):
        build("pixelcnn", shape, **hyper)

"""PixelCNN: shapes and hyper-parameters beyond the contract of every model."""

import numpy as np
import pytest
import torch

from ising import exact
from physgen.distributions import compiled, draw_spins
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


def test_as_many_channels_as_inputs_are_no_reason_to_see_the_site_itself():
    """One channel over one spin, three over three symbols: no residual may reach around the first mask."""
    torch.manual_seed(0)
    for symbols in (2, 3):
        net = build("pixelcnn", (2, 2), depth=2, width=symbols - (symbols == 2), kernel=3, symbols=symbols)
        values = torch.cartesian_prod(*[torch.arange(symbols)] * 4)
        values = 2.0 * values - 1 if symbols == 2 else values
        assert abs(net.double().log_prob(values).logsumexp(0)) < 1e-12


@pytest.mark.parametrize(
    ("shape", "hyper"),
    [
        ((2, 5), {"depth": 1, "width": 4}),
        ((7, 2), {"depth": 2, "width": 3}),
        ((3, 6), {"depth": 3, "width": 10, "kernel": 7}),
        ((9, 4), {"depth": 2, "width": 1, "kernel": 3}),
    ],
)
@pytest.mark.parametrize("n", [1, 24, 60])
def test_compiled_draws_have_the_fields_of_the_full_pass(shape, hyper, n):
    """Any window, any number of channels, whole and broken tiles of 24 configurations."""
    torch.manual_seed(0)
    net = build("pixelcnn", shape, **hyper)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
        assert net.compiled
        spins, fields = net.draw(n, torch.Generator().manual_seed(1))
        assert spins.shape == fields.shape == (n, net.n_sites)
        torch.testing.assert_close(fields, net(spins), atol=1e-5, rtol=0)
        again = net.draw(n, torch.Generator().manual_seed(1))[0]
        assert torch.equal(spins, again)


def test_the_compiled_tanh():
    """Against numpy in float64, in steps of 6e-6 through all of its range; odd to the last bit."""
    x = np.linspace(-12, 12, 4_000_001, dtype=np.float32)
    found = x.copy()
    compiled.jit(compiled.tanh, fastmath={"contract"})(found)
    assert np.abs(found - np.tanh(x.astype(np.float64))).max() < 5e-7
    assert np.array_equal(found, -found[::-1])


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

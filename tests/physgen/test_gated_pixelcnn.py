"""Gated PixelCNN: what its two stacks see, and shapes beyond the contract of every model."""

import pytest
import torch

from ising import exact
from physgen.models import build
from physgen.models.gated_pixelcnn import GatedLayer

ROWS, COLUMNS = 5, 15


def seen(name, row, column, **hyper):
    """Which sites move the field of one site, ``(rows, columns)``; without the direct term."""
    torch.manual_seed(0)
    net = build(name, (ROWS, COLUMNS), width=6, direct=False, **hyper).double()
    spins = (2.0 * torch.randint(0, 2, (1, ROWS * COLUMNS)) - 1).double().requires_grad_()
    net(spins)[0, row * COLUMNS + column].backward()
    return (spins.grad != 0).view(ROWS, COLUMNS)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_it_sees_every_earlier_site_of_its_window(depth):
    """Depth l with a window of 3: l rows above, l columns to both sides in each, l sites to the left."""
    expected = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    expected[4 - depth : 4, 7 - depth : 8 + depth] = True
    expected[4, 7 - depth : 7] = True
    assert torch.equal(seen("gated_pixelcnn", 4, 7, depth=depth, kernel=3), expected)


def test_plain_masks_leave_a_blind_spot():
    """Negative control: in the row above, nothing right of the window of the last layer is seen."""
    found = seen("pixelcnn", 4, 7, depth=3, kernel=3)
    assert found[3, 8]
    assert not found[3, 9:].any()


@pytest.mark.parametrize(
    ("shape", "hyper"),
    [((2, 6), {"depth": 1}), ((6, 2), {"depth": 3, "kernel": 5}), ((3, 4), {"depth": 2, "kernel": 3})],
)
def test_any_window_is_normalised_and_sampled_as_it_is_evaluated(shape, hyper):
    torch.manual_seed(0)
    net = build("gated_pixelcnn", shape, width=4, **hyper).double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
        assert abs(net.log_prob(exact.states(12)).logsumexp(0)) < 1e-12
        spins, fields = net.draw(30)
        torch.testing.assert_close(fields, net(spins), atol=1e-10, rtol=0)
        net.layers[0] = GatedLayer(1, 4, 3, first=False).double()  # negative control: sees the site itself
        assert abs(net.log_prob(exact.states(12)).logsumexp(0)) > 1e-4


def test_refusals():
    with pytest.raises(ValueError, match="a gated PixelCNN needs a two-dimensional lattice"):
        build("gated_pixelcnn", (16,))
    with pytest.raises(ValueError, match="kernel is odd"):
        build("gated_pixelcnn", (4, 4), kernel=4)

"""Log-weights of all states by tables of halves, against sums in logarithms."""

import pytest
import torch

from physgen.distributions import RestrictedBoltzmann, halves, units
from physgen.distributions.bits import in_bits

DOUBLE = torch.float64
LAYERS = [units.Bernoulli, units.Spin, lambda n: units.Binomial(n, 1)]


def law(visible, hidden, scale, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (visible.width, hidden.width), (visible.width,), (hidden.width,)
    return RestrictedBoltzmann(
        visible, hidden, *(scale * torch.randn(s, generator=g, dtype=DOUBLE) for s in shapes)
    )


def reference(d, visible):
    """One state after another, in logarithms."""
    weigh = (lambda v: -d.free_energy(v)) if visible else d._log_weight_hidden
    return weigh((d.visible_units if visible else d.hidden_units).states(d.loc))


@pytest.mark.parametrize("hidden", LAYERS)
@pytest.mark.parametrize("visible", LAYERS)
@pytest.mark.parametrize("scale", [0.3, 10.0])
def test_all_states_to_1e_10(visible, hidden, scale):
    d = law(visible(11), hidden(8), scale)
    for which in (False, True):
        torch.testing.assert_close(d.log_weights(which), reference(d, which), rtol=1e-13, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (300, 9)])  # the last fills several products
def test_sizes(size):
    d = law(units.Spin(size[0]), units.Bernoulli(size[1]), 2.0)
    torch.testing.assert_close(d.log_weights(False), reference(d, False), rtol=1e-13, atol=1e-10)


def test_fields_without_a_table_are_summed_in_logarithms():
    d = law(units.Spin(7), units.Bernoulli(6), 150.0)
    assert halves.log_weights(in_bits(d)) is None
    torch.testing.assert_close(d.log_weights(False), reference(d, False))
    d.loc = torch.full((7,), torch.nan, dtype=DOUBLE)
    assert d.log_weights(False).isnan().all()


def test_gradients_take_the_other_way():
    d = law(units.Bernoulli(5), units.Bernoulli(4), 1.0)
    weight = d.weight.clone().requires_grad_()
    other = RestrictedBoltzmann(d.visible_units, d.hidden_units, weight, d.loc, d.hidden_bias)
    (found,) = torch.autograd.grad(other.log_partition(), weight)
    assert found.shape == weight.shape
    assert d.log_partition() == pytest.approx(other.log_partition().item(), abs=1e-12)

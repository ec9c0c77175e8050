"""Hybrid Monte Carlo against the free propagator and the equation of motion; machines of Gaussian units."""

import math

import pytest
import torch

from physgen.distributions import units
from physgen.gaussian_machine import marginal, most_likely
from physgen.phi4 import Phi4, hybrid_monte_carlo, two_point


def z_of(values, expected):
    return abs(values.mean() - expected) / (values.std() / len(values) ** 0.5)


def test_the_force_is_minus_the_gradient():
    model = Phi4((3, 4), -1.0, 0.5)
    field = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model.action(field).sum(), field)
    torch.testing.assert_close(model.force(field.detach()), -slope)


def test_free_fields_have_the_propagator():
    """16 covariances with a corner site within 4.5 sigma of 1000 chains (1e-4); a wrong mass is rejected."""
    model = Phi4((4, 4), 0.5)
    fields, accepted = hybrid_monte_carlo(model, 1000, 1, torch.Generator().manual_seed(1), burn_in=30)
    assert accepted > 0.9
    products = fields[:, 0, :1] * fields[:, 0]
    z = [z_of(products[:, x], model.propagator()[0, x]) for x in range(16)]
    assert max(z) < 4.5
    assert z_of(products[:, 0], Phi4((4, 4), 0.2).propagator()[0, 0]) > 4.5
    lattice = fields[:, 0].reshape(-1, 4, 4)
    along = [(lattice * lattice.roll(1, axis)).mean((1, 2)) for axis in (1, 2)]
    torch.testing.assert_close(two_point(fields, (4, 4))[:, 0, 1], sum(along) / 2)


def test_the_coupled_field_obeys_its_equation_of_motion():
    """Schwinger-Dyson: the mean of phi dS/dphi is 1 per site, with 4.5 sigma; without coupling it is not."""
    model = Phi4((3, 3), -1.0, 0.5)
    fields, _ = hybrid_monte_carlo(model, 800, 1, torch.Generator().manual_seed(2), burn_in=40)
    field = fields[:, 0].reshape(-1, 3, 3)
    assert z_of(-(field * model.force(field)).mean((1, 2)), 1.0) < 4.5
    other = Phi4((3, 3), -1.0, 0.7)
    assert z_of(-(field * other.force(field)).mean((1, 2)), 1.0) > 4.5


def test_refuses_laws_without_an_integral():
    with pytest.raises(ValueError, match="coupling > 0, or"):
        Phi4((4, 4), -1.0)
    with pytest.raises(ValueError, match="must be finite"):
        Phi4((4, 4), math.nan, 1.0)
    with pytest.raises(ValueError, match="needs 3 sites"):
        Phi4((2, 4), 1.0)
    with pytest.raises(ValueError, match="closed form for coupling = 0"):
        Phi4((4, 4), 1.0, 0.1).propagator()


def test_chains_that_do_not_move_are_no_data():
    """Minima 22 from the start, and a curvature that a leap cannot follow."""
    with pytest.raises(ValueError, match="of its trajectories"):
        hybrid_monte_carlo(Phi4((3, 3), -1000.0, 0.5), 20, 2, torch.Generator().manual_seed(0))


def test_a_gaussian_machine_holds_a_propagator_and_is_the_most_likely_of_its_size():
    truth = Phi4((3, 4), 0.5).propagator()
    full = marginal(most_likely(truth, 11))
    torch.testing.assert_close(full.covariance_matrix, truth, atol=1e-10, rtol=0)
    few = most_likely(truth, 3)
    v = torch.randn(6, 12, dtype=torch.float64)
    shift = marginal(few).log_prob(v) + few.free_energy(v)
    assert shift.std() < 1e-10

    def log_likelihood(law):
        normal = marginal(law)
        return -0.5 * ((normal.precision_matrix * truth).sum() - torch.logdet(normal.precision_matrix))

    best = log_likelihood(few)
    for seed in range(5):
        noise = torch.randn(few.weight.shape, generator=torch.Generator().manual_seed(seed)).double()
        near = few._like(few.weight + 0.01 * noise, few.loc, few.hidden_bias)
        assert log_likelihood(near) < best
    visible = units.Gaussian(12, few.visible_units.scale * 1.05)
    wider = few._like(few.weight, few.loc, few.hidden_bias, visible=visible)
    assert log_likelihood(wider) < best
    with pytest.raises(ValueError, match="from 1 to 11"):
        most_likely(truth, 12)

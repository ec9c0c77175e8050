"""Layers and machines as Pyro's distributions: enumeration, potentials of NUTS, batches."""

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.mcmc.util import initialize_model
from torch.autograd import grad
from torch.distributions.transforms import identity_transform

from physgen.distributions import Layer, machine, units
from tests.physgen.unit_cases import CLOSED, KINDS, REAL, Case, build, ids, same


@pytest.mark.parametrize("pair", [p for p in CLOSED if p[1] not in REAL], ids=ids)
def test_hidden_units_are_summed_over_in_pyro(pair):
    """Evidence of v by TraceEnum_ELBO over the hidden states is log p(v)."""
    law = Case(pair).law()
    v = pyro.sample("v", law)
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(law.joint), lambda _: None, v)
    assert abs(loss + law.log_prob(v).item()) < 1e-10


@pytest.mark.parametrize("hidden", ["bernoulli", "spin", "softmax:3", "binomial:3"])
@pytest.mark.parametrize("visible", REAL)
def test_the_potential_that_nuts_sees_is_the_free_energy(visible, hidden):
    """Potential and force on v, with hidden units summed over, equal those of -log p(v)."""
    law = Case((visible, hidden)).law()
    _, potential, transforms, _ = initialize_model(config_enumerate(law.joint), max_plate_nesting=0)
    z = torch.tensor([0.4, -0.3], dtype=torch.float64, requires_grad=True)
    transform = transforms["v"].inv if "v" in transforms else identity_transform
    v = transform(z)
    jacobian = transform.log_abs_det_jacobian(z, v).sum()
    expected = -law.log_prob(v) - jacobian
    same(potential({"v": z}), expected)
    same(*(grad(x, z)[0] for x in (potential({"v": z}), expected)))


@pytest.mark.parametrize("kind", [*KINDS, "labelled"])
def test_a_layer_is_a_distribution(kind):
    """Batches, expand, to_event, enumeration and validation as Pyro asks for."""
    layer = build(kind, 2)
    d = Layer(
        layer, torch.linspace(-1, 1, 3 * layer.width, dtype=torch.float64).reshape(3, -1), validate_args=True
    )
    wide = d.expand((4, 3))
    assert (wide.batch_shape, wide.event_shape, wide._validate_args) == ((4, 3), (layer.width,), True)
    x = wide.sample((5,))
    assert x.shape == (5, 4, 3, layer.width)
    same(wide.log_prob(x), d.log_prob(x))
    same(wide.to_event(2).log_prob(x), d.log_prob(x).sum((-1, -2)))
    assert d.has_enumerate_support == (kind not in REAL)
    if d.has_enumerate_support:
        states = d.enumerate_support(expand=False)
        assert states.shape == (layer.n_states, 1, layer.width)
        same(d.log_prob(states).logsumexp(0), torch.zeros(3, dtype=torch.float64))
        same(states.expand(-1, 3, -1), d.enumerate_support())
    outside = x.clone()
    outside[..., 0] = float("nan")
    with pytest.raises(ValueError, match="within the support"):
        d.log_prob(outside)
    with pytest.raises(ValueError, match="coordinates"):
        Layer(layer, torch.zeros(layer.width + 1))


def test_a_machine_of_spins_is_enumerated_as_a_latent_variable():
    """pyro.sample of a machine summed over by TraceEnum_ELBO in a plate; evidence of a noisy copy by hand."""
    law = Case(("spin", "softmax:3")).law()
    noisy = torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=torch.float64)

    def story():
        with pyro.plate("copies", 2):
            s = pyro.sample("s", law, infer={"enumerate": "parallel"})
            pyro.sample("x", pyro.distributions.Normal(s, 0.8).to_event(1), obs=noisy)

    s = law.enumerate_support()
    seen = torch.distributions.Normal(s.unsqueeze(1), 0.8).log_prob(noisy).sum(-1)
    evidence = (law.log_prob(s).unsqueeze(1) + seen).logsumexp(0).sum()
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(story, lambda: None)
    assert abs(loss + evidence.item()) < 1e-10


def test_machines_that_share_parameters_need_no_copies_of_them():
    """A batch of 10 000 views of one 784 x 100 machine would need 3 GB if they were copied."""
    layers = units.Bernoulli(784), units.Bernoulli(100)
    one = machine(*layers, torch.randn(784, 100) / 28, torch.zeros(784), torch.zeros(100))
    many = one.expand((10_000,))
    v = torch.zeros(10_000, 784)
    torch.testing.assert_close(many.free_energy(v), one.free_energy(v))

"""Annealed importance sampling against exact partition functions: unbiased, covered, bracketed, warned."""

import math
import warnings

import numpy as np
import pytest
import torch

from ising.stats import Estimate
from physgen import ais
from physgen.distributions import RestrictedBoltzmann, units
from physgen.models.rbm import RBM
from physgen.partition import Weights, path_of
from physgen.partition.bennett import meeting
from physgen.partition.path import Stepwise, Straight
from physgen.partition.schedule import spaced
from physgen.partition.weights import tail_index


def machine(spread=0.5, seed=0, sites=4, hidden=6):
    torch.manual_seed(seed)
    rbm = RBM((sites, sites), hidden=hidden, spread=spread).double()
    with torch.no_grad():
        rbm.b.normal_(0, 0.3)
        rbm.c.normal_(0, 0.3)
    return rbm


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def in_runs(weights, runs):
    """Estimates of many runs from the weights of one, which come from independent chains."""
    return [weights._replace(log_w=part) for part in weights.log_w.chunk(runs)]


def test_estimates_are_unbiased_and_their_intervals_cover():
    """300 runs each: mean Z_hat / Z = 1 within 3 sigma; one sigma covers 60 to 76 %, two sigma 91 to 98 %.

    False alarm of each at the true rate 0.683: 0.3 %, with fixed seeds; the same for the acceptance ratio.
    """
    rbm = machine()
    exact, path = rbm.log_partition(), path_of(rbm)
    times = torch.linspace(0, 1, 13, dtype=torch.float64)
    forward = in_runs(ais.forward_weights(path, 30_000, times, generator(1)), 300)
    reverse = in_runs(ais.reverse_weights(path, rbm.sample(30_000), times, generator(2)), 300)
    ratio = np.exp([float(x.log_z0 + x.log_w.logsumexp(0)) - math.log(100) - exact for x in forward])
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / math.sqrt(300)
    both = [meeting(*pair).estimate for pair in zip(forward, reverse, strict=True)]
    for estimates in ([x.estimate for x in forward], both):
        sigmas = np.array([e.sigmas_from(exact) for e in estimates])
        assert 0.60 <= (sigmas < 1).mean() <= 0.76
        assert 0.91 <= (sigmas < 2).mean() <= 0.98
        assert not 0.60 <= (sigmas < 2).mean() <= 0.76, "error bars twice too wide must be noticed"
    assert np.mean([e.error for e in both]) < np.mean([x.estimate.error for x in forward])


def test_a_wrong_path_is_noticed():
    """Negative control: chains that are updated with the law before the weight is taken are biased."""
    rbm = machine(spread=1.0)
    exact, path = rbm.log_partition(), path_of(rbm)
    times = torch.linspace(0, 1, 13, dtype=torch.float64)
    right = ais.forward_weights(path, 4000, times, generator(1)).log_w
    state, wrong = path.start(4000, generator()), torch.zeros_like(right)
    with torch.no_grad():
        for here, there in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            state = path.move(state, there, generator(2))
            wrong += path.change(state, here, there)

    def sigmas(log_w):
        w = (log_w + path.log_z0 - exact).exp()
        return abs(float((w.mean() - 1) / (w.std() / math.sqrt(len(w)))))

    assert sigmas(right) < 4.5
    assert sigmas(wrong) > 4.5


def test_forward_and_reverse_enclose_the_exact_value():
    """Few temperatures push them apart, forward below and reverse above; every estimate within 4.5 sigma."""
    rbm = machine(spread=1.0)
    exact, samples = rbm.log_partition(), rbm.sample(400)
    found = [*ais.bracket(rbm, samples, 100, generator()), ais.bridge(rbm, samples, 100, generator())]
    for estimate in found:
        assert estimate.sigmas_from(exact) < 4.5
        assert estimate.error < 0.3
    weak = machine()
    assert ais.integrated(weak, 200, 400, generator()).sigmas_from(weak.log_partition()) < 4.5
    below, above = ais.both_ways(rbm, samples, 400, 6, generator())
    assert below.log_z0 + below.log_w.mean() < exact < above.log_z0 - above.log_w.mean()  # Jensen


PAIRS = [
    (units.Bernoulli(6), units.Spin(4)),
    (units.Spin(4), units.Binomial(6, 1)),
    (units.Softmax(4, 3), units.Bernoulli(3)),
    (units.Binomial(4, 2), units.Spin(3)),
    (units.Gaussian(4, torch.full((4,), 0.8, dtype=torch.float64)), units.Bernoulli(6)),
    (units.Bernoulli(3), units.Gaussian(5, torch.ones(5, dtype=torch.float64))),
    (units.ReLU(4, torch.ones(4, dtype=torch.float64)), units.Bernoulli(3)),
]


@pytest.mark.parametrize("layers", PAIRS, ids=lambda pair: "-".join(type(x).__name__ for x in pair))
def test_any_units_anneal_and_both_forms_of_the_path_agree(layers):
    visible, hidden = layers
    g = generator(3)
    W, b, c = (
        0.4 * torch.randn(shape, generator=g, dtype=torch.float64)
        for shape in ((visible.width, hidden.width), (visible.width,), (hidden.width,))
    )
    law = RestrictedBoltzmann(visible, hidden, W, b, c)
    base, exact = b / 2, float(law.log_partition())
    straight, stepwise = path_of(law, base), Stepwise(law, base)
    assert not isinstance(straight, Stepwise)
    assert straight.log_z0 == pytest.approx(stepwise.log_z0, abs=1e-12)
    times = torch.linspace(0, 1, 21, dtype=torch.float64)
    samples = law.sample((400,))
    for path in (straight, stepwise):
        ends = ais.forward_weights(path, 400, times, g), ais.reverse_weights(path, samples, times, g)
        assert meeting(*ends).estimate.sigmas_from(exact) < 4.5
        assert meeting(*ends).estimate.error < 0.1


def test_float32_machines_give_float64_weights():
    rbm = machine()
    exact = rbm.log_partition()
    weights = ais.forward_weights(path_of(rbm.float()), 1000, torch.linspace(0, 1, 51), generator())
    assert weights.log_w.dtype == torch.float64
    assert weights.estimate.sigmas_from(exact) < 4.5


def test_the_base_is_fitted_to_data_where_there_are_any():
    rbm = machine()
    data = 1.0 - 2 * (torch.rand(2, 50, 16, generator=generator()) < torch.linspace(0.2, 0.8, 16))
    base = ais.fitted_base(rbm, None, data)
    mean = data.reshape(-1, 16).double().sum(0) / 102
    torch.testing.assert_close(base.tanh(), mean, rtol=0, atol=1e-12)
    assert ais.log_partition(rbm, 400, 50, generator(), data=data).sigmas_from(rbm.log_partition()) < 4.5


def test_a_pilot_puts_temperatures_where_the_law_changes():
    """All of the change is made to happen after t = 0.8; the pilot finds it, and it ends at t = 1."""

    class Late(Straight):
        def change(self, state, here, there):
            return super().change(state, *(max(0.0, (t - 0.8) / 0.2) for t in (here, there)))

    rbm = machine(spread=1.0)
    with torch.no_grad():
        times = spaced(Late(rbm.annealed(0.0), rbm.annealed(1.0)), 200, generator())
    assert (times.diff() > 0).all()
    assert (times > 0.8).double().mean() > 0.4
    assert times[-1] == 1
    assert torch.equal(spaced(path_of(rbm), 20, None), torch.linspace(0, 1, 21, dtype=torch.float64))


@pytest.mark.parametrize(("chains", "temperatures"), [(1, 10), (0, 10), (10, 0)])
def test_what_cannot_have_an_error_is_refused(chains, temperatures):
    rbm = machine()
    with pytest.raises(ValueError, match=f"at least 2 chains.* got {chains} and {temperatures}"):
        ais.log_partition(rbm, chains, temperatures)
    with pytest.raises(ValueError, match="at least 2 chains"):
        ais.reverse(rbm, torch.ones(chains, 16).double(), temperatures)


def test_an_estimate_is_the_jackknife_of_two_weights_by_hand():
    """Weights 1 and 3: log 2 from both, log 3 and log 1 from all but one."""
    for sign in (1, -1):
        found = Weights(torch.tensor([0.0, math.log(3)]).double(), 0.5, sign).estimate
        assert found.mean == pytest.approx(0.5 + sign * (2 * math.log(2) - math.log(3) / 2))
        assert found.error == pytest.approx(math.log(3) / 2)


@pytest.mark.parametrize(("there", "back"), [(2000, 100), (100, 2000)])
def test_walks_meet_whatever_their_numbers(there, back):
    """Normal log-weights with log Z = 2, 300 times: deviations have mean 0 and variance 1 (4.5 sigma)."""
    a, b = (torch.randn(300, n, generator=generator(n), dtype=torch.float64) for n in (there, back))
    both = [(Weights(1.5 + x, 0.0), Weights(y - 2.5, 0.0, -1)) for x, y in zip(a, b, strict=True)]
    z = np.array([meeting(*pair).estimate.z(Estimate(2.0, 0.0)) for pair in both])
    assert abs(z.mean()) < 4.5 / math.sqrt(300)
    assert z.var() == pytest.approx(1, abs=4.5 * math.sqrt(2 / 300))


def test_uneven_weights_are_warned_of():
    """Fields turned against the base in a single step: a few chains in a thousand carry everything."""
    rbm = machine(spread=3.0)
    with pytest.warns(ais.UnevenWeights, match="take more temperatures"):
        ais.log_partition(rbm, chains=1000, temperatures=1, generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ais.log_partition(machine(), chains=300, temperatures=50, generator=generator())
    far = Weights(torch.zeros(50).double(), 0.0), Weights(torch.full((50,), -9.0).double(), 0.0, -1)
    with pytest.warns(ais.UnevenWeights, match=r"meet in 0\.\d chains"):
        meeting(*far).checked()


def test_heavy_tails_are_noticed_where_the_effective_sample_size_is_not_alarmed():
    """The largest of 4000 weights with P(w > x) = 1/x, and as many that are log-normal with deviation 1/2."""
    u = torch.rand(4000, generator=generator(4), dtype=torch.float64)
    heavy, light = Weights(-u.log(), 0.0), Weights(0.5 * torch.special.ndtri(u), 0.0)
    assert heavy.ess > 20
    assert "a tail of index" in heavy.doubt
    assert light.doubt == ""
    assert tail_index(light.log_w) < 0.5 < 0.8 < tail_index(heavy.log_w)


def test_a_generator_fixes_the_estimate():
    rbm = machine()
    one, two = (ais.log_partition(rbm, 50, 20, generator()) for _ in range(2))
    assert one == two

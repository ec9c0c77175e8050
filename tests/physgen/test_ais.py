"""Annealed importance sampling against exact partition functions: unbiased, covered, bracketed, warned."""

import math
import warnings

import numpy as np
import pytest
import torch

from physgen import ais
from physgen.distributions import GaussianBinaryRBM
from physgen.models.rbm import RBM


def machine(spread=0.5, seed=0):
    torch.manual_seed(seed)
    rbm = RBM((4, 4), hidden=10, spread=spread).double()
    with torch.no_grad():
        rbm.b.normal_(0, 0.3)
        rbm.c.normal_(0, 0.3)
    return rbm


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def repeated(rbm, times, **settings):
    return [ais.log_partition(rbm, generator=generator(seed), **settings) for seed in range(times)]


def test_estimates_are_unbiased_and_their_intervals_cover():
    """200 runs: mean Z_hat / Z = 1 within 3 sigma; one sigma covers 60 to 76 %, two sigma 91 to 98 %."""
    rbm = machine()
    exact = rbm.log_partition()
    runs = repeated(rbm, 200, chains=100, temperatures=12)
    off = np.array([e.mean for e in runs]) - exact
    sigmas = np.abs(off) / np.array([e.error for e in runs])
    ratio = np.exp(off)
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / math.sqrt(200)
    assert 0.60 <= (sigmas < 1).mean() <= 0.76
    assert 0.91 <= (sigmas < 2).mean() <= 0.98
    assert not 0.60 <= (sigmas < 2).mean() <= 0.76, "error bars twice too wide must be noticed"


def test_a_wrong_path_is_noticed():
    """Negative control: chains that are updated with the law before the weight is taken are biased."""
    rbm = machine(spread=1.0)
    exact = rbm.log_partition()
    path = torch.linspace(0, 1, 13)
    v = rbm.annealed(0.0).draw_visible(torch.zeros(4000, 10, dtype=torch.float64), generator())
    start = rbm.annealed(0.0).log_partition_uncoupled().item()
    right = ais.log_weights(rbm, v, path, generator(1))
    wrong = torch.zeros_like(right)
    for here, there in zip(path[:-1].tolist(), path[1:].tolist(), strict=True):
        v = rbm.annealed(there).gibbs(v, 1, generator(2))
        wrong += rbm.annealed(here).free_energy(v) - rbm.annealed(there).free_energy(v)

    def sigmas(log_w):
        w = (log_w + start - exact).exp()
        return abs(float((w.mean() - 1) / (w.std() / math.sqrt(len(w)))))

    assert sigmas(right) < 4.5
    assert sigmas(wrong.detach()) > 4.5


@pytest.mark.parametrize("seed", range(3))
def test_forward_and_reverse_enclose_the_exact_value(seed):
    """Both within 4.5 sigma of it, and few temperatures push them apart, forward below and reverse above."""
    rbm = machine(spread=1.2, seed=seed)
    exact, samples = rbm.log_partition(), rbm.sample(500)
    for estimate in ais.bracket(rbm, samples, 300, generator()):
        assert estimate.sigmas_from(exact) < 4.5
        assert estimate.error < 0.3
    path = torch.linspace(0, 1, 7)
    start = rbm.annealed(0.0)
    v = start.draw_visible(torch.zeros(500, 10, dtype=torch.float64), generator())
    z0 = start.log_partition_uncoupled().item()
    assert z0 + ais.log_weights(rbm, v, path, generator()).mean() < exact  # Jensen
    assert z0 - ais.log_weights(rbm, samples, path.flip(0), generator()).mean() > exact


def test_any_base_is_allowed():
    rbm = machine()
    base = torch.linspace(-1, 1, 16, dtype=torch.float64)
    estimate = ais.log_partition(rbm, 1000, 100, generator(), base=base)
    assert estimate.sigmas_from(rbm.log_partition()) < 4.5


def test_gaussian_machines_anneal_too():
    torch.manual_seed(0)
    double = torch.float64
    d = GaussianBinaryRBM(
        0.7 * torch.randn(5, 6, dtype=double),
        torch.randn(5, dtype=double),
        torch.randn(6, dtype=double),
        torch.full((5,), 0.8, dtype=double),
    )
    exact = float(d.log_partition())
    for estimate in ais.bracket(d, d.sample((1000,)), 200, generator()):
        assert estimate.sigmas_from(exact) < 4.5


@pytest.mark.parametrize(("chains", "temperatures"), [(1, 10), (0, 10), (10, 0)])
def test_what_cannot_have_an_error_is_refused(chains, temperatures):
    rbm = machine()
    with pytest.raises(ValueError, match=f"at least 2 chains.* got {chains} and {temperatures}"):
        ais.log_partition(rbm, chains, temperatures)
    with pytest.raises(ValueError, match="at least 2 chains"):
        ais.reverse(rbm, torch.ones(chains, 16).double(), temperatures)


def test_uneven_weights_are_warned_of():
    """Fields turned against the base in a single step: a few chains in a thousand carry everything."""
    rbm = machine(spread=3.0)
    with pytest.warns(ais.UnevenWeights, match="take more temperatures"):
        ais.log_partition(rbm, chains=1000, temperatures=1, generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ais.log_partition(machine(), chains=1000, temperatures=100, generator=generator())


def test_a_generator_fixes_the_estimate():
    rbm = machine()
    one, two = repeated(rbm, 1, chains=50, temperatures=20) + repeated(rbm, 1, chains=50, temperatures=20)
    assert one == two

"""Updates of a layer whose neighbour is summed over: their law, their reversal, and where they are taken."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chisquare

from physgen.distributions import RestrictedBoltzmann, units
from physgen.distributions.fused import words
from physgen.partition import path_of
from physgen.partition.collapsed import Collapsed, _sweep, fits
from physgen.partition.path import Straight

FALSE_ALARM = 1e-4  # of each p-value, with fixed seeds
N = 40_000


def machine(visible=9, hidden=3, scale=1.2, seed=0):
    g = torch.Generator().manual_seed(seed)
    W, b, c = (
        scale * torch.randn(shape, generator=g, dtype=torch.float64)
        for shape in ((visible, hidden), (visible,), (hidden,))
    )
    return RestrictedBoltzmann(units.Spin(visible), units.Bernoulli(hidden), W, b, c)


def law_at(d, base, t):
    """Probabilities of all states of the kept layer under f_0^(1 - t) f^t, by enumeration."""
    visible = d.n_visible <= d.n_hidden
    start, end = (d.annealed(s, base).log_weights(visible) for s in (0.0, 1.0))
    return torch.lerp(start, end, t).softmax(0)


def number(y):
    return (y.long() << torch.arange(y.shape[1] - 1, -1, -1)).sum(-1)


@pytest.mark.parametrize("sizes", [(9, 3), (3, 9)])
def test_an_update_keeps_its_law(sizes):
    """Exact draws of p_t still follow it after one update; after one at another t they do not."""
    d, g = machine(*sizes), torch.Generator().manual_seed(1)
    base, t = d.loc / 2, 0.6
    path = path_of(d, base)
    assert isinstance(path, Collapsed)
    p = law_at(d, base, t)
    places = torch.multinomial(p, N, replacement=True, generator=g)
    y = (places.unsqueeze(-1) >> torch.arange(2, -1, -1) & 1).double()

    def p_value(update_at):
        moved = path.move(path._seen(y.clone()), update_at, g)
        for found, anew in zip(moved[1:4], path._seen(moved.y)[1:4], strict=True):
            torch.testing.assert_close(found, anew, rtol=1e-5, atol=1e-5)  # e and the sum follow the bits
        return chisquare(torch.bincount(number(moved.y), minlength=8), N * p).pvalue

    assert p_value(t) > FALSE_ALARM
    assert p_value(0.8 * t) < FALSE_ALARM


def test_an_update_is_reversible():
    """As many go from state i to state k as back; if all went upwards they would not."""
    d, g = machine(scale=0.8), torch.Generator().manual_seed(2)
    path, p = path_of(d), law_at(d, None, 1.0)

    def p_value(upwards):
        before = torch.multinomial(p, N, replacement=True, generator=g)
        state = path._seen((before.unsqueeze(-1) >> torch.arange(2, -1, -1) & 1).double())
        bits = words(4 * N, g).reshape(N, 4)
        bits[:, -1] |= np.uint64(upwards) << np.uint64(63)
        _sweep(*(x.numpy() for x in state[:4]), bits, path._fields, path._ratios, 1.0, path._cuts)
        flow = torch.bincount(8 * before + number(state.y), minlength=64).reshape(8, 8).double()
        pairs = torch.triu_indices(8, 8, 1).unbind()
        there, back = flow[pairs], flow.T[pairs]
        seen = there + back >= 10
        return chi2.sf(((there - back) ** 2 / (there + back))[seen].sum(), int(seen.sum()))

    assert p_value(upwards=False) > FALSE_ALARM
    assert p_value(upwards=True) < FALSE_ALARM


def test_sums_stay_exact_where_factors_overflow_and_roundings_add_up():
    """1300 units whose product is far beyond float32, 150 updates; the sum is that of float64 to 1e-4."""
    d, g = machine(1300, 4, scale=3.0), torch.Generator().manual_seed(3)
    path = path_of(d, d.loc / 2)
    assert len(path._cuts) > 2
    state = path.start(40, g)
    for _ in range(150):
        state = path.move(state, 0.02, g)
    torch.testing.assert_close(state.rise, path._seen(state.y).rise, rtol=0, atol=1e-4)
    assert state.log_sum.min() > 700
    assert state.age == 50


def test_where_it_is_taken():
    assert fits(machine())
    assert not fits(machine(scale=1e3)), "no number holds its factors"
    assert not fits(RestrictedBoltzmann(units.Softmax(3, 2), units.Spin(3), *_zeros(6, 3)))
    assert isinstance(path_of(RestrictedBoltzmann(units.Spin(80), units.Spin(65), *_zeros(80, 65))), Straight)


def _zeros(D, H):
    return torch.zeros(D, H), torch.zeros(D), torch.zeros(H)

"""Estimates against plain averages of the same numbers, correlations against plain sums."""

import itertools

import numpy as np
import pytest

from ising import exact, lattices, observables
from ising.model import Ising
from ising.observables import REGISTRY, Series
from ising.run import Run
from tests.ising import laws


def series(model: Ising, beta: float, chains: int = 40, samples: int = 250) -> tuple[np.ndarray, Series]:
    spins = laws.equilibrium(model, beta, chains * samples)
    energy = model.energy(spins).numpy().reshape(chains, samples)
    spins = spins.numpy().reshape(chains, samples, -1)
    return spins, Series(energy, spins.sum(-1, dtype=float), spins.shape[-1], beta)


def test_the_display_order_and_the_symbols():
    assert [(name, f.symbol) for name, f in REGISTRY.items()] == [
        ("energy", "e"),
        ("abs_m", "|m|"),
        ("specific_heat", "C"),
        ("chi", "χ"),
        ("u4", "U₄"),
        ("m", "m"),
        ("m2", "m²"),
    ]


@pytest.mark.parametrize("h", [0.0, 0.2])
@pytest.mark.parametrize("name", REGISTRY)
def test_estimates_agree_with_enumeration(name, h):
    """10 000 independent exact draws; |z| < 4.5 is 7e-6 for each of 14."""
    model = Ising(lattices.square(4), h=h)
    _, data = series(model, 0.3)
    estimate = REGISTRY[name](data)
    assert estimate.sigmas_from(exact.known(model, 0.3)[name]) < 4.5
    assert estimate.error < 0.1


def test_formulas_of_the_fluctuations():
    spins, data = series(Ising(lattices.square(4)), 0.5)
    N, M, E = 16, spins.sum(-1, dtype=float), data.energy
    plain = {
        "energy": E.mean() / N,
        "abs_m": np.abs(M).mean() / N,
        "specific_heat": 0.25 * E.var() / N,
        "chi": 0.5 * N * ((M**2).mean() / N**2 - (np.abs(M).mean() / N) ** 2),
        "u4": 1 - (M**4).mean() / (3 * (M**2).mean() ** 2),
        "m": M.mean() / N,
        "m2": (M**2).mean() / N**2,
    }
    for name, value in plain.items():  # the jackknife takes away a bias of order 1/n
        assert REGISTRY[name](data).mean == pytest.approx(value, abs=2e-3, rel=2e-3)


def test_frozen_spins_have_no_error_and_no_nan():
    data = Series(np.full((4, 50), -32.0), np.full((4, 50), 16.0), 16, 10.0)
    estimates = {name: f(data) for name, f in REGISTRY.items()}
    assert {name: e.mean for name, e in estimates.items()} == pytest.approx(
        {"energy": -2, "abs_m": 1, "specific_heat": 0, "chi": 0, "u4": 2 / 3, "m": 1, "m2": 1}
    )
    assert all(e.error < 1e-12 for e in estimates.values())


def test_the_binder_cumulant_of_no_magnetisation_is_not_a_number():
    assert np.isnan(observables.u4(Series(np.zeros((2, 9)), np.zeros((2, 9)), 4, 1.0)).mean)


def test_the_error_of_m_is_honest_where_no_chain_ever_flips():
    signs = np.where(np.arange(64) % 2, 1.0, -1.0)[:, None]
    estimate = observables.m(Series(np.zeros((64, 100)), np.repeat(16 * signs, 100, axis=1), 16, 1.0))
    assert estimate.mean == 0
    assert estimate.error == pytest.approx(1 / np.sqrt(63))


@pytest.mark.parametrize("shape", [(7,), (4, 6), (3, 4, 5)])
def test_correlation_and_structure_factor_against_plain_sums(shape):
    spins = np.random.default_rng(0).choice([-1, 1], size=(2, 3, np.prod(shape))).astype(np.int8)
    field = spins.reshape(2, 3, *shape).astype(float)
    axes = range(2, field.ndim)
    G = observables.correlation(spins, shape)
    assert G.shape == (2, 3, min(shape) // 2 + 1)
    for r in range(G.shape[-1]):
        plain = np.mean([(field * np.roll(field, r, axis)).mean(tuple(axes)) for axis in axes], axis=0)
        np.testing.assert_allclose(G[..., r], plain, atol=1e-12)
    S = observables.structure_factor(spins, shape)
    for k in itertools.product(*(range(min(n, 3)) for n in shape)):
        phase = sum(2j * np.pi * a * x / n for a, x, n in zip(k, np.indices(shape), shape, strict=True))
        plain = np.abs((field * np.exp(phase)).sum(tuple(axes))) ** 2 / np.prod(shape)
        np.testing.assert_allclose(S[(..., *k)], plain, atol=1e-10)


def test_correlations_agree_with_the_exact_chain():
    """G(r) of a ring is (t^r + t^(L-r)) / (1 + t^L), t = tanh(beta J); |z| < 4.5 for r = 1 ... 4."""
    L, t = 8, np.tanh(0.6)
    spins, _ = series(Ising(lattices.chain(L)), 0.6)
    estimates = observables.correlation_estimates(spins, (L,))
    assert (estimates[0].mean, estimates[0].error) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    for r in (1, 2, 3, 4):
        assert estimates[r].sigmas_from((t**r + t ** (L - r)) / (1 + t**L)) < 4.5


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"must hold the 16 sites of \(4, 4\), got shape \(3, 15\)"):
        observables.correlation(np.ones((3, 15)), (4, 4))


def test_a_run_names_all_its_observables():
    spins, data = series(Ising(lattices.square(4)), 0.3, samples=50)
    model = Ising(lattices.square(4)).describe()
    run = Run(model, (4, 4), 0.3, "none", 0, 0, 1, spins, data.energy, data.magnetisation, {})
    assert (run.chains, run.samples, run.n_sites) == (40, 50, 16)
    assert list(run.observables()) == list(REGISTRY)
    assert run.chi == run.observables()["chi"]
    assert run.energy.mean == pytest.approx(run.energies.mean() / 16)


def test_a_new_observable_registers_itself():
    @observables.observable("e³")
    def third(data: Series) -> observables.Estimate:
        return observables.Estimate(float((data.energy**3).mean()), 0.0)

    try:
        assert REGISTRY["third"] is third
        assert third.symbol == "e³"
    finally:
        del REGISTRY["third"]

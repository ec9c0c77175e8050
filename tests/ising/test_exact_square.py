"""The square lattice: Kaufman, Beale, transfer matrices and Onsager against enumeration and one another.

Nothing here is random, so there is no false-alarm rate; tolerances are rounding errors.
One test drops each of Kaufman's four products in turn and sees the comparison fail.
"""

import math

import numpy as np
import pytest
import torch

from ising import exact, lattices
from ising.exact import kaufman
from ising.model import Ising

T_C = exact.critical_temperature("square")
BETAS = [0.0, 0.01, 0.3, 1 / T_C, 0.6, 2.0]


def derivative(f, beta: float, step: float = 1e-4) -> float:
    """Central difference of fourth order."""
    low, high = f(beta - step) - f(beta + step), f(beta - 2 * step) - f(beta + 2 * step)
    return (high - 8 * low) / (12 * step)


# the square torus


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (3, 4), (4, 3), (3, 5), (5, 3), (4, 5)])
@pytest.mark.parametrize("beta", BETAS)
def test_kaufman_is_the_enumeration(shape, beta):
    model = Ising(lattices.rectangular(*shape))
    expected = exact.enumerate_observables(model, beta)
    assert exact.kaufman_log_z(*shape, beta) == pytest.approx(exact.log_partition(model, beta), rel=1e-12)
    assert exact.kaufman_energy(*shape, beta) == pytest.approx(expected["energy"], abs=1e-12)
    assert exact.kaufman_specific_heat(*shape, beta) == pytest.approx(expected["specific_heat"], abs=1e-11)


@pytest.mark.parametrize("beta", BETAS[1:])
def test_kaufman_with_unequal_couplings(beta):
    """J along the first axis of the lattice, J_y along the second: swapping them is noticed."""
    lattice = lattices.rectangular(3, 5)
    along_y = (lattice.edges[:, 1] - lattice.edges[:, 0]).abs() % 5 != 0
    model = Ising(lattice, J=0.5 + 0.75 * along_y.double())
    expected, wrong = exact.log_partition(model, beta), exact.kaufman_log_z(3, 5, beta, 1.25, 0.5)
    assert exact.kaufman_log_z(3, 5, beta, 0.5, 1.25) == pytest.approx(expected, rel=1e-12)
    assert wrong != pytest.approx(expected, rel=1e-8)
    heat = exact.enumerate_observables(model, beta)["specific_heat"]
    assert exact.kaufman_specific_heat(3, 5, beta, 0.5, 1.25) == pytest.approx(heat, abs=1e-11)


def test_an_even_antiferromagnet_is_a_ferromagnet():
    model = Ising(lattices.square(4), J=-1.0)
    assert exact.kaufman_log_z(4, 4, 0.5, J=-1.0) == pytest.approx(exact.log_partition(model, 0.5), rel=1e-13)


@pytest.mark.parametrize("dropped", range(4))
def test_a_dropped_sector_is_caught(dropped, monkeypatch):
    """Negative control: without any one of the four products the comparison with enumeration fails."""
    calls = iter(range(4))
    original = kaufman._log_product

    def broken(modes, m, sign):
        jet = original(modes, m, sign)
        return jet._replace(value=-1e3) if next(calls) == dropped else jet

    monkeypatch.setattr(kaufman, "_log_product", broken)
    expected = exact.log_partition(Ising(lattices.square(4)), 0.3)
    assert abs(exact.kaufman_log_z(4, 4, 0.3) - expected) > 1e-3


def test_kaufman_agrees_with_published_values():
    """16 x 16 at the critical point, as used to test generators by Ferrenberg, Landau and Wong (1992)."""
    assert exact.kaufman_energy(16, 16, 1 / T_C) == pytest.approx(-1.453065, abs=5e-7)
    assert exact.kaufman_specific_heat(16, 16, 1 / T_C) == pytest.approx(1.498705, abs=5e-7)


@pytest.mark.parametrize("T", [0.001, 0.1, 0.5, 1.0, 2.0, 2.6, 5.0, 100.0])
def test_large_tori_are_the_infinite_lattice_away_from_the_critical_point(T):
    L = 512
    values = [
        f(L, L, 1 / T) for f in (exact.kaufman_log_z, exact.kaufman_energy, exact.kaufman_specific_heat)
    ]
    degeneracy = math.log(2) if T < T_C else 0.0
    assert (values[0] - degeneracy) / L**2 == pytest.approx(exact.onsager_log_z(1 / T), rel=1e-13)
    assert values[1] == pytest.approx(exact.onsager_energy(1 / T), abs=1e-12)
    assert values[2] == pytest.approx(exact.onsager_specific_heat(1 / T), abs=1e-11)
    assert np.isfinite(
        [f(L, L, 1 / T, 1.0, 0.01) for f in (exact.kaufman_energy, exact.kaufman_specific_heat)]
    ).all()


@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (7, 30)])
@pytest.mark.parametrize("beta", [0.2, 0.43, 1 / T_C, 0.5])
def test_energy_and_specific_heat_are_derivatives(shape, beta):
    n_sites = math.prod(shape)
    slope = derivative(lambda b: exact.kaufman_log_z(*shape, b), beta)
    curve = derivative(lambda b: -n_sites * exact.kaufman_energy(*shape, b), beta)
    assert exact.kaufman_energy(*shape, beta) == pytest.approx(-slope / n_sites, abs=3e-8)
    assert exact.kaufman_specific_heat(*shape, beta) == pytest.approx(beta**2 * curve / n_sites, abs=3e-6)


# density of states


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (3, 5), (4, 3)])
def test_beale_counts_the_states(shape):
    model = Ising(lattices.rectangular(*shape))
    energies, counts = model.energy(exact.states(model.lattice.n_sites)).unique(return_counts=True)
    assert exact.beale_density_of_states(*shape) == (tuple(energies.int().tolist()), tuple(counts.tolist()))


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (16, 16), (10, 15)])
def test_beale_is_kaufman(shape):
    n_sites = math.prod(shape)
    energies, counts = exact.beale_density_of_states(*shape)
    assert sum(counts) == 2**n_sites
    assert counts[0] == 2
    assert counts[1] == 2 * n_sites
    for beta in (0.1, 1 / T_C, 1.0):
        levels, p = exact.energy_distribution(*shape, beta)
        assert exact.beale_log_z(*shape, beta) == pytest.approx(exact.kaufman_log_z(*shape, beta), rel=1e-13)
        assert levels @ p / n_sites == pytest.approx(exact.kaufman_energy(*shape, beta), abs=1e-12)
    if not any(side % 2 for side in shape):
        assert counts == counts[::-1]
        assert energies == tuple(-e for e in energies[::-1])


def test_beale_of_the_frustrated_torus():
    model = Ising(lattices.rectangular(3, 5), J=-1.0)
    assert exact.beale_log_z(3, 5, 0.8, J=-1.0) == pytest.approx(exact.log_partition(model, 0.8), rel=1e-13)


def test_beale_agrees_with_the_published_table():
    """The first counts of the 32 x 32 torus, Beale (1996)."""
    _, counts = exact.beale_density_of_states(32, 32)
    assert counts[:6] == (2, 2048, 4096, 1057792, 4218880, 371621888)
    assert sum(counts) == 2**1024


# magnetisation of strips


@pytest.mark.parametrize(
    ("shape", "pbc"),
    [
        ((4, 4), True),
        ((5, 4), (False, True)),
        ((4, 4), (True, False)),
        ((3, 5), False),
        ((1, 9), (False, True)),
    ],
)
@pytest.mark.parametrize(("J", "h"), [(1.0, 0.0), (-1.0, 0.3), (0.7, -2.0)])
def test_strips_are_the_enumeration(shape, pbc, J, h):
    model, beta = Ising(lattices.rectangular(*shape, pbc=pbc), J, h), 0.44
    states = exact.states(model.lattice.n_sites)
    M, p = exact.strip_magnetisation(*shape, beta, J, h, pbc=pbc)
    index = ((states.sum(-1) + model.lattice.n_sites) / 2).long()
    expected = torch.zeros(len(M)).double().index_add_(0, index, exact.boltzmann(model, beta))
    np.testing.assert_allclose(p, expected.numpy(), rtol=1e-10, atol=0)
    log_z = exact.strip_log_z(*shape, beta, J, h, pbc=pbc)
    assert log_z == pytest.approx(exact.log_partition(model, beta), rel=1e-13)


@pytest.mark.parametrize("shape", [(8, 8), (6, 9)])
@pytest.mark.parametrize("beta", [0.01, 1 / T_C, 5.0])
def test_strips_are_kaufman(shape, beta):
    assert exact.strip_log_z(*shape, beta) == pytest.approx(exact.kaufman_log_z(*shape, beta), rel=1e-13)


@pytest.mark.slow
def test_the_widest_strips():
    assert exact.strip_log_z(12, 12, 1 / T_C) == pytest.approx(
        exact.kaufman_log_z(12, 12, 1 / T_C), rel=1e-13
    )


# the infinite lattice


def test_the_critical_point_of_the_square_lattice():
    """Energy -sqrt(2), free energy by Catalan's constant, no magnetisation; near it the two forms agree."""
    beta, catalan = 1 / T_C, 0.915965594177219
    assert exact.onsager_energy(beta) == pytest.approx(-math.sqrt(2), abs=1e-10)
    assert exact.onsager_log_z(beta) == pytest.approx(math.log(2) / 2 + 2 * catalan / math.pi, abs=1e-11)
    assert math.sinh(2 * beta) == pytest.approx(1.0, rel=1e-15)
    assert exact.yang_magnetisation(beta * (1 - 1e-9)) == 0.0
    assert 0 < exact.yang_magnetisation(beta * (1 + 1e-9)) < 0.1
    almost_equal = 1 + 1e-14  # unequal couplings take the integral, equal ones the elliptic functions
    for near in (0.01, 0.43, 0.45, 3.0):
        assert exact.onsager_energy(near, 1.0, almost_equal) == pytest.approx(
            exact.onsager_energy(near), abs=1e-9
        )
        integral = exact.onsager_specific_heat(near, 1.0, almost_equal)
        assert integral == pytest.approx(exact.onsager_specific_heat(near), abs=1e-7)


def test_unequal_couplings_of_the_infinite_lattice():
    for beta in (0.2, 0.6):
        expected = exact.kaufman_energy(600, 600, beta, 0.5, 1.5)
        assert exact.onsager_energy(beta, 0.5, 1.5) == pytest.approx(expected, abs=1e-9)
        assert exact.onsager_energy(beta, 1.5, 0.5) == pytest.approx(expected, abs=1e-9)
        expected = exact.kaufman_specific_heat(600, 600, beta, 0.5, 1.5)
        assert exact.onsager_specific_heat(beta, 0.5, -1.5) == pytest.approx(expected, abs=1e-7)


def test_the_spontaneous_magnetisation_is_the_one_of_a_torus():
    """At low temperature 8 x 8 differs from the infinite lattice by a sign flip only."""
    M, p = exact.strip_magnetisation(8, 8, 1.0)
    assert np.abs(M) @ p / 64 == pytest.approx(exact.yang_magnetisation(1.0), abs=1e-5)
    M, p = exact.strip_magnetisation(8, 8, 2.0)
    assert np.abs(M) @ p / 64 == pytest.approx(exact.yang_magnetisation(2.0), abs=1e-10)


def test_the_spontaneous_magnetisation_of_unequal_couplings():
    """Chang's formula as printed, for either axis; zero on the other side of its critical line."""
    expected = (1 - (np.sinh(2 * 0.9) * np.sinh(2 * 0.45)) ** -2) ** 0.125
    assert exact.yang_magnetisation(0.9, 1.0, 0.5) == pytest.approx(expected)
    assert exact.yang_magnetisation(0.9, 0.5, -1.0) == pytest.approx(expected)
    assert exact.yang_magnetisation(0.6, 1.0, 0.5) == 0  # where 1 alone would be ordered
    assert exact.yang_magnetisation(0.6) > 0.9


def test_critical_temperatures():
    expected = {
        "square": 2.269185314,
        "rectangular": 2.269185314,
        "triangular": 3.640956907,
        "honeycomb": 1.518651,
    }
    assert {name: exact.critical_temperature(name) for name in expected} == pytest.approx(expected, rel=1e-6)
    assert exact.critical_beta("cubic") == 0.22165463
    assert exact.critical_beta("chain") is None
    assert exact.critical_temperature("chain") is None
    # star-triangle and duality tie the two hexagonal lattices together
    K, K_dual = exact.critical_beta("honeycomb"), exact.critical_beta("triangular")
    assert math.sinh(2 * K) * math.sinh(2 * K_dual) == pytest.approx(1.0, rel=1e-14)

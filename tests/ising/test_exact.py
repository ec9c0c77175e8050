"""Exact values against one another: every number is reached by at least two independent routes.

Nothing here is random, so there is no false-alarm rate; tolerances are rounding errors. The negative controls
break a formula on purpose and see the same comparison fail.
"""

import csv
import hashlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ising import exact, lattices
from ising.exact import kaufman, reference
from ising.model import Ising
from ising.observables import REGISTRY
from tests.checks import counts_of

DATA = Path(__file__).parents[2] / "data"
T_C = exact.critical_temperature("square")
BETAS = [0.0, 0.01, 0.3, 1 / T_C, 0.6, 2.0]
SMALL = {
    "chain": (6,),
    "square": (3,),
    "rectangular": (3, 4),
    "triangular": (3,),
    "honeycomb": (4,),
    "cubic": (2,),
}


def small(name: str) -> lattices.Lattice:
    """A lattice of at most 16 sites; a periodic cube of side 2 would have double bonds."""
    return lattices.build(name, SMALL[name], pbc=name != "cubic")


def glass(lattice: lattices.Lattice, seed: int = 0) -> Ising:
    generator = torch.Generator().manual_seed(seed)
    J, h = (torch.randn(n, generator=generator).double() for n in (len(lattice.edges), lattice.n_sites))
    return Ising(lattice, J, h)


def derivative(f, beta: float, step: float = 1e-4) -> float:
    """Central difference of fourth order."""
    low, high = f(beta - step) - f(beta + step), f(beta - 2 * step) - f(beta + 2 * step)
    return (high - 8 * low) / (12 * step)


# enumeration


def test_states_are_numbered_in_binary():
    states = exact.states(5)
    assert counts_of(states).tolist() == [1.0] * 32
    assert counts_of(states[19:20]).argmax() == 19
    assert states[0].tolist() == [-1.0] * 5
    assert states.dtype == torch.float64


@pytest.mark.parametrize("name", sorted(SMALL))
def test_enumeration_is_the_plain_sum_over_states(name):
    model, beta = glass(small(name)), 0.7
    states = exact.states(model.lattice.n_sites)
    energy, m = model.energy(states), states.mean(-1)
    p = (-beta * energy).softmax(0)
    torch.testing.assert_close(exact.boltzmann(model, beta), p, rtol=1e-12, atol=0)
    assert exact.log_partition(model, beta) == pytest.approx(float((-beta * energy).logsumexp(0)), rel=1e-14)
    n_sites, mean = model.lattice.n_sites, lambda x: float(p @ x)
    plain = {
        "energy": mean(energy) / n_sites,
        "abs_m": mean(m.abs()),
        "specific_heat": beta**2 * (mean(energy**2) - mean(energy) ** 2) / n_sites,
        "chi": beta * n_sites * (mean(m**2) - mean(m.abs()) ** 2),
        "u4": 1 - mean(m**4) / (3 * mean(m**2) ** 2),
        "m": mean(m),
        "m2": mean(m**2),
    }
    assert exact.enumerate_observables(model, beta) == pytest.approx(plain, abs=1e-12)
    correlation = states.T @ (p.unsqueeze(-1) * states)
    torch.testing.assert_close(exact.correlation(model, beta), correlation, rtol=0, atol=1e-13)


def test_blocks_join_without_a_seam():
    """21 sites take two blocks, 14 low sites each: independent spins have known answers."""
    field = torch.linspace(-1, 1, 21).double()
    model = Ising(lattices.chain(21), J=0.0, h=field)
    assert exact.log_partition(model, 0.8) == pytest.approx(
        float((2 * (0.8 * field).cosh()).log().sum()), rel=1e-14
    )
    m = (0.8 * field).tanh()
    expected = torch.outer(m, m)
    expected.fill_diagonal_(1.0)
    torch.testing.assert_close(exact.correlation(model, 0.8), expected, rtol=0, atol=1e-12)
    assert exact.enumerate_observables(model, 0.8)["m2"] == pytest.approx(float(expected.mean()), rel=1e-11)


@pytest.mark.slow
def test_the_largest_enumeration():
    """27 sites: the smallest periodic cube, against its high-temperature series in tanh(beta)."""
    beta = 0.001
    series = 27 * math.log(2) + 81 * math.log(math.cosh(beta)) + 27 * math.tanh(beta) ** 3
    assert exact.log_partition(Ising(lattices.cubic(3)), beta) == pytest.approx(series, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: exact.states(21), "limited to 20 sites"),
        (lambda: exact.boltzmann(Ising(lattices.square(5)), 0.4), "limited to 24 sites"),
        (lambda: exact.log_partition(Ising(lattices.square(6)), 0.4), "use exact.kaufman_log_z"),
        (lambda: exact.log_partition(Ising(lattices.square(3)), -1.0), "beta must be"),
        (lambda: exact.kaufman_log_z(2, 4, 0.4), "at least 3 sites along x"),
        (lambda: exact.kaufman_log_z(4, 5, 0.4, J=-1.0), "frustrated, got 5 sites along y"),
        (lambda: exact.kaufman_log_z(4, 4, math.nan), "beta must be"),
        (lambda: exact.kaufman_energy(4, 4, 0.4, J=1.0, J_y=0.0), "not 0"),
        (lambda: exact.beale_density_of_states(2, 8), "at least 3"),
        (lambda: exact.strip_magnetisation(13, 13, 0.4), "1 to 12 sites"),
        (lambda: exact.strip_magnetisation(2, 5, 0.4), "distinct bonds"),
        (lambda: exact.chain_log_z(2, 0.4), "at least 3 sites"),
        (lambda: exact.chain_log_z(5, 0.4, J=torch.ones(4)), "J needs 5 values"),
        (lambda: exact.onsager_energy(0.4, J=math.inf), "finite"),
    ],
)
def test_impossible_arguments_are_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


# chains


@pytest.mark.parametrize(("n", "pbc"), [(3, True), (7, True), (8, True), (1, False), (2, False), (9, False)])
@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_a_chain_of_any_couplings(n, pbc, beta):
    lattice = lattices.chain(n, pbc=pbc)
    for model in (glass(lattice), Ising(lattice, h=0.3), Ising(lattice, J=-1.0)):
        arguments, expected = (n, beta, model.J, model.h), exact.enumerate_observables(model, beta)
        found = [
            f(*arguments, pbc=pbc) for f in (exact.chain_log_z, exact.chain_energy, exact.chain_magnetisation)
        ]
        assert found == pytest.approx(
            [exact.log_partition(model, beta), expected["energy"], expected["m"]], abs=1e-12
        )
        heat = exact.chain_specific_heat(*arguments, pbc=pbc)
        assert heat == pytest.approx(expected["specific_heat"], abs=1e-11)


def test_long_chains_follow_the_eigenvalues():
    """Uniform ring: Z = sum of the two eigenvalues to the power N."""
    n, beta, h = 100_000, 0.9, 0.2
    root = math.sqrt(math.sinh(beta * h) ** 2 + math.exp(-4 * beta))
    assert exact.chain_log_z(n, beta, 1.0, h) == pytest.approx(
        n * (beta + math.log(math.cosh(beta * h) + root)), rel=1e-12
    )


def test_a_frustrated_ring_keeps_its_degeneracy_at_low_temperature():
    """101 antiferromagnetic bonds, one of them broken: 202 ground states of energy -99."""
    assert exact.chain_log_z(101, 50.0, J=-1.0) - 50.0 * 99 == pytest.approx(math.log(202), abs=1e-11)


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


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (3, 5), (4, 3), (4, 5)])
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


# the choice among them


@pytest.mark.parametrize("name", sorted(SMALL))
def test_small_models_are_known_completely(name):
    model = glass(small(name))
    assert set(exact.known(model, 0.5)) == set(REGISTRY)
    assert exact.log_z(model, 0.5) == exact.log_partition(model, 0.5)


@pytest.mark.parametrize(
    "model",
    [
        Ising(lattices.rectangular(4, 6)),
        Ising(lattices.rectangular(3, 7), J=-1.0),
        Ising(lattices.rectangular(3, 7, pbc=(True, False)), h=0.3),
        Ising(lattices.square(5, pbc=False), J=torch.full((40,), 0.5)),
        Ising(lattices.chain(22), h=-0.2),
        Ising(lattices.chain(21, pbc=False), J=-1.0),
        glass(lattices.chain(22)),
    ],
    ids=lambda model: f"{model.lattice.name}{model.lattice.size}",
)
def test_the_chosen_routes_agree_with_enumeration(model):
    """Models of 21 to 25 sites: the other routes are taken, and enumeration can still check them."""
    beta = 0.4
    found, expected = exact.known(model, beta), exact.enumerate_observables(model, beta)
    assert found
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-11)
    assert exact.log_z(model, beta) == pytest.approx(exact.log_partition(model, beta), rel=1e-13)


def test_what_is_not_known_is_not_made_up():
    assert exact.known(Ising(lattices.cubic(4)), 0.22) == {}
    assert exact.log_z(Ising(lattices.cubic(4)), 0.22) is None
    assert exact.log_z(Ising(lattices.cubic(4)), 0.0) == pytest.approx(64 * math.log(2))
    assert exact.known(Ising(lattices.square(16), h=0.1), 0.44) == {}
    assert exact.log_z(Ising(lattices.square(16), h=0.1), 0.44) is None
    assert exact.known(glass(lattices.square(16)), 0.44) == {}
    assert exact.known(Ising(lattices.square(16), J=0.0), 0.44) == {}
    assert exact.known(Ising(lattices.square(16, pbc=(True, False))), 0.44) == {}
    assert set(exact.known(Ising(lattices.square(12)), 0.44)) == {"energy", "specific_heat"}
    assert set(exact.known(Ising(lattices.square(8)), 0.44)) == set(REGISTRY)


# data/reference


def rows(name: str) -> tuple[str, list[dict[str, str]]]:
    comment, *lines = (DATA / "reference" / name).read_text(encoding="utf-8").splitlines()
    return comment, list(csv.DictReader(lines))


def test_the_committed_tables_are_what_the_command_writes(tmp_path):
    reference.main([str(tmp_path)])
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in (DATA / "reference").iterdir()}
    for path in tmp_path.iterdir():
        comment, committed = rows(path.name)
        assert comment.startswith("# ")
        written = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()[1:]))
        assert len(written) == len(committed)
        for new, old in zip(written, committed, strict=True):
            for column, text in old.items():
                if column in ("lattice", "source", "states"):
                    assert new[column] == text
                else:
                    assert float(new[column]) == pytest.approx(float(text), rel=1e-9, abs=1e-12)


def test_the_readme_lists_the_tables_with_their_hashes():
    listed = re.findall(
        r"\| `(\w+\.csv)` \|.*\| (\d+) \| `([0-9a-f]{64})` \|", (DATA / "README.md").read_text()
    )
    files = sorted((DATA / "reference").iterdir())
    facts = [(p.name, str(p.stat().st_size), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]
    assert sorted(listed) == facts

"""Enumeration, chains, the choice among exact routes, and the committed tables of reference values.

Every number is reached by at least two independent routes. Nothing here is random but fixed couplings,
so there is no false-alarm rate; tolerances are rounding errors.
"""

import csv
import hashlib
import math
import re
from pathlib import Path

import pytest
import torch

from ising import exact, lattices
from ising.exact import reference
from ising.model import Ising
from ising.observables import REGISTRY
from tests.checks import counts_of

DATA = Path(__file__).parents[2] / "data"
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
@torch.no_grad()  # as results are worked out by whoever trains nets
def test_a_chain_of_any_couplings(n, pbc, beta):
    """The derivatives of ln Z are found by differentiation, whatever the caller has turned off."""
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
        Ising(lattices.rectangular(6, 4, pbc=False), J=torch.full((38,), 0.5)),
        Ising(lattices.chain(22), h=-0.2),
        Ising(lattices.chain(21, pbc=False), J=-1.0),
        glass(lattices.chain(22)),
    ],
    ids=lambda model: f"{model.lattice.name}{model.lattice.size}",
)
def test_the_chosen_routes_agree_with_enumeration(model):
    """Models of 21 to 24 sites: the other routes are taken, and enumeration can still check them."""
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

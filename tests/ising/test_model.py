"""The Hamiltonian against plain sums over bonds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ising import exact, lattices
from ising.model import Ising, check_beta, restore
from tests.ising import laws


def glass(lattice):
    generator = torch.Generator().manual_seed(3)
    J, h = (torch.randn(n, generator=generator) for n in (len(lattice.edges), lattice.n_sites))
    return Ising(lattice, J=J, h=h)


MODELS = {name: Ising(lattice, J=-0.7, h=0.2) for name, lattice in laws.SMALL.items()}
MODELS |= {f"{name} glass": glass(lattice) for name, lattice in laws.SMALL.items()}


@pytest.mark.parametrize("name", MODELS)
def test_the_energy_is_the_sum_over_bonds_and_sites(name):
    model = MODELS[name]
    spins = 2 * torch.randint(0, 2, (5, model.lattice.n_sites)) - 1
    J, h = model.bond_couplings.tolist(), model.site_fields.tolist()
    for s, energy in zip(spins.tolist(), model.energy(spins).tolist(), strict=True):
        bonds = sum(Jij * s[i] * s[j] for Jij, (i, j) in zip(J, model.lattice.edges.tolist(), strict=True))
        assert energy == pytest.approx(-bonds - sum(a * b for a, b in zip(h, s, strict=True)))


@pytest.mark.parametrize("name", MODELS)
def test_a_flip_costs_twice_the_local_field(name):
    model = MODELS[name]
    spins = 2.0 * torch.randint(0, 2, (20, model.lattice.n_sites)) - 1
    for site in range(model.lattice.n_sites):
        flipped = spins.clone()
        flipped[:, site] *= -1
        cost = 2 * spins[:, site] * model.local_field(spins)[:, site]
        torch.testing.assert_close(model.energy(flipped) - model.energy(spins), cost)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.bfloat16, torch.float16, torch.float32, torch.float64]
)
def test_energies_are_float64_and_exact_for_any_dtype(dtype):
    """900 spins are too many for sums in int8, and 1800 bonds minus one for those in bfloat16."""
    spins = torch.ones(2, 3, 900, dtype=dtype)
    energy = Ising(lattices.square(30)).energy(spins)
    assert energy.dtype == torch.float64
    assert energy.tolist() == [[-1800.0] * 3] * 2
    assert Ising(lattices.chain(901, pbc=False)).energy(torch.ones(901, dtype=dtype)) == -900
    assert Ising(lattices.chain(2051)).energy(torch.ones(2051, dtype=dtype)) == -2051


@pytest.mark.parametrize(
    "kind", [np.array, np.float32, list, tuple], ids=["float64", "float32", "list", "tuple"]
)
def test_couplings_may_be_arrays_and_lists(kind):
    lattice, values = lattices.square(3), [k / 8 for k in range(18)]
    model, same = Ising(lattice, J=kind(values), h=kind(values[:9])), Ising(lattice, torch.tensor(values))
    assert model.J.dtype == model.h.dtype == torch.float64
    assert torch.equal(model.J, same.J)
    spins = 2 * torch.randint(0, 2, (5, 9)) - 1
    fields = spins.double() @ torch.tensor(values[:9], dtype=torch.float64)
    torch.testing.assert_close(model.energy(spins), same.energy(spins) - fields)
    assert restore(**model.describe()).describe() == model.describe()
    assert Ising(lattice, J=np.float32(0.5)).describe() == Ising(lattice, J=0.5).describe()
    with pytest.raises(ValueError, match=r"J needs one value per bond, \(18,\), got \(17,\)"):
        Ising(lattice, J=kind(values[:-1]))


def test_a_lattice_edited_by_hand_cannot_be_described():
    torus = lattices.square(4)
    assert Ising(torus).describe()["lattice"] == "square"
    changes = (
        {"edges": torus.edges[1:]},
        {"edges": torus.edges.flip(0)},
        {"pbc": (True, False)},
        {"name": ""},
    )
    for change in changes:
        with pytest.raises(ValueError, match="cannot be written down by name; register a builder"):
            Ising(replace(torus, **change)).describe()


@pytest.mark.parametrize("name", MODELS)
def test_describe_and_restore(name):
    model = MODELS[name]
    again = restore(**model.describe())
    spins = exact.states(4).repeat(1, 4)[:, : model.lattice.n_sites]
    torch.testing.assert_close(again.energy(spins), model.energy(spins), atol=0, rtol=0)
    assert again.lattice.pbc == model.lattice.pbc


def test_wrong_arguments_are_refused_in_one_sentence():
    lattice = lattices.square(3)
    with pytest.raises(ValueError, match=r"J needs one value per bond, \(18,\), got \(4,\)"):
        Ising(lattice, J=torch.ones(4))
    with pytest.raises(ValueError, match=r"h needs one value per site, \(9,\), got \(18,\)"):
        Ising(lattice, h=torch.ones(18))
    with pytest.raises(ValueError, match="J must be finite, got nan"):
        Ising(lattice, J=math.nan)
    with pytest.raises(ValueError, match=r"must hold the 9 sites, got shape \(2, 8\)"):
        Ising(lattice).energy(torch.ones(2, 8))
    for beta in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="beta must be a finite number >= 0"):
            check_beta(beta)

"""Kawasaki exchange within one sector of M, against enumeration; planted bugs.

The contract of all updates is in test_updates.py. False alarms: 1e-5 for each of 25 p-values, fixed seeds.
"""

import pytest
import torch

from ising import exact, lattices, simulate
from ising.model import Ising
from ising.updates import kawasaki
from tests.checks import FALSE_ALARM, goodness_of_fit
from tests.ising import laws

FORMS = ("readable", "compiled")
GLASS = torch.Generator().manual_seed(3)
RANDOM_BONDS = Ising(
    lattices.triangular(3), J=torch.randn(27, generator=GLASS), h=torch.randn(9, generator=GLASS)
)
MODELS = {
    "square": Ising(lattices.square(3), h=5.0),
    "chain": Ising(lattices.chain(8)),
    "glass": RANDOM_BONDS,
}


def block(n_sites: int, up: int, chains: int = laws.DRAWS) -> torch.Tensor:
    """All up spins first: one state, in every chain."""
    return (2 * (torch.arange(n_sites) < up) - 1).to(torch.int8).repeat(chains, 1)


def sector_p_value(moved: torch.Tensor, model: Ising, beta: float) -> float:
    """p-value of p(s | M), with the one M that all chains have."""
    [M] = moved.sum(-1).unique()
    inside = exact.states(model.lattice.n_sites).sum(-1) == M
    return goodness_of_fit(moved, exact.boltzmann(model, beta) * inside)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("up", [2, 4])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", FORMS)
def test_a_sector_converges_to_its_conditional_law(form, name, up, beta):
    model = MODELS[name]
    start = block(model.lattice.n_sites, up)
    moved = laws.swept(form, "kawasaki", model, beta, start, 24)
    assert (moved.sum(-1) == start.sum(-1)).all()
    assert sector_p_value(moved, model, beta) > FALSE_ALARM


@pytest.mark.parametrize("form", FORMS)
def test_the_check_has_power(form):
    """Sixteen percent in temperature, and a single sweep, are told from the law."""
    model = MODELS["square"]
    for beta, sweeps in ((0.35, 24), (0.3, 1)):
        moved = laws.swept(form, "kawasaki", model, beta, block(9, 4), sweeps)
        assert sector_p_value(moved, model, 0.3) < FALSE_ALARM


@pytest.mark.parametrize("form", FORMS)
def test_a_bond_that_is_counted_as_broken_by_its_own_exchange(form):
    model, wrong = Ising(lattices.square(3)), Ising(lattices.square(3))
    assert wrong.neighbour_couplings.any()  # kept by the model before the bug is planted
    wrong.__dict__["bond_couplings"] = torch.zeros(18, dtype=torch.float64)
    moved = laws.swept(form, "kawasaki", wrong, 0.3, block(9, 4), 24)
    assert sector_p_value(moved, model, 0.3) < FALSE_ALARM


def test_neighbouring_bonds_exchanged_at_the_same_time(monkeypatch):
    """Disjoint bonds are not enough: a pair must not see its neighbours move."""
    model = Ising(lattices.square(4))
    assert laws.invariance("readable", "kawasaki", model) > FALSE_ALARM
    columns, rows = torch.arange(16) % 2, torch.arange(16) // 4 % 2
    parity = torch.cat([columns, 2 + rows])
    disjoint = tuple((parity == c).nonzero().squeeze(-1) for c in range(4))
    assert all(len(model.lattice.edges[bonds].unique()) == 16 for bonds in disjoint)
    monkeypatch.setattr(kawasaki, "bond_classes", lambda _: disjoint)
    assert laws.invariance("readable", "kawasaki", model) < FALSE_ALARM


@pytest.mark.parametrize("name", laws.SMALL)
def test_bonds_of_a_class_neither_touch_nor_neighbour_each_other(name):
    lattice = laws.SMALL[name]
    classes = kawasaki.bond_classes(lattice)
    assert torch.cat(classes).sort().values.tolist() == list(range(len(lattice.edges)))
    near = torch.eye(lattice.n_sites)
    i, j = lattice.edges.T
    near[i, j] = near[j, i] = 1
    for bonds in classes:
        pairs = torch.zeros(len(bonds), lattice.n_sites).scatter_(1, lattice.edges[bonds], 1)
        meets = pairs @ near @ pairs.T
        assert not meets.fill_diagonal_(0).any()


@pytest.mark.parametrize("form", FORMS)
def test_like_spins_are_not_counted_as_exchanged(form):
    model, up = Ising(lattices.square(4)), torch.ones(50, 16, dtype=torch.int8)
    generator = torch.Generator().manual_seed(0)
    one_down = up.clone()
    one_down[:, 5] = -1
    for spins, most in ((up, 0.0), (one_down, 2 / 16)):
        if form == "readable":
            moved, info = kawasaki.sweep(spins, model, 0.0, generator)
            acceptance = float(info.acceptance.mean())
        else:
            sampler = laws.kernel("kawasaki", model, 0.0, spins.numpy())
            acceptance = sampler.sweep(1)
            moved = torch.from_numpy(sampler.spins())
        assert acceptance == pytest.approx(float((moved != spins).double().mean()))
        assert acceptance <= most
        assert (acceptance > 0) == (most > 0)


def test_a_simulation_keeps_every_magnetisation():
    model = Ising(lattices.square(8))
    options = {"beta": 0.6, "update": "kawasaki", "burn_in": 200, "thin": 20, "samples": 50, "seed": 1}
    run = simulate(model, chains=20, **options)
    assert (run.magnetisations == run.magnetisations[:, :1]).all()
    assert run.energies.mean() < -0.8 * 64  # and yet it orders: infinite temperature has 0

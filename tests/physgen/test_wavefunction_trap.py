"""Particles in a trap: derivatives against autograd, energies against quadrature and exact values."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from physgen import checkpoint
from physgen.train import fit, gradient_step
from physgen.wavefunctions import EnergyLoss, GaussianBinary, PadeJastrow, Product, Trap, Walkers, walkers
from physgen.wavefunctions.energy import FLOOR, moments, natural_direction
from physgen.wavefunctions.trap import two_particle_energy

FALSE_ALARM = 1e-4  # of one chi-squared test, at fixed seeds


def machine(particles=3, dimensions=2, **options):
    return GaussianBinary(particles, dimensions, 4, spread=0.7, width=0.8, seed=1, **options)


FUNCTIONS = {
    "free": machine(),
    "fixed width": machine(learn_width=False),
    "symmetric": machine(symmetric=True),
    "jastrow": PadeJastrow(3, 2, beta=0.7),
    "product": Product(machine(symmetric=True), PadeJastrow(3, 2)),
    "no hidden units": GaussianBinary(3, 2, 0),
}


def places(n=6, coordinates=6, seed=0):
    return torch.randn(n, coordinates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learned(psi):
    return [p for p in psi.parameters() if p.requires_grad]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_autograd(name):
    psi, x = FUNCTIONS[name], places().requires_grad_()
    log_psi = psi.log_psi(x)
    gradient = torch.autograd.grad(log_psi.sum(), x, create_graph=True)[0]
    second = [torch.autograd.grad(g.sum(), x, retain_graph=True)[0] for g in gradient.unbind(-1)]
    laplacian = torch.stack(second, 1).diagonal(dim1=1, dim2=2).sum(-1)
    torch.testing.assert_close(psi.derivatives(x), (gradient.detach(), laplacian), atol=1e-10, rtol=1e-10)
    by_parameter = [torch.autograd.grad(value, learned(psi), retain_graph=True) for value in log_psi]
    expected = torch.stack([torch.cat([g.flatten() for g in row]) for row in by_parameter])
    torch.testing.assert_close(psi.log_derivatives(x), expected, atol=1e-10, rtol=1e-10)


def test_the_local_energy_is_h_psi_over_psi():
    """By finite differences of psi itself, with all parts of the energy."""
    psi, x, step = FUNCTIONS["product"], places(4), 1e-3
    trap = Trap(3, 2, omega=0.6, repulsion=True)
    value = psi.log_psi(x).exp()
    moved = sum(psi.log_psi(x + s * step * e).exp() for e in torch.eye(6).double() for s in (1, -1))
    kinetic = -0.5 * (moved - 12 * value) / step**2 / value
    pairs = [
        (x[:, 2 * i : 2 * i + 2] - x[:, 2 * j : 2 * j + 2]).norm(dim=-1) for i in range(3) for j in range(i)
    ]
    potential = 0.18 * (x**2).sum(-1) + sum(1 / r for r in pairs)
    torch.testing.assert_close(
        trap.local_energy(psi, x), (kinetic + potential).detach(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("particles", "dimensions", "omega"), [(1, 1, 1.0), (2, 2, 0.3), (5, 3, 2.0)])
def test_the_exact_state_of_an_ideal_gas_has_no_variance(particles, dimensions, omega):
    psi = GaussianBinary(particles, dimensions, 3, width=omega**-0.5, spread=0.0)
    trap = Trap(particles, dimensions, omega)
    energy = trap.local_energy(psi, places(50, particles * dimensions))
    assert (energy - particles * dimensions * omega / 2).abs().max() < 1e-10
    assert trap.exact_energy == pytest.approx(particles * dimensions * omega / 2)


def test_training_finds_the_ideal_gas_from_a_random_start(monkeypatch):
    """The variance goes to zero; with a shift that does not follow it, the negative control, it lingers."""

    def trained():
        psi = GaussianBinary(2, 2, 2, width=1.3, spread=0.3, seed=2)
        loss = EnergyLoss(psi, Trap(2, 2, omega=0.7), longest=0.3)
        step = gradient_step(loss, torch.optim.SGD(psi.parameters(), lr=0.5 / 0.7))
        return fit(step, Walkers(psi, 4, 200, moves=3, seed=2), steps=60).metrics

    found = trained()
    assert found["variance"] < 1e-10
    assert abs(found["energy"] - 1.4) < 1e-6  # at that variance 200 walkers have an error of 7e-7
    monkeypatch.setattr(Trap, "unit", 1e-12)
    assert trained()["variance"] > 1e-9


def test_two_repelling_particles():
    assert two_particle_energy(2, 1.0) == pytest.approx(3, rel=1e-11)  # Taut (1993)
    assert two_particle_energy(3, 0.5) == pytest.approx(2, rel=1e-11)  # Taut (1993)
    assert two_particle_energy(3, 0.1) == pytest.approx(0.5, rel=1e-11)  # Taut (1993)
    assert two_particle_energy(2, 0.28) == pytest.approx(1.02164, abs=5e-6)  # Pedersen Lohne et al. (2011)
    stiff = two_particle_energy(2, 1e6)  # first order: 2 omega + sqrt(pi omega / 2)
    assert stiff == pytest.approx(2e6 + math.sqrt(math.pi / 2 * 1e6), rel=1e-6)


def test_exchange_symmetry():
    x = places(4)
    swapped = x.reshape(4, 3, 2)[:, [2, 0, 1]].flatten(1)
    for name, equal in {"symmetric": True, "jastrow": True, "product": True, "free": False}.items():
        psi = FUNCTIONS[name]
        same = (psi.log_psi(x) - psi.log_psi(swapped)).abs().max() < 1e-12
        assert bool(same) is equal, name


LINE = torch.linspace(-9, 9, 4001, dtype=torch.float64).unsqueeze(-1)


def law(psi):
    """Probabilities of the points of LINE: a quadrature, exact to rounding for functions that vanish."""
    return torch.softmax(2 * psi.log_psi(LINE).detach(), 0)


def two_humps():
    psi = GaussianBinary(1, 1, 2, width=0.8)
    with torch.no_grad():
        psi.W.copy_(torch.tensor([[1.4, -1.1]]))
        psi.b.copy_(torch.tensor([-1.0, -0.5]))
        psi.a.zero_()
    return psi


def test_gradient_and_metric_against_quadrature():
    """d/dtheta of <psi|H|psi>/<psi|psi>, differentiated by autograd, in one dimension."""
    psi, trap = two_humps(), Trap(1, 1, omega=0.9)
    found = moments(trap.local_energy(psi, LINE), psi.log_derivatives(LINE), law(psi))
    value = psi.log_psi(LINE).exp()
    slope = (value[2:] - value[:-2]) / (LINE[2:, 0] - LINE[:-2, 0])
    norm = value.square().sum()
    energy = 0.5 * slope.square().sum() / norm + 0.405 * (value * LINE[:, 0]).square().sum() / norm
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(energy, learned(psi))])
    assert found.energy.item() == pytest.approx(energy.item(), abs=1e-5)  # of the differences
    torch.testing.assert_close(2 * found.rows.T @ found.forces, exact, atol=2e-5, rtol=1e-4)


def test_clipping_leaves_the_energy_and_its_variance_alone():
    energies, O = torch.tensor([1.0, 2, 3, 100]).double(), torch.randn(4, 2).double()
    plain, clipped = (moments(energies, O, clip=clip) for clip in (None, 0.5))
    assert (clipped.energy, clipped.variance) == (plain.energy, plain.variance)
    assert clipped.forces.abs().max() < plain.forces.abs().max()


def test_the_natural_direction_solves_its_equation():
    psi, trap = two_humps(), Trap(1, 1)
    O, p = psi.log_derivatives(LINE), law(psi)
    found = moments(trap.local_energy(psi, LINE), O, p)
    S = torch.einsum("n,nk,nl->kl", p, O, O) - torch.outer(p @ O, p @ O)
    torch.testing.assert_close(found.rows.T @ found.rows, S, atol=1e-10, rtol=1e-10)
    half, noise = found.rows.T @ found.forces, float(found.variance) ** 0.5
    for unit, share in ((1.0, noise), (noise / 2, 1.0), (noise * 4, 0.25)):
        shift = 1e-2 * share
        scale = S.diagonal() + shift * S.diagonal().mean() + share * FLOOR
        expected = torch.linalg.solve(S + shift * torch.diag(scale), half)
        direction = natural_direction(found, 1e-2, unit=unit)
        torch.testing.assert_close(direction, expected, atol=1e-9, rtol=1e-9)
    short = natural_direction(found, 1e-2, longest=1e-3)
    assert (short @ S @ short).sqrt().item() == pytest.approx(1e-3)


def without_hastings(psi, at, step, generator):
    new, _ = walkers.langevin(psi, at, step, generator)
    return new, 2 * (new.log_psi - at.log_psi)


def p_value_after_moves(move, monkeypatch, bins=24):
    """Walkers start exactly from psi squared and move three times: chi-squared of where they are then."""
    psi = two_humps()
    monkeypatch.setitem(walkers.MOVES, "langevin", move)
    n, probability = 40_000, law(psi)
    w = Walkers(psi, 1, n, moves=3, burn_in=0, seed=3)
    start = torch.multinomial(probability, n, replacement=True, generator=torch.Generator().manual_seed(5))
    w.x, w.step, w.adapting = (
        LINE[start] + 0.0045 * (2 * torch.rand(n, 1, dtype=torch.float64) - 1),
        1.0,
        False,
    )
    cumulative = probability.cumsum(0)
    edges = [LINE[(cumulative < k / bins).sum()].item() + 0.00225 for k in range(1, bins)]
    inside = np.diff([0, *(float(probability[LINE[:, 0] < e].sum()) for e in edges), 1])
    counts = np.bincount(np.digitize(next(w)[:, 0], edges), minlength=bins)
    assert 0.3 < w.acceptance < 0.95
    return chisquare(counts, n * inside).pvalue


@pytest.mark.parametrize("move", [walkers.langevin, walkers.metropolis])
def test_moves_leave_psi_squared_as_it_is(move, monkeypatch):
    torch.manual_seed(0)
    assert p_value_after_moves(move, monkeypatch) > FALSE_ALARM


def test_a_lost_hastings_factor_is_caught(monkeypatch):
    assert p_value_after_moves(without_hastings, monkeypatch) < FALSE_ALARM


def test_the_tamed_energy_has_the_same_mean_and_no_pole():
    """Difference of the two over independent walkers, |z| < 4.5 (7e-6); half of the correction fails."""
    psi, trap = GaussianBinary(2, 2, 3, spread=0.6, seed=4), Trap(2, 2, repulsion=True)
    w = Walkers(psi, 4, 4000, moves=5, burn_in=50, seed=4)
    next(w)
    w.adapting = False
    x = torch.cat([next(w).clone() for _ in range(5)])
    tamed, plain = trap.tamed(psi, x), trap.local_energy(psi, x)

    def z(difference):
        by_walker = difference.reshape(5, -1).mean(0)
        return abs(float(by_walker.mean() / by_walker.std() * math.sqrt(len(by_walker))))

    assert z(tamed - plain) < 4.5
    r = (x[:, :2] - x[:, 2:]).norm(dim=-1)
    bend = (1 / r - 1) * torch.exp(-r)
    assert z(tamed - plain + bend) > 20
    close = torch.tensor([[0.3, 0.2, 0.3 + 1e-6, 0.2]], dtype=torch.float64)
    assert trap.local_energy(psi, close).abs() > 1e5
    assert trap.tamed(psi, close).abs() < 20


def test_a_jastrow_factor_reaches_the_exact_dot():
    """Two electrons, omega = 1: 3 within 0.3 % after 50 steps, and not below it (4.5 sigma)."""
    psi = Product(GaussianBinary(2, 2, 1, spread=0.1), PadeJastrow(2, 2))
    trap, w = Trap(2, 2, repulsion=True), Walkers(psi, 4, 300, moves=3, burn_in=50)
    step = gradient_step(EnergyLoss(psi, trap, longest=0.2), torch.optim.SGD(psi.parameters(), lr=0.3))
    fit(step, w, steps=50)
    w.adapting = False
    energy = torch.stack([trap.local_energy(psi, next(w)) for _ in range(20)]).mean(0)
    assert energy.mean().item() == pytest.approx(3, abs=9e-3)
    assert energy.mean() > 3 - 4.5 * energy.std() / math.sqrt(300)


def test_resumed_training_gives_the_same_bits(tmp_path):
    def fresh():
        psi = Product(GaussianBinary(2, 2, 2, seed=1), PadeJastrow(2, 2))
        loss = EnergyLoss(psi, Trap(2, 2, repulsion=True))
        return psi, gradient_step(loss, torch.optim.Adam(psi.parameters())), Walkers(psi, 4, 50, seed=1)

    psi, step, w = fresh()
    fit(step, w, steps=5)
    checkpoint.save(tmp_path, psi, step, w, at=5)
    fit(step, w, steps=10, start=5)
    again = fresh()
    assert checkpoint.restore(tmp_path, *again) == 5
    fit(again[1], again[2], steps=10, start=5)
    assert psi.state_dict().keys() == again[0].state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(psi.parameters(), again[0].parameters(), strict=True))
    assert torch.equal(w.x, again[2].x)


def test_a_diverged_energy_is_refused():
    psi = GaussianBinary(2, 2, 1)
    with torch.no_grad():
        psi.W[0] = torch.nan
    step = gradient_step(EnergyLoss(psi, Trap(2, 2)), torch.optim.SGD(psi.parameters(), lr=0.1))
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        step(places(10, 4))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Trap(0, 2), "particles >= 1"),
        (lambda: Trap(2, 2, omega=math.inf), "finite omega"),
        (lambda: Trap(2, 1, repulsion=True), "at least two dimensions"),
        (lambda: PadeJastrow(1, 2), "at least two particles"),
        (lambda: GaussianBinary(2, 2, -1), "hidden"),
        (lambda: GaussianBinary(6, 2, 1, symmetric=True), "at most 5 particles"),
        (lambda: Walkers(machine(), 6, move="gibbs"), "one of metropolis, langevin"),
        (lambda: Walkers(machine(), 6, 0), "at least one walker"),
        (lambda: Walkers(machine(), 6, 5).load_state_dict({"x": torch.zeros(4, 6)}), "saved walkers"),
        (lambda: EnergyLoss(machine(), Trap(3, 2), shift=0.0), "shift must be > 0"),
        (lambda: two_particle_energy(1, 1.0), "dimensions >= 2"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

"""The transverse-field chain: enumeration, diagonalisation and free fermions are exact."""

import functools
import math

import numpy as np
import pytest
import torch

from physgen import checkpoint
from physgen.train import fit, gradient_step
from physgen.wavefunctions import Chain, EnergyLoss, Enumeration, SpinMachine, SpinWalkers
from physgen.wavefunctions.chain import all_spins, correlation
from physgen.wavefunctions.energy import moments
from tests.checks import FALSE_ALARM, goodness_of_fit

KINDS = [{"tied": tied, "even": even} for tied in (True, False) for even in (True, False)]


def machine(sites=6, **options):
    return SpinMachine(sites, 2, spread=0.4, seed=3, **options)


def matrix(chain):
    """H as a dense matrix, from Kronecker products."""
    x, z, one = np.array([[0.0, 1], [1, 0]]), np.diag([-1.0, 1]), np.eye(2)

    def product(factors):
        return functools.reduce(np.kron, [factors.get(i, one) for i in range(chain.sites)])

    bonds = sum(product({i: z, (i + 1) % chain.sites: z}) for i in range(chain.sites))
    return torch.tensor(-chain.J * bonds - chain.h * sum(product({i: x}) for i in range(chain.sites)))


@pytest.mark.parametrize("h", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("sites", [3, 4, 7, 10])
def test_free_fermions_are_the_diagonalised_ground_state(sites, h):
    chain = Chain(sites, h=h, J=1.3)
    energy, amplitude = chain.ground_state()
    assert energy == pytest.approx(chain.exact_energy, rel=1e-11)
    assert (amplitude > 0).all()
    if sites < 8:
        dense = matrix(chain).numpy()
        assert np.linalg.eigvalsh(dense)[0] == pytest.approx(energy, rel=1e-11)
        np.testing.assert_allclose(dense @ amplitude, energy * amplitude, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_local_energies_gradients_and_metric_are_exact(kind):
    """Rows of H psi / psi; <psi|H|psi>/<psi|psi> differentiated by autograd; S from its definition."""
    psi, chain, s = machine(**kind), Chain(6, h=0.7, J=1.2), all_spins(6)
    learned = [p for p in psi.parameters() if p.requires_grad]
    value, H = psi.log_psi(s).exp(), matrix(chain)
    local = chain.local_energy(psi, s)
    torch.testing.assert_close(local, (H @ value / value).detach(), atol=1e-10, rtol=1e-10)
    exact_O = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(row, learned, retain_graph=True)])
            for row in value.log()
        ]
    )
    O, p = psi.log_derivatives(s), (value.square() / value.square().sum()).detach()
    torch.testing.assert_close(O, exact_O, atol=1e-10, rtol=1e-10)
    energy = value @ H @ value / (value @ value)
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(energy, learned)])
    found = moments(local, O, p)
    assert found.energy.item() == pytest.approx(energy.item(), abs=1e-10)
    torch.testing.assert_close(2 * found.rows.T @ found.forces, exact, atol=1e-10, rtol=1e-9)
    S = torch.einsum("n,nk,nl->kl", p, O, O) - torch.outer(p @ O, p @ O)
    torch.testing.assert_close(found.rows.T @ found.rows, S, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_symmetries(kind):
    psi, s = machine(**kind), all_spins(6)
    value = psi.log_psi(s)
    assert bool((psi.log_psi(s.roll(2, -1)) - value).abs().max() < 1e-12) is kind["tied"]
    assert bool((psi.log_psi(-s) - value).abs().max() < 1e-12) is kind["even"]


@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
def test_walkers_follow_psi_squared(kind):
    """Chi-squared over all 64 states, from random starts; the law of |psi| instead is caught."""
    psi = machine(**kind)
    s = next(SpinWalkers(psi, 20_000, sweeps=1, burn_in=12, seed=1))
    log_psi = psi.log_psi(all_spins(6)).detach()
    assert goodness_of_fit(s, (2 * log_psi).softmax(0)) > FALSE_ALARM
    assert goodness_of_fit(s, log_psi.softmax(0)) < FALSE_ALARM


def test_one_move_leaves_psi_squared_as_it_is():
    psi = machine(even=False)
    p = (2 * psi.log_psi(all_spins(6)).detach()).softmax(0)
    walkers = SpinWalkers(psi, 40_000, burn_in=0, seed=2)
    generator = torch.Generator().manual_seed(1)
    walkers.x = all_spins(6)[torch.multinomial(p, 40_000, replacement=True, generator=generator)]
    assert goodness_of_fit(next(walkers), p) > FALSE_ALARM


def test_both_signs_of_the_magnetisation_are_visited():
    """A strong coupling and a bias: single flips never cross, the flip of all spins does."""
    psi = SpinMachine(8, 1, even=False, spread=0.0)
    with torch.no_grad():
        psi.a.fill_(0.05)
        psi.W[:2] = 1.5
    walkers = SpinWalkers(psi, 2000, burn_in=30)
    walkers.x = torch.ones_like(walkers.x)
    for _ in range(3):
        s = next(walkers)
    p = (2 * psi.log_psi(all_spins(8)).detach()).softmax(0)
    exact = float(p @ (all_spins(8).sum(-1) > 0).double())
    found = float((s.sum(-1) > 0).double().mean())
    assert abs(found - exact) < 4.5 * math.sqrt(exact * (1 - exact) / 2000)  # 7e-6


@pytest.mark.parametrize("h", [0.5, 1.0, 1.5])
def test_enumerated_training_reaches_the_ground_state(h):
    psi, chain = SpinMachine(8, 2, seed=1), Chain(8, h=h)
    loss = EnergyLoss(psi, chain, enumerate=True, longest=0.3)
    step = gradient_step(loss, torch.optim.SGD(psi.parameters(), lr=0.2 / chain.unit))
    energy = fit(step, Enumeration(8), steps=120).metrics["energy"]
    assert chain.exact_energy - 1e-9 < energy < chain.exact_energy * (1 - 2e-3)


def test_training_on_walkers_reaches_the_ground_state():
    psi, chain = SpinMachine(8, 2, seed=1), Chain(8, h=1.0)
    walkers = SpinWalkers(psi, 300, sweeps=2)
    loss = EnergyLoss(psi, chain, longest=0.3)
    fit(gradient_step(loss, torch.optim.SGD(psi.parameters(), lr=0.1)), walkers, steps=100)
    s, p = all_spins(8), (2 * psi.log_psi(all_spins(8)).detach()).softmax(0)
    energy = float(p @ chain.local_energy(psi, s))
    assert 0 <= energy - chain.exact_energy < 1e-3 * abs(chain.exact_energy)
    overlap = float(p.sqrt() @ torch.tensor(chain.ground_state()[1]))
    assert overlap > 0.999


def test_correlations_of_the_ground_state():
    """One bond's energy from the derivative by J of the exact energy (Hellmann and Feynman)."""
    chain, step = Chain(8, h=0.9), 1e-5
    p = torch.tensor(chain.ground_state()[1] ** 2)
    bond = float(p @ correlation(all_spins(8))[:, 1])
    slope = (Chain(8, 0.9, 1 + step).exact_energy - Chain(8, 0.9, 1 - step).exact_energy) / (2 * step)
    assert bond == pytest.approx(-slope / 8, abs=1e-8)


def test_resumed_training_gives_the_same_bits(tmp_path):
    def fresh():
        psi = SpinMachine(6, 2, tied=False, seed=1)
        step = gradient_step(
            EnergyLoss(psi, Chain(6)),
            torch.optim.SGD([psi.W], lr=0.1),
            average_from=4,
            schedule=lambda i: 1 / (1 + i),
        )
        return psi, step, SpinWalkers(psi, 40, seed=1)

    psi, step, walkers = fresh()
    fit(step, walkers, steps=6)
    checkpoint.save(tmp_path, psi, step, walkers, at=6)
    fit(step, walkers, steps=12, start=6)
    again = fresh()
    assert checkpoint.restore(tmp_path, *again) == 6
    fit(again[1], again[2], steps=12, start=6)
    for s in (step, again[1]):
        s.finish()
    assert torch.equal(psi.W, again[0].W)
    assert torch.equal(walkers.x, again[2].x)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Chain(2), "at least 3 sites"),
        (lambda: Chain(4, h=0.0), "finite and > 0"),
        (lambda: Chain(21).ground_state(), "exact_energy has no limit"),
        (lambda: SpinMachine(4, 0), "one hidden unit"),
        (lambda: SpinWalkers(machine(), 0), "at least one walker"),
        (lambda: SpinWalkers(machine(), 5).load_state_dict({"x": torch.zeros(4, 6)}), "saved walkers"),
        (lambda: Enumeration(17), "at most 16 sites"),
        (lambda: Enumeration(3).load_state_dict({"x": 0}), "that of walkers"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

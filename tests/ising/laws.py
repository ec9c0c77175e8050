"""Small systems whose Boltzmann law is enumerated, and the checks that a sampler has to pass on them."""

import functools
import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from ising import exact, kernels, lattices, updates
from ising.model import Ising
from tests.checks import counts_of, goodness_of_fit

BETA = 0.4
DRAWS = 20_000


def smallest(name: str) -> lattices.Lattice:
    """The largest of the smallest: up to 16 sites, periodic if possible."""
    found = []
    for pbc, sides, L in itertools.product((True, False), (1, 2, 3), (9, 4, 3, 2)):
        try:
            lattice = lattices.build(name, (L, L + 1)[:sides] if sides == 2 else (L,) * sides, pbc)
        except ValueError:
            continue
        found += [lattice] if lattice.n_sites <= 16 else []
    return max(found, key=lambda lattice: (all(lattice.pbc), lattice.n_sites))


SMALL = {name: smallest(name) for name in sorted(lattices.REGISTRY)} | {
    "odd square": lattices.square(3),
    "cylinder": lattices.square(4, pbc=(True, False)),
    "open square": lattices.square(4, pbc=False),
}


SIGNS = [(1.0, 0.0), (-1.0, 0.3), (1.0, 0.3), (-1.0, 0.0)]
# Every lattice with every (J, h); the quick tests take one of these for each lattice, in turn.
HAMILTONIANS = [
    pytest.param(name, J, h, marks=() if k % len(SIGNS) == turn else pytest.mark.slow)
    for k, name in enumerate(SMALL)
    for turn, (J, h) in enumerate(SIGNS)
]
THROUGH_ALL_SECTORS = [name for name in updates.names() if not updates.conserves_magnetisation(name)]


@functools.lru_cache(maxsize=64)
def small(name: str, J: float, h: float) -> Ising:
    """One of the lattices of SMALL; the same object each time, so that what is known of it is kept."""
    return Ising(SMALL[name], J=J, h=h)


@functools.lru_cache(maxsize=64)
def boltzmann(model: Ising, beta: float) -> Tensor:
    return exact.boltzmann(model, beta)


def equilibrium(model: Ising, beta: float, draws: int = DRAWS, seed: int = 0) -> Tensor:
    """Independent exact draws, int8, ``(draws, N)``."""
    return _drawn(model, float(beta), draws, seed).clone()


@functools.lru_cache(maxsize=64)
def _drawn(model: Ising, beta: float, draws: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.multinomial(boltzmann(model, beta), draws, replacement=True, generator=generator)
    return exact.states(model.lattice.n_sites)[rows].to(torch.int8)


def p_value(spins: Tensor, model: Ising, beta: float) -> float:
    """The smaller p-value, doubled, of two chi-squared tests: over all states, and over pairs (E, M).

    The second joins the states that symmetry and the law do not tell apart, and so has more power; it is
    taken alone where no state is likely enough for the first.
    """
    law, level = boltzmann(model, beta), level_of_states(model)
    counts, expected = (
        torch.zeros(int(level.max()) + 1, dtype=torch.float64).index_add_(0, level, x)
        for x in (counts_of(spins), law * len(spins))
    )
    joined = _pearson(counts, expected)
    if float(law.max()) * len(spins) < 10:
        return joined
    return 2 * min(goodness_of_fit(spins, law), joined)


@functools.lru_cache(maxsize=64)
def level_of_states(model: Ising) -> Tensor:
    """For every state the number of its pair (E, M), E rounded; shape ``(2**N,)``."""
    states = exact.states(model.lattice.n_sites)
    energy = model.energy(states).round(decimals=6).unique(return_inverse=True)[1]
    sites = model.lattice.n_sites
    return (energy * (2 * sites + 1) + states.sum(-1).long() + sites).unique(return_inverse=True)[1]


def history(
    form: str, update: str, model: Ising, beta: float, spins: Tensor, marks: tuple[int, ...]
) -> Iterator[Tensor]:
    """The spins after so many sweeps.

    By the rule as written (``readable``), the kernel that ``simulate`` takes for so many chains
    (``compiled``), or that for a single one (``serial``).
    """
    rule, generator = updates.get(update), torch.Generator().manual_seed(1)
    alike = {"compiled": len(spins), "serial": 1}.get(form)
    sampler = kernel(update, model, beta, spins.numpy(), alike=alike) if alike else None
    for sweeps in np.diff((0, *marks)):
        if sampler:
            sampler.sweep(int(sweeps))
            yield torch.from_numpy(sampler.spins())
            continue
        for _ in range(sweeps):
            spins, _ = rule(spins, model, beta, generator)
        yield spins


def swept(form: str, update: str, model: Ising, beta: float, spins: Tensor, sweeps: int) -> Tensor:
    """The spins after some sweeps."""
    return next(history(form, update, model, beta, spins, (sweeps,)))


def kernel(
    update: str,
    model: Ising,
    beta: float | np.ndarray,
    spins: np.ndarray,
    threads: int = 1,
    alike: int | None = None,
) -> kernels.Sampler:
    """The sampler that is chosen for these chains, or for as many as ``alike``."""
    form = kernels.choose(update, model, "cpu", alike or len(spins))
    return form(model, update, beta, spins, np.random.SeedSequence(1), device="cpu", threads=threads)


def digest() -> str:
    """Of packed spins after five sweeps, to be compared between processors."""
    start = np.ones((70, 64), np.int8)
    sampler = kernels.Multispin(
        Ising(lattices.square(8)), "metropolis", 0.4, start, np.random.SeedSequence(1)
    )
    sampler.sweep(5)
    return hashlib.sha256(sampler.bits().tobytes()).hexdigest()


def invariance(form: str, update: str, model: Ising, beta: float = BETA) -> float:
    """p-value that exact draws still follow the Boltzmann law after one sweep, and after three."""
    moved = history(form, update, model, beta, equilibrium(model, beta), (1, 3))
    return 2 * min(p_value(spins, model, beta) for spins in moved)


def frozen_state(L: int) -> Tensor:
    """The state s_xy = a_x a_y, a = ++-- repeated: every local field of the square torus is zero."""
    a = torch.tensor([1, 1, -1, -1], dtype=torch.int8).repeat(L // 4)
    return torch.outer(a, a).flatten()


def _pearson(counts: Tensor, expected: Tensor) -> float:
    rare = expected < 10
    pooled = [torch.cat([x[rare].sum().unsqueeze(0), x[~rare]]) for x in (counts, expected)]
    if pooled[1][0] < 10:
        pooled = [torch.cat([x[1:-1], x[[0, -1]].sum().unsqueeze(0)]) for x in pooled]
    return float(chisquare(*(x.numpy() for x in pooled)).pvalue)

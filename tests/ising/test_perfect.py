"""Perfect samples follow the enumerated Boltzmann law, and what looks like perfect sampling does not.

False alarms: 1e-5 for each p-value, 7e-6 for each |z| < 4.5; about 50 of them on fixed seeds.
"""

import numpy as np
import pytest
import torch
from numba.core.serialize import dumps

from ising import exact, lattices, perfect, simulate, stats
from ising.kernels import coupling
from ising.kernels.coupled_sweep import sweeper
from ising.kernels.coupling import BOTTOM, CARRIED, TOP, Coupled
from ising.kernels.shishua import streams
from ising.kernels.tables import DIGITS
from ising.model import Ising
from ising.perfect import draws, meeting_times, sample
from tests.checks import FALSE_ALARM
from tests.ising import laws, plain_decisions
from tests.ising.plain_decisions import HALVES, LANES

BETA = 0.3
SQUARE = Ising(lattices.square(4))
TINY, TINY_BETA, MANY = Ising(lattices.chain(3, pbc=False), h=1.0), 0.6, 600_000
OPEN = Ising(lattices.square(4, pbc=False), J=0.8, h=-0.2)
QUICK = {
    "square": SQUARE,
    "square in a field": Ising(lattices.square(4), h=0.3),
    "odd square": Ising(lattices.square(3), h=-0.1),
    "open square": OPEN,
    "antiferromagnet": Ising(lattices.square(4), J=-1.0),
    "triangular": Ising(laws.SMALL["triangular"]),
    "no coupling": Ising(lattices.square(3), J=0.0, h=0.4),
}


def coupled(model: Ising, beta: float = BETA, chains: int = 512, seed: int = 1) -> Coupled:
    return Coupled(model, beta, chains, streams(np.random.SeedSequence(seed), 1)[0])


@pytest.fixture(scope="module")
def half_meet() -> int:
    """Sweeps after which half of the blocks of the square have met."""
    return int(np.median(meeting_times(coupled(SQUARE), 1000)))


def p_value(bits: np.ndarray, model: Ising, beta: float = BETA) -> float:
    spins = coupling.tiles.bits.unpack(np.ascontiguousarray(bits), model.lattice.n_sites)
    return laws.p_value(torch.from_numpy(spins), model, beta)


def agree(a, b) -> bool:
    return abs(a.z(b)) < 4.5


@pytest.mark.parametrize("name", QUICK)
def test_the_law_is_the_enumerated_one(name):
    model = QUICK[name]
    run = sample(model, BETA, laws.DRAWS, seed=1)
    assert p_value(run.bits[:, 0], model) > FALSE_ALARM
    spins = torch.from_numpy(run.spins)
    np.testing.assert_allclose(run.energies, model.energy(spins).numpy(), atol=1e-9)
    np.testing.assert_array_equal(run.magnetisations, spins.sum(-1).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("h", [0.0, 0.3, -1.0])
@pytest.mark.parametrize("name", laws.SMALL)
def test_the_law_on_every_lattice(name, h, beta):
    model = Ising(laws.SMALL[name], J=0.7, h=h)
    assert p_value(sample(model, beta, laws.DRAWS, seed=2).bits[:, 0], model, beta) > FALSE_ALARM


@pytest.mark.parametrize("factor", [0.7, 1, 3])
def test_the_law_does_not_depend_on_the_length_of_a_block(factor, half_meet):
    assert p_value(draws(coupled(SQUARE), laws.DRAWS, int(factor * half_meet))[0], SQUARE) > FALSE_ALARM


def test_chains_in_tiles():
    L, beta, n = 16, 0.25, 4096
    tiled = coupled(Ising(lattices.square(L)), beta, chains=16)
    assert len(tiled._tiles.sites) > 1
    _, energies, magnetisations = draws(tiled, n, 60)
    assert stats.mean(energies[:, None]).sigmas_from(L * L * exact.kaufman_energy(L, L, beta)) < 4.5
    assert stats.mean(magnetisations[:, None]).sigmas_from(0.0) < 4.5


@pytest.mark.parametrize(
    ("lattice", "cuts"), [(lattices.square(16), (1, 8)), (lattices.rectangular(32, 6), (8, 1))]
)
def test_tiles_are_joined_as_in_the_lattice(lattice, cuts):
    """Energies from rows and ghosts are those of the spins; chains have met where all their tiles have."""
    model = Ising(lattice, h=0.1)
    tiled, part_met = coupled(model, 0.25, chains=16), False
    assert tiled._tiles.cuts == cuts
    for _ in range(40):
        tiled.sweep(1)
        rows = [tiled.rows(which) for which in (TOP, BOTTOM)]
        top, bottom = (coupling.tiles.bits.unpack(tiled.bits(each), model.lattice.n_sites) for each in rows)
        energies, magnetisations = tiled.measure(rows[0])
        np.testing.assert_allclose(energies, model.energy(torch.from_numpy(top)).numpy(), rtol=1e-12)
        np.testing.assert_array_equal(magnetisations, top.sum(-1, dtype=float))
        np.testing.assert_array_equal(tiled.met(), (top == bottom).all(-1))
        part_met |= 0 < tiled.met().sum() < 16
    assert part_met


def test_the_check_has_power():
    """The right way passes on the small system, with the block and the draws of the wrong ones below."""
    assert p_value(draws(coupled(TINY, TINY_BETA), MANY, 2)[0], TINY, TINY_BETA) > FALSE_ALARM


def test_the_state_in_which_top_and_bottom_meet_is_biased():
    """Coupling forward in time and stopping at the meeting: the best known mistake."""
    found = []
    for seed in range(60):
        pair = coupled(TINY, TINY_BETA, seed=seed)
        bits, met = pair.bits(pair.rows()), np.zeros(512, dtype=bool)
        while not met.all():
            pair.sweep(1)
            new = pair.met() & ~met
            bits[new] = pair.bits(pair.rows(TOP))[new]
            met |= new
        found.append(bits)
    assert p_value(np.concatenate(found), TINY, TINY_BETA) < FALSE_ALARM


class FreshNumbers(Coupled):
    """Carries the chain by other random numbers than those of top and bottom."""

    def sweep(self, n: int) -> None:
        before = self._rows.copy()
        super().sweep(n)
        blocks = self._rows.copy()
        self._rows[:] = before
        super().sweep(n)
        met = np.bitwise_or.reduce(blocks[:-2, TOP] ^ blocks[:-2, BOTTOM])
        blocks[:, CARRIED] = (blocks[:, TOP] & ~met) | (self._rows[:, CARRIED] & met)
        self._rows[:] = blocks


def test_fresh_random_numbers_for_the_carried_chain_are_noticed():
    wrong = FreshNumbers(TINY, TINY_BETA, 512, streams(np.random.SeedSequence(1), 1)[0])
    assert p_value(draws(wrong, MANY, 2)[0], TINY, TINY_BETA) < FALSE_ALARM


def test_the_draws_that_end_first_are_biased():
    """Those whose next block already is one of the right kind, as an impatient caller would take them."""
    chains, found, last = coupled(TINY, TINY_BETA), [], np.zeros(512, dtype=bool)
    for _ in range(MANY // 512):
        before = chains.bits(chains.rows())
        chains.spread()
        chains.sweep(2)
        met = chains.met()
        found.append(before[met & last])
        last = met
    assert p_value(np.concatenate(found), TINY, TINY_BETA) < FALSE_ALARM


@pytest.mark.parametrize("model", [SQUARE, OPEN])
def test_top_carried_and_bottom_stay_in_order(model):
    chains = coupled(model)
    draws(chains, 512, 5)
    chains.spread()
    for _ in range(6):
        bottom, carried, top = (chains.rows(k)[: chains.n_sites] for k in (BOTTOM, CARRIED, TOP))
        assert not (bottom & ~carried).any()
        assert not (carried & ~top).any()
        assert (bottom != top).any()
        chains.sweep(1)
    assert (carried != top).any()
    assert (carried != bottom).any()


@pytest.mark.parametrize(("z", "h"), [(4, 0.0), (6, 0.0), (4, 0.3), (7, -0.5)])
def test_thresholds_are_exact(z, h):
    """The cells of the first digits and the comparison in those left over add up to the probability."""
    beta, symmetric, degrees = 0.37, h == 0, np.array([z])
    rows = coupling._thresholds(beta, 1.0, h, degrees, z, symmetric)[:, 0].reshape(-1, DIGITS) & np.uint64(1)
    first, spare = coupling.cells(len(rows), symmetric)
    whole = rows[:, :8] @ 2.0 ** -np.arange(1, 9)
    rest = rows[:, 8:] @ 2.0 ** -np.arange(1, DIGITS - 7)
    n = np.arange(len(rows))
    p = 1 / (1 + np.exp(-2 * beta * (2 * n - z + h)))
    np.testing.assert_allclose(whole + rest * 2.0 ** (spare - first), (1 + symmetric) * p, rtol=0, atol=3e-16)


@pytest.mark.parametrize("h", [0.0, 0.3])
def test_coupled_sweeps_are_those_of_a_plain_program(h):
    """Bit for bit: u is compared with every threshold, in cells of its first digits and beyond."""
    chains, n_sites = coupled(Ising(lattices.square(8), h=h)), 64
    halves = [plain_decisions.Generator(chains._rng[:, half]) for half in HALVES]
    symmetric = h == 0
    count = 2 if symmetric else 5
    first, spare = coupling.cells(count, symmetric)
    table = (chains._chances.reshape(count, DIGITS, 8)[..., 0] & np.uint64(1)).astype(bool)
    order, neighbours = chains._schedule[0] // 3, chains._schedule[1] // 3

    def number(digits):
        return 2 ** np.arange(first)[::-1] @ digits

    def settled(generator, open_, answers):
        """Compares new digits where open, and changes the answers ``(thresholds, 256)`` there."""
        open_ = np.tile(open_, (count, 1))
        for k in range(8, DIGITS, 8):
            for place, w in enumerate(generator.draw() + generator.draw() if open_.any() else []):
                d = table[:, k + place, None]
                answers[open_ & (w != d)] = np.broadcast_to(d, open_.shape)[open_ & (w != d)]
                open_ &= w == d

    def group(generator):
        below = np.zeros((16, count, 256), dtype=bool)
        sign, left = np.zeros((16, 256), dtype=bool), np.zeros((16, 256), dtype=bool)
        for g in range(16):
            w = generator.draw() + generator.draw()
            sign[g], u = w[0], np.array(w[1:] if symmetric else w[1:] + w[:1])
            left[g] = ~u[: first - spare].any(0)
            below[g] = number(u) >= 2**first - (table[:, :first] @ 2 ** np.arange(first)[::-1])[:, None]
        turn = np.where(left, left.cumsum(0), 0)
        for k in (1, 2):
            answers = np.zeros((count, 256), dtype=bool)
            settled(generator, (turn == k).any(0), answers)
            for g in range(16):
                below[g] |= answers & (turn[g] == k)
        for g in range(16):
            generator.settled += (turn[g] > 2).any()
            settled(generator, turn[g] > 2, below[g])
        if symmetric:
            low, high = sign[:, None] & below, sign[:, None] | ~below[:, ::-1]
            below = np.concatenate([low, sign[:, None], high], axis=1)
        return below

    for _ in range(4 if symmetric else 1):
        before = [plain_decisions.lanes(chains.rows(k)[:n_sites]) for k in range(3)]
        chains.sweep(1)
        for start in range(0, len(order), 16):
            for generator, lanes in zip(halves, LANES, strict=True):
                below = group(generator)
                for spins in before:
                    up = spins[neighbours[start : start + 16]][..., lanes].sum(1)
                    spins[order[start : start + 16], lanes] = np.take_along_axis(below, up[:, None], 1)[:, 0]
        for k in range(3):
            np.testing.assert_array_equal(plain_decisions.lanes(chains.rows(k)[:n_sites]), before[k])
    assert min(generator.settled for generator in halves) > 3


@pytest.mark.parametrize(("L", "n"), [(16, 8192), (64, 512)])
def test_the_energy_of_larger_lattices(L, n):
    run = sample(Ising(lattices.square(L)), 1 / 3, n, seed=1)
    assert run.energy.sigmas_from(exact.kaufman_energy(L, L, 1 / 3)) < 4.5
    assert run.specific_heat.sigmas_from(exact.kaufman_specific_heat(L, L, 1 / 3)) < 4.5
    assert run.m.sigmas_from(0.0) < 4.5


def test_the_magnetisation_is_that_of_wolff_clusters():
    model = Ising(lattices.square(16))
    wolff = simulate(model, beta=1 / 3, update="wolff", samples=200, chains=64, seed=1)
    assert agree(sample(model, 1 / 3, 8192, seed=1).abs_m, wolff.abs_m)


@pytest.mark.parametrize("update", ["wolff", pytest.param("metropolis", marks=pytest.mark.slow)])
def test_markov_chains_agree_with_perfect_samples(update):
    """On a lattice too large to enumerate and without an exact solution."""
    model = Ising(lattices.cubic(4))
    truth = sample(model, 0.2, 20_000, seed=1).observables()
    run = simulate(model, beta=0.2, update=update, samples=200, chains=512, seed=1)
    for name, estimate in run.observables().items():
        assert agree(estimate, truth[name]), name
    wrong = simulate(model, beta=0.202, update=update, samples=200, chains=512, seed=1)
    assert not agree(wrong.energy, truth["energy"])


def test_the_same_bytes_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(perfect, "PORTION", 1024)
    one, two = (sample(SQUARE, 0.3, 4000, seed=3, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.bits, two.bits)
    assert not np.array_equal(one.bits, sample(SQUARE, 0.3, 4000, seed=4).bits)
    assert not np.array_equal(one.bits[:1024], one.bits[1024:2048])


def test_few_samples_of_a_large_lattice():
    run = sample(Ising(lattices.square(128)), 0.2, 3, seed=1)
    assert run.bits.shape == (3, 1, 128 * 128 // 8)
    e, c = (f(128, 128, 0.2) for f in (exact.kaufman_energy, exact.kaufman_specific_heat))
    assert (np.abs(run.energies / 128**2 - e) < 4.5 * np.sqrt(c) / (0.2 * 128)).all()


def test_few_chains_of_which_one_meets_early_are_waited_for():
    """Of these four chains one has met long before the others, which then seemed never to."""
    assert sample(Ising(lattices.rectangular(4, 6), J=-1.0), 0.4, 3, seed=21).chains == 3


def test_meeting_times_grow_towards_the_critical_point():
    model = Ising(lattices.square(8))
    hot, warm = (np.median(meeting_times(coupled(model, beta), 10_000)) for beta in (0.2, 0.4))
    assert 3 < hot < warm / 3


@pytest.mark.parametrize(
    ("model", "beta", "message"),
    [
        (Ising(lattices.square(16)), 1.0, "have not met within 300 sweeps"),
        (Ising(lattices.square(4), J=torch.linspace(1, 2, 32)), 0.2, "the same J"),
        (Ising(lattices.square(4), h=torch.linspace(1, 2, 16)), 0.2, "the same h"),
        (Ising(lattices.square(4), J=-1.0, h=0.1), 0.2, "without a field on a bipartite lattice"),
        (Ising(lattices.triangular(3), J=-1.0), 0.2, "without a field on a bipartite lattice"),
    ],
)
def test_refusals(model, beta, message):
    with pytest.raises(ValueError, match=message):
        sample(model, beta, 100, max_sweeps=300)


def test_the_next_process_finds_the_compiled_sweep():
    """By the pickled variables of its closure: names, which stay the same and differ for each form."""
    forms = [(4, True), (4, False), (3, True)]
    keys = {dumps([cell.cell_contents for cell in sweeper(*form).py_func.__closure__]) for form in forms}
    assert len(keys) == len(forms)
    assert max(map(len, keys)) < 200

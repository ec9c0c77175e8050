"""Every update, as written and as compiled, leaves the enumerated Boltzmann law of every lattice invariant.

False alarms: 1e-5 for each p-value, about 250 of them, on fixed seeds: 1 in 400 new sets of seeds.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ising import kernels, lattices, stats, updates
from ising.kernels import chances, parallel_wolff, schedule, shishua, tables, tally, tiles
from ising.kernels.lanes import PARTS, aligned, load, lowest, part, store
from ising.kernels.shishua import draw as shishua_draw
from ising.kernels.shishua import keep, resume
from ising.kernels.xoshiro import bare, inline, jit, step, streams
from ising.model import Ising
from tests.checks import FALSE_ALARM
from tests.ising import laws, plain_decisions
from tests.ising.plain_decisions import HALVES, LANES

FORMS = ("readable", "compiled")
GLASS = torch.Generator().manual_seed(5)


def glass(lattice: lattices.Lattice) -> Ising:
    """Gaussian couplings and fields: frustration, and no two probabilities alike."""
    J, h = (torch.randn(n, generator=GLASS) for n in (len(lattice.edges), lattice.n_sites))
    return Ising(lattice, J=J, h=0.5 * h)


@pytest.mark.parametrize(("name", "J", "h"), laws.HAMILTONIANS)
@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize("form", FORMS)
def test_the_boltzmann_law_is_invariant(form, update, name, J, h):
    model = laws.small(name, J, h)
    assert laws.invariance(form, update, model) > FALSE_ALARM


@pytest.mark.parametrize(("name", "J", "h"), laws.HAMILTONIANS)
def test_the_boltzmann_law_is_invariant_for_one_cluster_after_another(name, J, h):
    """What a few chains take, here with many."""
    model = laws.small(name, J, h)
    assert laws.invariance("serial", "wolff", model) > FALSE_ALARM


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize("form", FORMS)
def test_the_boltzmann_law_of_a_glass_is_invariant(form, update):
    assert laws.invariance(form, update, glass(lattices.triangular(3))) > FALSE_ALARM


def test_mixed_signs_of_one_strength_are_bit_packed():
    lattice = lattices.triangular(4)
    J = torch.where(torch.rand(len(lattice.edges), generator=GLASS) < 0.5, -0.7, 0.7)
    model = Ising(lattice, J=J, h=-0.2)
    assert kernels.choose("metropolis", model, "cpu", 64) is kernels.Multispin
    assert laws.invariance("compiled", "metropolis", model) > FALSE_ALARM


@pytest.mark.parametrize("update", laws.THROUGH_ALL_SECTORS)
@pytest.mark.parametrize("form", FORMS)
def test_it_converges_from_a_start_far_away(form, update):
    """Invariance alone would pass an update that does nothing; for sectors of M see test_kawasaki.py."""
    model = Ising(lattices.square(3), h=0.1)
    start = torch.ones(laws.DRAWS, 9, dtype=torch.int8)
    assert laws.p_value(laws.swept(form, update, model, 0.3, start, 40), model, 0.3) > FALSE_ALARM


@pytest.mark.parametrize("h", [0.0, pytest.param(0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", laws.SMALL)
@pytest.mark.parametrize("update", ["metropolis", "heat_bath", "wolff", "few_clusters"])
def test_the_compiled_form_converges_on_every_lattice(update, name, h):
    """Spins that never move keep any law: from all up, every lattice comes to its own."""
    model = laws.small(name, 1.0, h)
    start = torch.ones(laws.DRAWS, model.lattice.n_sites, dtype=torch.int8)
    assert laws.p_value(laws.swept("compiled", update, model, 0.2, start, 60), model, 0.2) > FALSE_ALARM


@pytest.mark.parametrize("form", FORMS)
def test_the_check_has_power(form):
    """Draws at a temperature four percent away, moved by a correct update, are refused."""
    model = Ising(lattices.square(4))
    spins = laws.swept(
        form, "heat_bath", model, laws.BETA * 1.04, laws.equilibrium(model, laws.BETA * 1.04), 1
    )
    assert laws.p_value(spins, model, laws.BETA) < FALSE_ALARM


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_lazy_metropolis_leaves_the_frozen_state(form, beta):
    """Without laziness the state is only turned into its negative, sweep after sweep."""
    state = laws.frozen_state(8).repeat(64, 1)
    model = Ising(lattices.square(8))
    assert not model.local_field(state).any()
    moved = laws.swept(form, "metropolis", model, beta, state, 1)
    assert ((moved * state).sum(-1).abs() < 64).double().mean() > 0.9  # all 64 flip with probability 0.016


@pytest.mark.parametrize("update", updates.names())
def test_a_beta_per_chain(update):
    model = Ising(laws.SMALL["triangular"])
    spins = torch.cat([laws.equilibrium(model, beta) for beta in (0.1, 0.3)])
    per_chain = torch.tensor([0.1, 0.3]).repeat_interleave(laws.DRAWS)
    moved, info = updates.get(update)(spins, model, per_chain, torch.Generator().manual_seed(1))
    assert info.acceptance.shape == (2 * laws.DRAWS,)
    for half, beta in zip(moved.split(laws.DRAWS), (0.1, 0.3), strict=True):
        assert laws.p_value(half, model, beta) > FALSE_ALARM


def test_the_readable_and_the_compiled_form_move_alike():
    """Flipped fractions agree: the compiled form is the same Markov chain, not just the same law. |z| < 5."""
    model = Ising(lattices.square(4), h=0.1)
    spins = laws.equilibrium(model, laws.BETA)
    for update in updates.names():
        a, b = ((laws.swept(f, update, model, laws.BETA, spins, 1) != spins).double().mean(-1) for f in FORMS)
        assert abs(float((a - b).mean() / ((a.var() + b.var()) / laws.DRAWS).sqrt())) < 5


@pytest.mark.parametrize("dtype", [torch.int8, torch.float32, torch.float64])
@pytest.mark.parametrize("update", updates.names())
def test_spins_keep_dtype_and_shape_and_are_not_modified(update, dtype):
    model, spins = Ising(lattices.square(4)), torch.ones(5, 16, dtype=dtype)
    new, info = updates.get(update)(spins, model, 0.1, torch.Generator().manual_seed(0))
    assert (new.dtype, new.shape, info.acceptance.shape) == (dtype, (5, 16), (5,))
    assert (spins == 1).all()
    torch.testing.assert_close(info.acceptance, (new != spins).float().mean(-1))


def test_every_hamiltonian_finds_its_kernel():
    square, odd = lattices.square(4), glass(lattices.square(4))
    for update, model, device, chains, expected in [
        ("metropolis", Ising(square, J=-2.0, h=0.1), "cpu", 1, "multispin"),
        ("heat_bath", Ising(square), "cpu", 1, "multispin"),
        ("metropolis", odd, "cpu", 64, "torch"),
        ("wolff", Ising(square), "cpu", 64, "parallel wolff"),
        ("wolff", Ising(lattices.rectangular(3, 8)), "cpu", 32, "wolff by lines"),
        ("wolff", Ising(lattices.rectangular(3, 8)), "cpu", 31, "wolff"),
        ("wolff", Ising(lattices.rectangular(3, 8)), "cpu", 512, "parallel wolff"),
        ("few_clusters", Ising(lattices.square(64)), "cpu", 4, "wolff by lines"),
        ("wolff", Ising(lattices.square(16, pbc=False)), "cpu", 64, "parallel wolff"),
        ("wolff", Ising(square), "cpu", 1, "wolff"),
        ("few_clusters", Ising(square), "cpu", 64, "parallel wolff"),
        ("few_clusters", Ising(square, h=0.1), "cpu", 64, "torch"),
        ("wolff", odd, "cpu", 64, "wolff"),
        ("swendsen_wang", odd, "cpu", 64, "swendsen_wang"),
        ("kawasaki", odd, "cpu", 64, "kawasaki"),
        ("metropolis", Ising(lattices.triangular(4)), "cuda", 64, "torch"),
        ("wolff", Ising(square), "cuda", 64, "torch"),
    ]:
        assert kernels.choose(update, model, device, chains).name == expected


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize(
    "model", [Ising(lattices.square(4), h=0.1), glass(lattices.chain(7))], ids=["uniform", "glass"]
)
def test_a_kernel_measures_saves_and_restores(update, model):
    spins = laws.equilibrium(Ising(model.lattice), 0.2, draws=128).numpy()
    sampler = laws.kernel(update, model, 0.3, spins)
    np.testing.assert_array_equal(sampler.spins(), spins)
    energy, magnetisation = sampler.measure()
    np.testing.assert_allclose(energy, model.energy(torch.from_numpy(spins)).numpy(), rtol=1e-14)
    np.testing.assert_array_equal(magnetisation, spins.sum(-1, dtype=float))
    saved = sampler.state()
    sampler.sweep(5)
    after = sampler.spins()
    again = laws.kernel(update, model, 0.3, np.ones_like(spins))
    again.load(saved)
    again.sweep(5)
    np.testing.assert_array_equal(again.spins(), after)


@pytest.mark.parametrize(
    ("update", "chains"), [("metropolis", 2500), ("wolff", 1500), ("wolff", 20), ("kawasaki", 70)]
)
def test_threads_do_not_change_a_byte(update, chains):
    model = Ising(lattices.square(4))
    start = laws.equilibrium(model, 0.2, draws=chains).numpy()
    results = []
    for threads in (1, 2, 4):
        sampler = laws.kernel(update, model, 0.4, start, threads)
        sampler.sweep(7)
        results.append(sampler.spins())
    assert all((result == results[0]).all() for result in results)


def test_xoshiro_reproduces_the_published_algorithm():
    """Against a plain transcription with Python integers of the generator of Blackman and Vigna (2021)."""
    mask = 2**64 - 1

    def rotated(x: int, k: int) -> int:
        return (x << k | x >> 64 - k) & mask

    s = [1, 2, 3, 4]
    state = tuple(np.uint64(x) for x in s)

    @jit
    def advance(a, b, c, d):
        return step(a, b, c, d)

    for _ in range(1000):
        expected = (rotated((s[0] + s[3]) & mask, 23) + s[0]) & mask
        t = (s[1] << 17) & mask
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], 45)
        bits, *state = advance(*(np.uint64(x) for x in state))
        assert int(bits) == expected


def test_ten_thousand_streams_are_distinct():
    assert len(np.unique(streams(np.random.SeedSequence(0), 10_000).T, axis=0)) == 10_000


def test_rare_flips_keep_their_relative_precision():
    """The smallest acceptance of the square lattice at T = 0.35, 1e-10, is not rounded to zero."""
    law = kernels.multispin.Law("metropolis", 1.0, 0.0, np.array([4]))
    rows = law.tables(np.full((1, 1), 1 / 0.35)).reshape(tables.HEIGHT, law.cases, 8)[:, 0, 0] & np.uint64(1)
    digits = np.bitwise_xor.accumulate(rows)
    assert not digits[: tables.FIRST].any()
    p = (digits * 0.5 ** np.arange(1, 1 + tables.HEIGHT)).sum()
    assert p == pytest.approx(15 / 16 * np.exp(-8 / 0.35), rel=1e-8)


def test_an_unknown_update_is_named():
    with pytest.raises(
        ValueError, match=f"unknown update 'magic'; choose one of {', '.join(updates.names())}"
    ):
        updates.get("magic")


@pytest.mark.parametrize("update", ["metropolis", "heat_bath", "wolff"])
def test_neighbouring_lanes_may_differ_in_temperature(update):
    model, betas = Ising(lattices.square(4)), np.tile([0.2, 0.5], laws.DRAWS)
    spins = torch.stack([laws.equilibrium(model, b, seed=k) for k, b in enumerate(betas[:2])], 1).flatten(
        0, 1
    )
    sampler = laws.kernel(update, model, betas, spins.numpy())
    sampler.sweep(2)
    for k, beta in enumerate(betas[:2]):
        assert laws.p_value(torch.from_numpy(sampler.spins()[k::2]), model, beta) > FALSE_ALARM


@pytest.mark.parametrize(
    ("lattice", "chains", "cut"),
    [
        (lattices.square(8), 1, True),
        (lattices.square(16), 64, True),
        (lattices.rectangular(12, 8), 3, True),
        (lattices.rectangular(32, 6), 16, True),
        (lattices.honeycomb(8), 7, True),
        (lattices.cubic(4), 20, True),
        (lattices.chain(64), 5, True),
        (lattices.square(8, pbc=False), 5, False),
        (lattices.square(7), 5, False),
    ],
    ids=lambda x: x.name if isinstance(x, lattices.Lattice) else "",
)
def test_few_chains_are_cut_into_tiles_and_do_not_notice(lattice, chains, cut):
    """Energies after each sweep are those of the spins, and on the average those of the readable rule."""
    model = Ising(lattice, J=-1.0, h=0.2)
    start = np.ones((chains, lattice.n_sites), dtype=np.int8)
    sampler = kernels.Multispin(model, "metropolis", 0.3, start, np.random.SeedSequence(3))
    assert (max(sampler.layout.cuts) > 1) is cut
    for _ in range(3):
        flipped, before = sampler.sweep(1), start
        start = sampler.spins()
        assert flipped == pytest.approx((start != before).mean())
        energy, magnetisation = sampler.measure()
        np.testing.assert_allclose(energy, model.energy(torch.from_numpy(start)).numpy(), rtol=1e-12)
        np.testing.assert_array_equal(magnetisation, start.sum(-1, dtype=float))
    series = np.array([(sampler.sweep(2), sampler.measure()[0].mean())[1] for _ in range(800)])
    spins, rule = torch.ones(64, lattice.n_sites), updates.get("metropolis")
    generator, reference = torch.Generator().manual_seed(1), []
    for k in range(120):
        spins, _ = rule(spins, model, 0.3, generator)
        reference += [model.energy(spins).numpy()] if k >= 20 else []
    a, b = stats.mean(series[None, 20:]), stats.mean(np.array(reference).T)
    assert abs(a.mean - b.mean) < 5 * np.hypot(a.error, b.error)


def test_tiles_that_are_not_alike_are_not_cut():
    """In the signs of their bonds, or in their colours: a tile of three rows begins with the other one."""
    chequered, plain = Ising(lattices.rectangular(12, 8)), Ising(lattices.square(8))
    one_against = torch.ones(128)
    one_against[5] = -1
    assert tiles.best(plain, 1).cuts != (1, 1)
    assert tiles.best(Ising(plain.lattice, J=one_against), 1).cuts == (1, 1)
    assert tiles.cut(chequered, 1, (2, 1)) is not None
    assert tiles.cut(chequered, 1, (4, 1)) is None


def test_a_tile_that_sees_the_wrong_neighbour_is_noticed():
    """One rotation off, and the energies are no longer those of the spins: the check above has power."""
    model = Ising(lattices.square(16))
    sampler = kernels.Multispin(
        model, "metropolis", 0.4, np.ones((1, 256), np.int8), np.random.SeedSequence(3)
    )
    sampler.schedule[-2][:, 2] += 1
    sampler.sweep(20)
    assert sampler.measure()[0] != model.energy(torch.from_numpy(sampler.spins())).numpy()


def test_shishua_reproduces_the_published_numbers():
    """The author's test vector for the seed 0: the first bytes after its warm-up."""
    phi = (
        "9E3779B97F4A7C15 F39CC0605CEDC834 1082276BF3A27251 F86C6A11D0C18E95 2767F0B153D27B7F "
        "0347045B5BF1827F 01886F0928403002 C1D64BA40F335E36 F06AD7AE9717877E 85839D6EFFBD7DC6 "
        "64D325D1C5371682 CADD0CCCFDFFBBE1 626E33B8D04B4331 BBF73C790D94F79D 471C4AB3ED3D82A5 "
        "FEC507705E4AE6E5"
    )
    state, rows = aligned((shishua.ROWS, 8)), aligned((4, 8))
    state[:4] = np.tile(np.array([int(word, 16) for word in phi.split()], np.uint64).reshape(4, 4), 2)
    state[5] = [7, 5, 3, 1] * 2
    shishua.spread(state)
    assert (
        state[3, :4].tobytes().hex().startswith("955d96f90fb4aa53092d82e63a7c09e2")
    )  # the last of the warm-up
    shishua.fill(state, rows)
    for half in (rows[0, :4], rows[0, 4:]):
        assert half.tobytes().hex().startswith("0ea27a7fcb038c71e2c7057d8fef2494")


@pytest.mark.parametrize("which", [(), (0,), (0, 0), (0, 0, 0), (0, 0, 0, 0)], ids=len)
def test_decisions_have_the_probability_of_their_case(which):
    """Each lane of each row of 400 groups, |z| < 5 for every case; some groups take several turns."""
    rng, cases = np.random.default_rng(1), 2 ** len(which)
    p = rng.random(cases)
    planes = rng.integers(0, 2**64, (4, 16, 8), dtype=np.uint64)
    bits = [np.unpackbits(plane.view(np.uint8), bitorder="little").reshape(16, 512) for plane in planes]
    case = sum(bits[k].astype(np.int64) << k for k in range(len(which))) + np.zeros((16, 512), np.int64)
    yes = np.zeros((16, 512))
    state, scratch = shishua.streams(np.random.SeedSequence(5), 1)[0], aligned((chances.SCRATCH, 8))
    rows = tables.tables(p[:, None]).reshape(-1, 8)
    for _ in range(400):
        _decide(which, state, scratch, planes.reshape(-1, 8), rows)
        answers = scratch[chances.ANSWER : chances.ANSWER + 16].view(np.uint8)
        yes += np.unpackbits(answers, axis=1, bitorder="little")
    for k in range(cases):
        n = 400 * (case == k).sum()
        assert abs(yes[case == k].sum() - n * p[k]) < 5 * np.sqrt(n * p[k] * (1 - p[k]))


@pytest.mark.parametrize("which", [(0,), (0, 0, 0)], ids=len)
def test_decisions_are_those_of_a_plain_program(which):
    """Bit for bit, and so on every processor, whatever the width of its registers."""
    rng = np.random.default_rng(2)
    p = rng.random(2 ** len(which))
    planes = rng.integers(0, 2**64, (4, 16, 8), dtype=np.uint64)
    state, scratch = shishua.streams(np.random.SeedSequence(6), 1)[0], aligned((chances.SCRATCH, 8))
    halves = [plain_decisions.Generator(state[:, half]) for half in HALVES]
    rows = tables.tables(p[:, None]).reshape(-1, 8)
    case = sum(plain_decisions.lanes(plane).astype(int) << k for k, plane in enumerate(planes[: len(which)]))
    for _ in range(40):
        _decide(which, state, scratch, planes.reshape(-1, 8), rows)
        for h, generator in enumerate(halves):
            expected = plain_decisions.group(generator, p, case[:, LANES[h]])
            found = scratch[chances.ANSWER : chances.ANSWER + 16, HALVES[h]]
            np.testing.assert_array_equal(plain_decisions.lanes(found), expected)
            np.testing.assert_array_equal(generator.state[:5], state[:5, HALVES[h]])
    assert min(generator.settled for generator in halves) > 3


@pytest.mark.parametrize(("update", "h"), [("metropolis", 0.0), ("metropolis", 0.3), ("heat_bath", 0.3)])
def test_sweeps_are_those_of_a_plain_program(update, h):
    """Bit for bit, so that no two decisions share a random number: 1e-4 of them wait and are settled."""
    model, beta = Ising(lattices.square(8), h=h), 0.4
    spins = 2 * np.random.default_rng(3).integers(0, 2, (64, 512), dtype=np.int8) - 1
    sampler = kernels.Multispin(model, update, beta, spins.T, np.random.SeedSequence(8))
    halves = [plain_decisions.Generator(sampler.rng[0][:, half]) for half in HALVES]
    bonds, own = np.arange(5), np.array([[-1], [1]])
    cost = (2 * model.J * (4 - 2 * bonds) + 2 * h * own).ravel()  # by spin and unsatisfied bonds
    free = (cost <= 0) & (update == "metropolis")
    p = 1 / (1 + np.exp(beta * cost)) if update == "heat_bath" else 15 / 16 * np.exp(-beta * cost)
    p = np.where(free, 0.0, p)
    for _ in range(6):
        for sites in sampler.schedule[0].reshape(-1, 16):
            around = spins[model.lattice.neighbours[0].numpy()[sites]]
            case = 5 * (spins[sites] > 0) + (around != spins[sites, None]).sum(1)
            for generator, lanes in zip(halves, LANES, strict=True):
                flip = plain_decisions.group(generator, p, case[:, lanes], ~free[case[:, lanes]])
                spins[sites, lanes] *= np.where(flip, -1, 1).astype(np.int8)
        sampler.sweep(1)
        np.testing.assert_array_equal(sampler.spins(), spins.T)
        for generator, half in zip(halves, HALVES, strict=True):
            np.testing.assert_array_equal(generator.state[:5], sampler.rng[0][:5, half])
    assert sum(generator.settled for generator in halves) > 3


@pytest.mark.parametrize(("beta", "h"), [(0.4, 0.2), (2.0, -np.log1p(-1 / 384) / 4)])
def test_bonds_and_ties_of_parallel_wolff_are_those_of_a_plain_program(beta, h):
    """At random, and all up, where clusters are everything and a spin is tied with probability 1/384."""
    model = Ising(lattices.square(8), h=h)
    spins = 2 * np.random.default_rng(4).integers(0, 2, (64, 512), dtype=np.int8) - 1
    spins = spins if beta < 1 else np.ones_like(spins)
    ties = 0
    sampler = kernels.ParallelWolff(model, "wolff", beta, spins.T, np.random.SeedSequence(9))
    halves = [plain_decisions.Generator(sampler._rng[0][:, half]) for half in HALVES]
    i, j = model.lattice.edges.sort(-1).values.numpy().T
    none = np.zeros((16, 256), dtype=int)
    for _ in range(6 if beta < 1 else 16):
        sampler.sweep(1)
        marked, bonds = (plain_decisions.lanes(rows) for rows in sampler._work[0][:2])
        satisfied, along = spins[i] == spins[j], marked[:64] & (spins > 0)
        for generator, lanes in zip(halves, LANES, strict=True):
            for first in range(0, len(i), 16):
                asked = satisfied[first : first + 16, lanes]
                active = asked & plain_decisions.group(generator, [-np.expm1(-2 * beta)], none, asked)
                np.testing.assert_array_equal(bonds[first : first + 16, lanes], active)
            for _ in range(16):
                generator.draw()  # the sites that clusters begin at
            tied = np.zeros(256, dtype=bool)
            before = generator.settled
            for first in range(0, 64, 16):
                asked = along[first : first + 16, lanes]
                yes = plain_decisions.group(generator, [-np.expm1(-2 * beta * model.h)], none, asked)
                tied |= (asked & yes).any(0)
            ties += generator.settled - before
            spins[:, lanes] *= np.where(marked[:64, lanes] & ~tied, -1, 1).astype(np.int8)
        np.testing.assert_array_equal(sampler.spins(), spins.T)
    assert sum(generator.settled for generator in halves) > 3
    assert beta < 1 or ties > 3


@bare
def _settle(state, scratch, rows):
    asked = parallel_wolff.ASKED
    for p in range(PARTS):
        own, notes, table = part(state, p), part(scratch, p), part(rows, p)
        s0, s1, s2, s3, counter, increment = resume(own)
        for g in range(16):
            turned, s0, s1, s2, s3, counter = chances.settle(
                (), asked, notes, g, table, 0, s0, s1, s2, s3, counter, increment
            )
            store(notes, chances.ANSWER + g, turned)
        keep(own, s0, s1, s2, s3, counter)


def test_a_lane_that_waits_is_settled_to_the_last_digit():
    """Open in every lane of 16 rows: one of 256 lanes needs more than 14 digits, whose first six are 0."""
    p, state = 1 / 96, shishua.streams(np.random.SeedSequence(7), 1)[0]
    halves = [plain_decisions.Generator(state[:, half]) for half in HALVES]
    scratch = aligned((chances.SCRATCH, 8))
    scratch[chances.OPEN : chances.OPEN + 16] = 2**64 - 1
    _settle(state, scratch, tables.tables(np.array([[p]])).reshape(-1, 8))
    digit, deepest = [plain_decisions.digit(int(p * 2.0**64), k) for k in range(67)], 0
    for half, generator in zip(HALVES, halves, strict=True):
        for row in scratch[chances.ANSWER : chances.ANSWER + 16, half]:
            throw = plain_decisions.throws(generator, np.ones(256, dtype=bool))
            np.testing.assert_array_equal(plain_decisions.lanes(row), np.array(digit)[throw])
            deepest = max(deepest, throw.max())
    assert deepest > 14


@inline
def _answer(which, asked, bits, notes, table, g, w0, w1, w2, w3, w4, w5, taken):
    c0, c1, c2, c3 = load(bits, g), load(bits, 16 + g), load(bits, 32 + g), load(bits, 48 + g)
    yes, left, _ = chances.decide(which, asked, c3, c2, c1, c0, notes, table, 0, w0, w1, w2, w3, w4, w5)
    turned, taken = chances.take(which, asked, notes, g, left, c3, c2, c1, c0, taken)
    store(notes, chances.ANSWER + g, yes ^ turned)
    return taken


@bare
def _decide(which, state, scratch, planes, rows):
    asked = ((0,),) * 16
    for p in range(PARTS):
        own, notes, bits, table = part(state, p), part(scratch, p), part(planes, p), part(rows, p)
        s0, s1, s2, s3, counter, increment = resume(own)
        s0, s1, s2, s3, counter = chances.spares(
            which, asked, notes, table, 0, s0, s1, s2, s3, counter, increment
        )
        taken = chances.untaken()
        for g in range(0, 16, 2):
            a0, a1, a2, a3, s0, s1, s2, s3, counter = shishua_draw(s0, s1, s2, s3, counter, increment)
            b0, b1, b2, b3, s0, s1, s2, s3, counter = shishua_draw(s0, s1, s2, s3, counter, increment)
            taken = _answer(which, asked, bits, notes, table, g, a0, a1, a2, a3, b0, b1, taken)
            a0, a1, a2, a3, s0, s1, s2, s3, counter = shishua_draw(s0, s1, s2, s3, counter, increment)
            taken = _answer(which, asked, bits, notes, table, g + 1, b2, b3, a0, a1, a2, a3, taken)
        waiting = chances.waits(notes, taken)
        while waiting:
            g = lowest(waiting)
            turned, s0, s1, s2, s3, counter = chances.settle(
                which, asked, notes, g, table, 0, s0, s1, s2, s3, counter, increment
            )
            store(notes, chances.ANSWER + g, load(notes, chances.ANSWER + g) ^ turned)
            waiting &= waiting - np.uint64(1)
        keep(own, s0, s1, s2, s3, counter)


@pytest.mark.parametrize(
    ("name", "L", "chains"), [("square", 96, 512), ("square", 2048, 1), ("triangular", 72, 512)]
)
def test_bands_change_nothing_that_a_spin_sees(name, L, chains):
    """Each row comes after all its neighbours of lower colours; ghosts are copied with their rows."""
    layout = tiles.best(Ising(lattices.build(name, L)), chains)
    order, _, ends = schedule.groups(layout)
    assert len(ends) > 2 * layout.colours.max() + 2
    found = order[order < layout.rows]
    assert np.sort(found).tolist() == list(range(layout.rows))
    step = np.empty(layout.rows, dtype=int)
    step[found] = np.repeat(np.arange(len(ends)), chances.GROUP * np.diff(ends, prepend=0))[
        order < layout.rows
    ]
    i, k = np.nonzero(layout.neighbours != tiles.NOWHERE)
    j = np.append(np.arange(layout.rows), layout.ghosts[:, 0])[layout.neighbours[i, k]]
    lower = layout.colours[j] < layout.colours[i]
    assert (step[j] < step[i])[lower].all()
    one_by_one = (
        np.arange(layout.rows) // schedule.BAND * 8 + layout.colours
    )  # all colours of a band, then the next
    assert not (one_by_one[j] < one_by_one[i])[lower].all()
    ghosts, ghost_ends = schedule.ghosts(layout)
    of_step = np.searchsorted(ghost_ends, np.arange(len(ghosts)), side="right")
    assert (of_step == step[ghosts[:, 0]]).all()


@pytest.mark.parametrize("pairs", [1, 15, 16, 100, 256])
def test_lanes_are_counted_exactly(pairs):
    """In the first lane all pairs differ, in the last one none."""
    rng = np.random.default_rng(pairs)
    rows = aligned((50, 8))
    rows[:] = rng.integers(0, 2**64, rows.shape, dtype=np.uint64)
    rows[:, 0] = rows[:, 0] >> np.uint64(1) << np.uint64(1)
    rows[25:, 0] += np.uint64(1)
    rows[:, 7] >>= np.uint64(1)
    i, j = rng.integers([[0], [25]], [[25], [50]], (2, pairs), dtype=np.int32)
    signs = np.where(rng.random(pairs) < 0.5, np.uint64(2**64 - 1), np.uint64(0))
    for against in (np.empty(0, dtype=np.uint64), signs):
        counted = tally.lane_counts(tally.tally(rows, i, j, against)[None])[0]
        differ = rows[i] ^ rows[j] ^ (against[:, None] if len(against) else np.uint64(0))
        expected = np.unpackbits(differ.view(np.uint8), axis=1, bitorder="little").sum(0)
        np.testing.assert_array_equal(counted, expected)


def printed(program: str, processor: str, features: str) -> str:
    """By Python in another process, compiling for this processor."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_compiles_for_a_processor_with_wider_registers():
    """Compiled, not run: this processor may lack AVX-512."""
    program = (
        "from numba import uint64; from ising.kernels import lanes, shishua; "
        "shishua.fill.compile((uint64[:, ::1], uint64[:, ::1])); print(lanes.WIDTH, shishua.fill.signatures)"
    )
    assert printed(program, "skylake-avx512", "+avx2,+avx512f").startswith("8 [(Array(uint64, 2")


def test_the_same_numbers_without_the_vector_instructions():
    """The portable form, compiled for a plain processor in another process, makes the same spins."""
    program = (
        "from ising.kernels import lanes; from tests.ising import laws; "
        "print(lanes.has_ternary_logic(), laws.digest())"
    )
    assert printed(program, "generic", "").split() == ["False", laws.digest()]

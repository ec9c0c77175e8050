"""Every update, as written and as compiled, leaves the enumerated Boltzmann law of every lattice invariant.

False alarms: 1e-5 for each p-value, about 250 of them, on fixed seeds: 1 in 400 new sets of seeds.
"""

import numpy as np
import pytest
import torch

from ising import kernels, lattices, updates
from ising.kernels.xoshiro import jit, step, streams
from ising.model import Ising
from tests.checks import FALSE_ALARM
from tests.ising import laws

FORMS = ("readable", "compiled")
GLASS = torch.Generator().manual_seed(5)


def glass(lattice: lattices.Lattice) -> Ising:
    """Gaussian couplings and fields: frustration, and no two probabilities alike."""
    J, h = (torch.randn(n, generator=GLASS) for n in (len(lattice.edges), lattice.n_sites))
    return Ising(lattice, J=J, h=0.5 * h)


@pytest.mark.parametrize("h", [0.0, 0.3])
@pytest.mark.parametrize("J", [1.0, -1.0])
@pytest.mark.parametrize("name", laws.SMALL)
@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize("form", FORMS)
def test_the_boltzmann_law_is_invariant(form, update, name, J, h):
    model = Ising(laws.SMALL[name], J=J, h=h)
    assert laws.invariance(form, update, model) > FALSE_ALARM


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize("form", FORMS)
def test_the_boltzmann_law_of_a_glass_is_invariant(form, update):
    assert laws.invariance(form, update, glass(lattices.triangular(3))) > FALSE_ALARM


def test_mixed_signs_of_one_strength_are_bit_packed():
    lattice = lattices.triangular(4)
    J = torch.where(torch.rand(len(lattice.edges), generator=GLASS) < 0.5, -0.7, 0.7)
    model = Ising(lattice, J=J, h=-0.2)
    assert kernels.choose("metropolis", model, "cpu") is kernels.Multispin
    assert laws.invariance("compiled", "metropolis", model) > FALSE_ALARM


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize("form", FORMS)
def test_it_converges_from_a_start_far_away(form, update):
    """Invariance alone would pass an update that does nothing."""
    model = Ising(lattices.square(3), h=0.1)
    start = torch.ones(laws.DRAWS, 9, dtype=torch.int8)
    assert laws.p_value(laws.swept(form, update, model, 0.3, start, 40), model, 0.3) > FALSE_ALARM


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
    for update, model, device, expected in [
        ("metropolis", Ising(square, J=-2.0, h=0.1), "cpu", "multispin"),
        ("heat_bath", Ising(square), "cpu", "multispin"),
        ("metropolis", odd, "cpu", "torch"),
        ("wolff", odd, "cpu", "wolff"),
        ("metropolis", Ising(square), "cuda", "torch"),
        ("wolff", Ising(square), "cuda", "torch"),
    ]:
        assert kernels.choose(update, model, device).name == expected


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize(
    "model", [Ising(lattices.square(4), h=0.1), glass(lattices.chain(7))], ids=["uniform", "glass"]
)
def test_a_kernel_measures_exchanges_saves_and_restores(update, model):
    spins = laws.equilibrium(Ising(model.lattice), 0.2, draws=128).numpy()
    sampler = laws.kernel(update, model, 0.3, spins)
    np.testing.assert_array_equal(sampler.spins(), spins)
    sampler.exchange(np.array([3, 5]), np.array([67, 69]))
    swapped = spins.copy()
    swapped[[3, 5, 67, 69]] = spins[[67, 69, 3, 5]]
    np.testing.assert_array_equal(sampler.spins(), swapped)
    energy, magnetisation = sampler.measure()
    np.testing.assert_allclose(energy, model.energy(torch.from_numpy(swapped)).numpy(), rtol=1e-14)
    np.testing.assert_array_equal(magnetisation, swapped.sum(-1, dtype=float))
    saved = sampler.state()
    sampler.sweep(5)
    after = sampler.spins()
    again = laws.kernel(update, model, 0.3, np.ones_like(spins))
    again.load(saved)
    again.sweep(5)
    np.testing.assert_array_equal(again.spins(), after)


@pytest.mark.parametrize(("update", "chains"), [("metropolis", 2500), ("wolff", 70)])
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
    spins = np.ones((64, 16), dtype=np.int8)
    sampler = laws.kernel("metropolis", Ising(lattices.square(4)), 1 / 0.35, spins)
    _, law = sampler._law
    assert law[0, 0, 0, 0] / 2.0**64 == pytest.approx(15 / 16 * np.exp(-8 / 0.35), rel=1e-8)


def test_an_unknown_update_is_named():
    with pytest.raises(
        ValueError, match="unknown update 'kawasaki'; choose one of heat_bath, metropolis, wolff"
    ):
        updates.get("kawasaki")


def test_different_temperatures_in_one_word_are_refused():
    with pytest.raises(ValueError, match="same for each 64 consecutive chains"):
        laws.kernel(
            "metropolis", Ising(lattices.square(4)), np.linspace(0.1, 0.2, 64), np.ones((64, 16), np.int8)
        )

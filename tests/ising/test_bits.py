"""Packed configurations: the bits that kernels hand to the store are those of the spins they show."""

import numpy as np
import pytest
import torch

from ising import Ising, Run, kernels, lattices, updates
from ising.kernels.bits import pack, transpose, unpack
from tests.ising.store_cases import make_run

MODELS = {"even": Ising(lattices.square(4), h=0.1), "odd": Ising(lattices.chain(7), J=-0.5)}


@pytest.mark.parametrize(("n_sites", "words"), [(1, 1), (7, 2), (9, 3), (63, 1), (64, 8), (65, 9), (200, 17)])
def test_transposition_moves_every_bit_to_its_chain(n_sites, words):
    """Against numpy, one bit at a time; every bit is random, so one that is out of place is seen."""
    packed = np.random.default_rng(n_sites).integers(0, 2**64, (n_sites, words), dtype=np.uint64)
    chain, word = np.arange(64 * words), np.repeat(np.arange(words), 64)
    up = (packed[:, word] >> (chain % 64).astype(np.uint64)) & np.uint64(1)
    bits = transpose(packed)
    assert bits.shape == (64 * words, -(-n_sites // 8))
    np.testing.assert_array_equal(bits, np.packbits(up.T.astype(bool), axis=1))
    np.testing.assert_array_equal(transpose(np.asfortranarray(packed)), bits)


@pytest.mark.parametrize("chains", [5, 70, 600])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("update", updates.names())
def test_every_kernel_hands_out_the_bits_of_its_spins(update, model, chains):
    start = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (chains, model.lattice.n_sites))
    for form in {kernels.choose(update, model, "cpu", 64), kernels.Plain}:
        sampler = form(model, update, 0.3, start, np.random.SeedSequence(1))
        np.testing.assert_array_equal(sampler.bits(), pack(start))
        sampler.sweep(3)
        assert sampler.bits().dtype == np.uint8
        np.testing.assert_array_equal(sampler.bits(), pack(sampler.spins()))
        np.testing.assert_array_equal(unpack(sampler.bits(), model.lattice.n_sites), sampler.spins())


def test_a_run_is_made_of_spins_or_of_bits():
    run = make_run()
    fields = {name: value for name, value in vars(run).items() if name != "bits"}
    again = Run(**fields, bits=pack(run.spins))
    np.testing.assert_array_equal(again.spins, run.spins)
    assert (again.chains, again.samples, again.n_sites) == (10, 7, 12)
    assert again.spins.dtype == np.int8
    assert torch.equal(torch.from_numpy(again.spins).sum(-1).double(), torch.from_numpy(run.magnetisations))
    with pytest.raises(TypeError, match="a run needs spins, or bits"):
        Run(**fields)

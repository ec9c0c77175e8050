"""The draw of binary units, bit by bit: its generator, its threshold, its streams; and products by tables."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm

from ising.kernels import xoshiro
from physgen.distributions import compiled, fused
from physgen.distributions.fused import draw_binary
from physgen.distributions.lookup import _by_tables, product

RESOLUTION = 2**24
FILL, MIX, DECIDE = (compiled.jit(loop) for loop in (fused.fill, fused.mix, fused.decide))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_generator_is_the_published_one():
    """The reference output of its authors for the state 1, 2, 3, 4, in every lane."""
    state = np.repeat(np.arange(1, 5, dtype=np.uint64)[:, None], fused.LANES, 1)
    words = np.empty(4 * fused.LANES, np.uint64)
    FILL(state, words)
    known = [41943041, 58720359, 3588806011781223, 3591011842654386]
    assert (words.reshape(4, -1) == np.array(known, np.uint64)[:, None]).all()
    s = [np.uint64(x) for x in (1, 2, 3, 4)]
    with np.errstate(over="ignore"):
        for word in known:
            bits, *s = xoshiro.step(*s)
            assert bits == word


def test_seeds_are_mixed_by_splitmix():
    """SplitMix64 of 0 and of its own first state: the published first outputs of seed 0."""
    state = np.zeros((4, fused.LANES), np.uint64)
    state[1] = 0x9E3779B97F4A7C15
    MIX(state)
    assert state[:2, 0].tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def probability(field, slope=1.0):
    """Exact share of the 2^24 random numbers that make the unit high, by bisection."""
    out = np.empty_like(field)

    def high(k):
        bits = (k << 8).astype(np.uint32)
        DECIDE(bits, field, out, np.float32(slope), np.float32(0))
        return out > 0

    below, above = np.full(field.shape, -1), np.full(field.shape, RESOLUTION)
    while (above - below > 1).any():
        middle = (below + above + 1) // 2
        known = high(middle.clip(max=RESOLUTION - 1))
        below, above = np.where(known, middle, below), np.where(known, above, middle)
    return above / RESOLUTION


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_the_probability_is_right_to_2_to_the_minus_23(dtype, slope):
    field = np.concatenate([np.linspace(-30, 30, 20_001), [-1e30, -100, 0, 100, 1e30]]).astype(dtype)
    exact = torch.as_tensor(field).double().mul(slope).sigmoid().numpy()
    assert np.abs(probability(field, slope) - exact).max() < 2**-23
    assert np.abs(probability(field, slope * 1.0001) - exact).max() > 1e-5, "the test has no power"


def test_draws_are_binary_and_have_the_right_means_and_pairs():
    """False alarm 1e-4 in all, at a fixed seed: 50 means and 49 covariances of neighbours in memory."""
    field = torch.linspace(-4, 4, 50).expand(40_000, 50)
    x = draw_binary(field, seeded(1)).double()
    p = field[0].double().sigmoid()
    z = (x - p) / (p * (1 - p)).sqrt()
    means, pairs = z.mean(0) * 200, (z[:, 1:] * z[:, :-1]).mean(0) * 200
    limit = chi2.isf(5e-5, 50)
    assert x.unique().tolist() == [0, 1]
    assert (means**2).sum() < limit
    assert (pairs**2).sum() < limit
    assert ((means + 200 * 0.02) ** 2).sum() > limit, "the test has no power"


def test_calls_are_independent_and_repeat_with_their_generator():
    field = torch.zeros(100_000)
    first, second = (draw_binary(field, g) for g in [seeded(3)] * 2)
    again, other = draw_binary(field, seeded(3)), draw_binary(field, seeded(4))
    assert torch.equal(first, again)
    for another in (second, other):
        agreement = (first == another).double().mean().item()
        assert abs(agreement - 0.5) * 2 * 100_000**0.5 < norm.isf(1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_every_type_and_shape_keeps_its_own(dtype):
    field = torch.full((3, 5, 7), 20.0, dtype=dtype).mT
    x = draw_binary(field, seeded(0), slope=-2.0, low=-1.0)
    assert (x.dtype, x.shape) == (dtype, field.shape)
    assert (x == -1).all()
    assert draw_binary(field[:0]).shape == (0, 7, 5)


BINARY = [lambda x: (x > 0).float(), lambda x: 2 * (x > 0).float() - 1]


@pytest.mark.parametrize("binary", BINARY)
@pytest.mark.parametrize("shape", [(32, 33, 32), (40, 784, 61), (50, 64, 100), (33, 131, 77), (36, 90, 65)])
def test_products_by_tables_agree_with_float64(binary, shape):
    """Every remainder of the 4, 8 and 32 that tables, words and columns are cut into; every memory order."""
    n, K, M = shape
    torch.manual_seed(0)
    rows, matrix = binary(torch.randn(n, K)), torch.randn(K, M)
    more = torch.randn(n), torch.randn(M), torch.randn(n), torch.randn(M)
    exact = rows.double() @ matrix.double()
    exact += torch.outer(*more[:2]).double() + torch.outer(*more[2:]).double()
    for left in (rows, rows.mT.contiguous().mT):
        for right in (matrix, matrix.mT.contiguous().mT):
            found = _by_tables(left, right, *more)
            assert (found - exact).abs().max() < 4e-7 * K
    rows[n // 2, K - 1] = 0.5
    assert _by_tables(rows, matrix, *more) is None
    assert _by_tables(rows.mT.contiguous().mT, matrix, *more) is None


def test_products_keep_gradients_and_other_values():
    rows, matrix = BINARY[0](torch.randn(3, 40, 50)), torch.randn(50, 60, requires_grad=True)
    product(rows, matrix).sum().backward()
    torch.testing.assert_close(matrix.grad, rows.sum((0, 1)).unsqueeze(-1).expand(50, 60))
    with torch.no_grad():
        torch.testing.assert_close(product(rows, matrix), rows @ matrix)
        torch.testing.assert_close(product(rows / 3, matrix), (rows / 3) @ matrix)

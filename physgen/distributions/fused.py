r"""Draws of units with two values: sigmoid, random number and comparison in one pass over the fields.

The generator is xoshiro256++ (period 2^256 - 1, passes BigCrush and PractRand to 32 TB by its authors'
record) in 16 lanes. Each call seeds them with 1024 fresh bits of the torch generator that it is given,
mixed by SplitMix64, so calls are independent of each other and whoever restores the torch generator gets
the same draws again.

A unit is high if :math:`u (1 + e^{-x}) < 1` with u one of the 2^24 midpoints :math:`(k + 1/2) 2^{-24}`. The
probability differs from :math:`\sigma(x)` by less than 2^-23 = 1.2e-7 for every field.

This is for float32 and float64 on a CPU; elsewhere :func:`draw_binary` does the same with torch.

References:
    | Scrambled Linear Pseudorandom Number Generators (Blackman and Vigna, 2021), https://prng.di.unimi.it
"""

import numpy as np
import torch
from numba import float32, int32, uint32, uint64
from torch import Tensor

from .compiled import exponential, inner, inner_contracted, jit

LANES = 16
_BLOCK = 2048  # fields at a time, so that their random bits stay in the first cache


def draw_binary(
    field: Tensor, generator: torch.Generator | None = None, *, slope: float = 1.0, low: float = 0.0
) -> Tensor:
    r"""One draw per field: 1 with probability :math:`\sigma(slope \cdot field)`, else ``low``; of its shape.

    Arguments:
        field: Numbers of any shape.
        generator: Source of randomness; torch's global one if not given.
        slope: Factor on the fields.
        low: The other value.

    Example:
        >>> draw_binary(torch.tensor([-50.0, 50.0]), slope=2.0, low=-1.0)
        tensor([-1.,  1.])
    """
    if field.device.type != "cpu" or field.dtype not in (torch.float32, torch.float64):
        u = torch.rand(field.shape, generator=generator, dtype=field.dtype, device=field.device)
        return u.lt_((slope * field.detach()).sigmoid()).mul_(1 - low).add_(low)
    field = field.detach().contiguous()
    out = torch.empty_like(field)
    seeds = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy()
    words = np.empty(_BLOCK // 2, np.uint64)
    flat = field.view(-1).numpy(), out.view(-1).numpy()
    _draw(seeds.view(np.uint64), words, words.view(np.uint32), *flat, np.float32(slope), np.float32(low))
    return out


def words(n: int, generator: torch.Generator | None = None) -> np.ndarray:
    """So many words of 64 random bits.

    Example:
        >>> found = words(100, torch.Generator().manual_seed(0))
        >>> found.dtype, len(found), len(np.unique(found))
        (dtype('uint64'), 100, 100)
    """
    seeds = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy()
    out = np.empty(-(-n // LANES) * LANES, np.uint64)
    _words(seeds.view(np.uint64), out)
    return out[:n]


@jit
def _words(state, words):
    mix(state)
    fill(state, words)


@jit
def _draw(state, words, bits, field, out, slope, low):
    mix(state)
    for i in range(0, field.size, bits.size):
        n = min(bits.size, field.size - i)
        fill(state, words[: (n + 2 * LANES - 1) // (2 * LANES) * LANES])
        decide(bits[:n], field[i : i + n], out[i : i + n], slope, low)


@inner
def mix(state):
    """SplitMix64 of each word, which breaks what linear relations the words may have."""
    for word in range(4):
        for lane in range(state.shape[1]):
            z = state[word, lane] + uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
            state[word, lane] = z ^ (z >> uint64(31))


@inner
def fill(state, words):
    """Random words, one of each lane in turn; a multiple of the number of lanes."""
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    lanes = s0.size
    for i in range(0, words.size, lanes):
        row = words[i : i + lanes]
        for lane in range(lanes):
            a, b, c, d = s0[lane], s1[lane], s2[lane], s3[lane]
            mixed = a + d
            row[lane] = ((mixed << uint64(23)) | (mixed >> uint64(41))) + a
            shifted = b << uint64(17)
            c ^= a
            d ^= b
            s1[lane] = b ^ c
            s0[lane] = a ^ d
            s2[lane] = c ^ shifted
            s3[lane] = (d << uint64(45)) | (d >> uint64(19))


@inner_contracted
def decide(bits, field, out, slope, low):
    """``1`` where u (1 + exp(-slope field)) < 1, u from the upper 24 of 32 bits; else ``low``."""
    for i in range(field.size):
        u = float32(int32(bits[i] >> uint32(8))) * float32(2**-24) + float32(2**-25)
        e = exponential(-slope * float32(field[i]))
        out[i] = float32(1) if u + u * e < float32(1) else low

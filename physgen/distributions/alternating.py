"""Block Gibbs updates of two layers of two-valued units, in bits: products, sigmoids, draws in one kernel.

The fields of 32 units are summed by tables (:mod:`physgen.distributions.lookup`), the units drawn in them
(:mod:`physgen.distributions.fused`) while they are in the first cache, and written as a word for each chain,
which is what the next product reads.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .compiled import jit
from .fused import LANES, decide, fill, mix
from .lookup import HIGH, WIDE, add_up, equal, laid_out, packed, put, scratch
from .units import Units

_LEAST = 32  # chains and units from which this pays
_CHAINS = 64  # at a time, so that their random bits stay in the first cache


class Side(NamedTuple):
    """A layer: its units, and their bias."""

    units: Units
    bias: Tensor


def draw(
    start: Tensor,
    sides: tuple[Side, Side],
    weight: Tensor,
    n: int,
    generator: torch.Generator | None,
    fields: Tensor | None,
) -> Tensor | None:
    """State of the layer that the last of n updates draws, or nothing where this kernel does not apply.

    It takes at least 32 chains of float32 on a CPU, and layers of at least 32 units of two values.

    Arguments:
        start: States of the first layer, ``(*, A)``.
        sides: The first layer and the other.
        weight: Couplings of both, ``(A, B)``.
        n: Updates; the first one draws the other layer.
        generator: Source of randomness; torch's global one if not given.
        fields: Takes the fields of the first update, ``(*, B)``, if given.
    """
    if n == 0 or not _eligible(start, sides, weight):
        return None
    words, low = packed(start.reshape(-1, start.shape[-1]))
    if low != sides[0].units.values[0][0]:
        return None
    chains = words.shape[1]
    drawn = np.empty((-(-len(sides[1].bias) // WIDE), chains), np.uint32)
    out = torch.empty(chains, len(sides[n % 2].bias))
    flat, (rows, *steps) = laid_out(weight.detach())
    shapes = (rows, *steps), (weight.shape[1], *steps[::-1])
    state = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    random = np.empty(_CHAINS * WIDE // 2, np.uint64)
    bits = random, random.view(np.uint32), np.empty(_CHAINS * WIDE, np.float32)
    lows = tuple(np.float32(side.units.values[0][0]) for side in sides)
    starts = tuple(side.bias.detach().contiguous().numpy() for side in sides)
    rooms = (out[:0] if fields is None else fields).view(-1).numpy(), out.view(-1).numpy()
    _alternate((words, drawn), flat, shapes, starts, lows, n, state, bits, scratch(chains), rooms)
    return out.reshape(*start.shape[:-1], -1)


def _eligible(start: Tensor, sides: tuple[Side, Side], weight: Tensor) -> bool:
    numbers = start, weight, *(side.bias for side in sides)
    plain = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in numbers)
    one = weight.dim() == 2 and all(side.units.binary and side.bias.dim() == 1 for side in sides)
    return plain and one and min(*weight.shape, start.numel() // len(weight)) >= _LEAST


@jit
def _alternate(words, matrix, shapes, starts, lows, n, state, bits, scratch, rooms):
    """Fields of the first update and states of the last one go into the rooms."""
    mix(state)
    for i in range(n):
        one, other = i % 2, 1 - i % 2
        seen, out = rooms[0][: rooms[0].size * (i == 0)], rooms[1][: rooms[1].size * (i == n - 1)]
        given = words[one], matrix, shapes[one], lows[one], starts[other], lows[other]
        _update(given, state, bits, scratch, words[other], seen, out)


@jit
def _update(given, state, bits, scratch, drawn, seen, out):
    """Draws a layer whose lower value is ``other``: bits, and fields and values where there is room."""
    words, matrix, shape, low, start, other = given
    fields, (random, halves, values) = scratch[5 * HIGH * WIDE :], bits
    slope, M = np.float32(1) - other, start.size
    for column in range(0, M, WIDE):
        add_up(words, matrix, shape, column, start, low, np.float32(1), scratch)
        if seen.size:
            put(fields, words.shape[1], column, M, seen, 0)
        for first in range(0, words.shape[1], _CHAINS):
            chains = min(_CHAINS, words.shape[1] - first)
            size = chains * WIDE
            fill(state, random[: size // 2])
            decide(halves[:size], fields[first * WIDE : first * WIDE + size], values[:size], slope, other)
            for i in range(chains):
                drawn[column // WIDE, first + i] = equal(values, i * WIDE, np.float32(1))
            if out.size:
                put(values, chains, column, M, out, first * M)

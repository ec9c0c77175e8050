"""Block Gibbs updates; of two-valued layers in bits: products, sigmoids and draws in one kernel.

The fields of 32 units are summed by tables (:mod:`physgen.distributions.lookup`), the units drawn in them
(:mod:`physgen.distributions.fused`) while they are in the first cache, and written as a word for each chain,
which is what the next product reads. That takes float32 on a CPU, with at least 32 chains and units of two
values in each layer; other machines are updated layer by layer.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from . import bits
from .compiled import inner, jit
from .fused import LANES, decide, fill, mix
from .lookup import LEAST, NONE, TABLES, WIDE, add_up, laid_out, put, scratch
from .packing import equal, packed
from .units import Units

_CHAINS = 64  # at a time, so that their random bits stay in the first cache


class Machine(bits.Machine, Protocol):
    """What is updated; :class:`physgen.distributions.RestrictedBoltzmann` is one."""

    @property
    def parts(self) -> tuple[Tensor, ...]: ...
    def visible_field(self, h: Tensor) -> Tensor: ...
    def hidden_field(self, v: Tensor) -> Tensor: ...


@torch.no_grad()
def alternate(
    law: Machine, start: Tensor, n: int, generator: torch.Generator | None = None, *, hidden: bool = False
) -> Tensor:
    """State of the layer drawn last, where n times the other layer is drawn given the one before.

    Arguments:
        start: States of the visible units, ``(*, D)``, or of the hidden ones, ``(*, H)``.
        hidden: Which of them.
    """
    first, flat = (law.hidden_units if hidden else law.visible_units), start.reshape(-1, start.shape[-1])
    words = words_of(law, flat, first) if n else None
    if words is not None:
        out = torch.empty(len(flat), law.parts.weight.shape[(hidden + n) % 2])
        both, tools = both_layers(law, words, hidden), tools_for(len(flat), generator)
        _alternate(arrays_of(law), both, int(hidden), n, tools, out.view(-1).numpy())
        return out.reshape(*start.shape[:-1], -1)
    for _ in range(n):
        field = law.visible_field(start) if hidden else law.hidden_field(start)
        start = (law.visible_units if hidden else law.hidden_units).draw(field, generator)
        hidden = not hidden
    return start


def words_of(law: Machine, start: Tensor, units: Units) -> np.ndarray | None:
    """The states in bits, or nothing where the kernel does not apply."""
    W, b, c, *_ = law.parts
    plain = all(x.is_cpu and x.dtype == torch.float32 for x in (start, W, b, c))
    binary = law.visible_units.binary and law.hidden_units.binary
    one = W.dim() == 2 and b.dim() == c.dim() == 1
    if not (plain and one and binary and min(*W.shape, len(start)) >= LEAST):
        return None
    words, low = packed(start)
    return words if low == units.values[0][0] else None


def both_layers(law: Machine, words: np.ndarray, hidden: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bits of visible and hidden units, one of them yet to be drawn."""
    other = np.empty((-(-law.parts.weight.shape[not hidden] // WIDE), words.shape[1]), np.uint32)
    return (other, words) if hidden else (words, other)


def arrays_of(law: Machine) -> tuple:
    """Weights, how they lie for a product from either layer, biases, offsets and lower values of both."""
    W, *others = law.parts
    flat, (D, *steps) = laid_out(W)
    none, (b, c, mu, rest) = NONE.numpy(), (x.detach().contiguous().numpy() for x in others)
    starts = (none, b, none, none), (none, c, none, none)
    return flat, ((D, *steps), (W.shape[1], *steps[::-1])), starts, (mu, rest), lows_of(law)


def lows_of(law: Machine) -> tuple[np.float32, np.float32]:
    return np.float32(law.visible_units.values[0][0]), np.float32(law.hidden_units.values[0][0])


def tools_for(rows: int, generator: torch.Generator | None) -> tuple[np.ndarray, ...]:
    """A generator, and room for its bits, for values and for fields."""
    state = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    random, values = np.empty(_CHAINS * WIDE // 2, np.uint64), np.empty(_CHAINS * WIDE, np.float32)
    return state, random, random.view(np.uint32), values, scratch(rows)


@jit
def _alternate(arrays, words, at, n, tools, out):
    mix(tools[0])
    alternated(arrays, words, at, n, tools, out)


@inner
def alternated(arrays, words, at, n, tools, out):
    """Draws the layers in turn, the other one than ``at`` first; states of the last one."""
    for i in range(n):
        update(arrays, words[at], at, tools, words[1 - at], out[:0], out[: out.size * (i == n - 1)])
        at = 1 - at


@inner
def update(arrays, words, at, tools, drawn, seen, out):
    """Draws the other layer for the last chains: bits, and fields and values where there is room for them."""
    matrix, shapes, starts, offsets, lows = arrays
    state, random, halves, values, scratch = tools
    fields, other = scratch[TABLES:], lows[1 - at]
    rows, M = words.shape[1], starts[1 - at][1].size
    beside, read = rows - drawn.shape[1], (offsets[at], lows[at], np.float32(1))
    for column in range(0, M, WIDE):
        add_up(words, matrix, shapes[at], column, M, starts[1 - at], read, scratch)
        if seen.size:
            put(fields, rows, column, M, seen, 0)
        for first in range(beside, rows, _CHAINS):
            chains = min(_CHAINS, rows - first)
            size = chains * WIDE
            fill(state, random[: size // 2])
            block = fields[first * WIDE : first * WIDE + size]
            decide(halves[:size], block, values[:size], np.float32(1) - other, other)
            for i in range(chains):
                drawn[column // WIDE, first - beside + i] = equal(values, i * WIDE, np.float32(1))
            if out.size:
                put(values, chains, column, M, out, (first - beside) * M)

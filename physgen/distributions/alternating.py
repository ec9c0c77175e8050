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
from .lookup import HIGH, LEAST, WIDE, add_up, equal, laid_out, packed, put, scratch
from .units import Units

_CHAINS = 64  # at a time, so that their random bits stay in the first cache


class Machine(bits.Machine, Protocol):
    """What is updated; :class:`physgen.distributions.RestrictedBoltzmann` is one."""

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
    words = _words(law, flat, first) if n else None
    if words is not None:
        out = torch.empty(len(flat), law.weight.shape[(hidden + n) % 2])
        arrays, tools = _arrays(law, len(flat)), _tools(len(flat), generator)
        _alternate(arrays, _both(law, words, hidden), int(hidden), n, tools, _rooms(out=out))
        return out.reshape(*start.shape[:-1], -1)
    for _ in range(n):
        field = law.visible_field(start) if hidden else law.hidden_field(start)
        start = (law.visible_units if hidden else law.hidden_units).draw(field, generator)
        hidden = not hidden
    return start


@torch.no_grad()
def away_from(
    law: Machine, data: Tensor, k: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Chains ``(n, D)`` after k updates from as many data, and the fields ``(2 n, H)`` of data and chains."""
    words = _words(law, data, law.visible_units)
    if words is None:
        law.visible_units.check(data)
        field = law.hidden_field(data)
        h = law.hidden_units.draw(field, generator)
        v = alternate(law, h, 2 * k - 1, generator, hidden=True)
        return v, torch.cat([field, law.hidden_field(v)])
    (n, D), H = data.shape, law.weight.shape[1]
    v, fields = torch.empty(n, D), torch.empty(2 * n, H)
    rooms = _rooms(first=fields[:n], out=v, last=fields[n:])
    _alternate(_arrays(law, n), _both(law, words, False), 0, 2 * k, _tools(n, generator), rooms)
    return v, fields


@torch.no_grad()
def onwards(
    law: Machine, hidden: Tensor, data: Tensor, k: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Chains after k updates from hidden states ``(m, H)``, hidden states drawn for them, and fields of both.

    The fields are those of the data ``(n, D)`` and of the chains, ``(n + m, H)``.
    """
    beside, words = _words(law, data, law.visible_units), _words(law, hidden, law.hidden_units)
    if beside is None or words is None:
        law.visible_units.check(data)
        v = alternate(law, hidden, 2 * k - 1, generator, hidden=True)
        fields = law.hidden_field(torch.cat([data, v]))
        return v, law.hidden_units.draw(fields[len(data) :], generator), fields
    (m, H), rows, D = hidden.shape, len(data) + len(hidden), data.shape[1]
    v, h, fields = torch.empty(m, D), torch.empty(m, H), torch.empty(rows, H)
    arrays, tools, rooms = _arrays(law, rows), _tools(rows, generator), _rooms(first=fields, last=h, out=v)
    joint = np.empty((len(beside), rows), np.uint32)
    joint[:, : len(data)] = beside
    _onwards(arrays, _both(law, words, True), joint, 2 * k - 1, tools, rooms)
    return v, h, fields


def _words(law: Machine, start: Tensor, units: Units) -> np.ndarray | None:
    """The states in bits, or nothing where the kernel does not apply."""
    numbers = start, law.weight, law.loc, law.hidden_bias
    plain = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in numbers)
    one = law.weight.dim() == 2 and law.loc.dim() == law.hidden_bias.dim() == 1
    binary = law.visible_units.binary and law.hidden_units.binary
    if not (plain and one and binary and min(*law.weight.shape, len(start)) >= LEAST):
        return None
    words, low = packed(start)
    return words if low == units.values[0][0] else None


def _both(law: Machine, words: np.ndarray, hidden: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bits of visible and hidden units, one of them yet to be drawn."""
    other = np.empty((-(-law.weight.shape[not hidden] // WIDE), words.shape[1]), np.uint32)
    return (other, words) if hidden else (words, other)


def _arrays(law: Machine, rows: int) -> tuple:
    """Weights, how they lie for a product from either layer, biases of both, lower values of both."""
    flat, (D, *steps) = laid_out(law.weight.detach())
    ones = np.ones((1, rows), np.float32)
    starts = tuple((ones, x.detach().contiguous().unsqueeze(0).numpy()) for x in (law.loc, law.hidden_bias))
    lows = tuple(np.float32(x.values[0][0]) for x in (law.visible_units, law.hidden_units))
    return flat, ((D, *steps), (law.weight.shape[1], *steps[::-1])), starts, lows


def _tools(rows: int, generator: torch.Generator | None) -> tuple[np.ndarray, ...]:
    """A generator, and room for its bits, for values and for fields."""
    state = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    random, values = np.empty(_CHAINS * WIDE // 2, np.uint64), np.empty(_CHAINS * WIDE, np.float32)
    return state, random, random.view(np.uint32), values, scratch(rows)


def _rooms(**rooms: Tensor) -> tuple[np.ndarray, ...]:
    """Flat arrays for results, without numbers where one is not asked for."""
    none = torch.empty(0)
    return tuple(rooms.get(name, none).view(-1).numpy() for name in ("first", "out", "last"))


@jit
def _alternate(arrays, words, at, n, tools, rooms):
    """Fields of the first update, states of the last one, and the fields after it, where there is room."""
    mix(tools[0])
    first, out, last = rooms
    for i in range(n):
        seen, drawn = first[: first.size * (i == 0)], out[: out.size * (i == n - 1)]
        _update(arrays, words[at], at, tools, words[1 - at], seen, drawn)
        at = 1 - at
    if last.size:
        _update(arrays, words[at], at, tools, words[1 - at][:, :0], last, out[:0])


@jit
def _onwards(arrays, words, joint, n, tools, rooms):
    """The same from hidden units, then an update of the chains beside the data, which have fields only."""
    first, out, last = rooms
    _alternate(arrays, words, 1, n, tools, (first[:0], out, last[:0]))
    beside = joint.shape[1] - words[0].shape[1]
    for w in range(len(joint)):
        for i in range(words[0].shape[1]):
            joint[w, beside + i] = words[0][w, i]
    _update(arrays, joint, 0, tools, words[1], first, last)


@inner
def _update(arrays, words, at, tools, drawn, seen, out):
    """Draws the other layer for the last chains: bits, and fields and values where there is room for them."""
    matrix, shapes, starts, lows = arrays
    state, random, halves, values, scratch = tools
    fields, other = scratch[5 * HIGH * WIDE :], lows[1 - at]
    rows, M = words.shape[1], starts[1 - at][1].shape[1]
    beside = rows - drawn.shape[1]
    for column in range(0, M, WIDE):
        add_up(words, matrix, shapes[at], column, M, starts[1 - at], lows[at], np.float32(1), scratch)
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

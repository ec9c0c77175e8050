"""Compiled passes through networks that read a few slots of memory, site after site; 64 configurations at once.

Every site reads all slots and then writes its own spin into one of them (:mod:`physgen.models.frontier`). For
float32 on a CPU; the model has the same in torch for the rest. Configurations lie in tiles, ``(T, N, 64)``.
"""

import numpy as np
import torch
from numba import float32
from torch import Tensor

from .ancestral import add, tanh
from .compiled import exponential, jit, jit_reordered
from .fused import LANES, decide, fill, mix

SIDE = 64


def tiles(values: Tensor) -> Tensor:
    """``(n, N)`` to ``(T, N, 64)``, with zeros for what is missing to whole tiles.

    Example:
        >>> tiles(torch.ones(65, 3)).shape
        torch.Size([2, 3, 64])
    """
    missing = -len(values) % SIDE
    padded = torch.cat([values, values.new_zeros(missing, values.shape[1])]) if missing else values
    return padded.view(-1, SIDE, values.shape[1]).transpose(1, 2).contiguous()


def rows(tiled: Tensor, n: int) -> Tensor:
    """Back to ``(n, N)``."""
    return tiled.transpose(1, 2).reshape(-1, tiled.shape[1])[:n]


def draw(
    weights: Tensor, outer: Tensor, bias: Tensor, slot: Tensor, n: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draws from :math:`\theta_i = b_i + W_{i0} \cdot x_i + \sum_m v_{im} \tanh(W_{im} \cdot x_i)`.

    Arguments:
        weights: W, ``(N, 1 + w, K)``.
        outer: v, ``(N, w)``.
        bias: b, ``(N,)``.
        slot: Into which of the K each spin goes, ``(N,)`` int64.
        n: How many.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        Spins ``(T, N, 64)``, fields ``(T, N, 64)`` and hidden units ``(T, N, w, 64)``.
    """
    spins = torch.empty(-(-n // SIDE), len(bias), SIDE)
    seeds = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    return spins, *_forward(spins, weights, outer, bias, slot, seeds)


def read(
    spins: Tensor, weights: Tensor, outer: Tensor, bias: Tensor, slot: Tensor
) -> tuple[Tensor, Tensor]:
    """Fields and hidden units, as :func:`draw` gives them, of given spins ``(T, N, 64)``."""
    return _forward(spins, weights, outer, bias, slot, np.empty((0, LANES), np.uint64))


def _forward(spins, weights, outer, bias, slot, seeds):
    fields, units = torch.empty_like(spins), spins.new_empty(*spins.shape[:2], outer.shape[1], SIDE)
    words, memory = np.empty(SIDE // 2, np.uint64), np.empty((weights.shape[-1], SIDE), np.float32)
    arrays = weights, outer, bias, slot, spins, fields, units
    _pass(seeds, words, memory, *(x.detach().contiguous().numpy() for x in arrays))
    return fields, units


def gradient(
    signal: Tensor, spins: Tensor, fields: Tensor, units: Tensor, outer: Tensor, slot: Tensor, n_slots: int
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Of :math:`\sum_b c_b \ln q(s_b)` by W, v and b.

    Arguments:
        signal: c, ``(T, 64)``.
        spins, fields, units: As :func:`draw` or :func:`read` gives them.
        outer, slot: As there.
        n_slots: K.
    """
    n_sites, w = outer.shape
    by_weights, by_outer = torch.zeros(n_sites, 1 + w, n_slots), torch.zeros(n_sites, w)
    by_bias = torch.zeros(n_sites)
    by_unit, memory = np.empty((1 + w, SIDE), np.float32), np.empty((SIDE, n_slots), np.float32)
    arrays = signal, outer, slot, spins, fields, units, by_weights, by_outer, by_bias
    _backward(by_unit, memory, *(x.detach().contiguous().numpy() for x in arrays))
    return by_weights, by_outer, by_bias


@jit
def _pass(state, words, memory, weights, outer, bias, slot, spins, fields, units):
    if len(state):
        mix(state)
    n_slots, w = memory.shape[0], outer.shape[1]
    for tile in range(len(spins)):
        memory[:] = float32(0)
        for i in range(len(bias)):
            theta, hidden, s = fields[tile, i], units[tile, i], spins[tile, i]
            theta[:] = bias[i]
            add(theta, weights[i, 0], memory, n_slots)
            for m in range(w):
                hidden[m] = float32(0)
                add(hidden[m], weights[i, 1 + m], memory, n_slots)
                tanh(hidden[m])
            add(theta, outer[i], hidden, w)
            if len(state):
                fill(state, words)
                decide(words.view(np.uint32), theta, s, float32(2), float32(-1))
            for lane in range(SIDE):
                memory[slot[i], lane] = s[lane]


@jit
def _backward(by_unit, memory, signal, outer, slot, spins, fields, units, by_weights, by_outer, by_bias):
    n_slots, w = memory.shape[1], outer.shape[1]
    for tile in range(len(spins)):
        memory[:] = float32(0)
        for i in range(len(outer)):
            hidden, s = units[tile, i], spins[tile, i]
            _by_field(by_unit[0], signal[tile], s, fields[tile, i])
            by_bias[i] += _sum(by_unit[0])
            for m in range(w):
                by_outer[i, m] += _dot(by_unit[0], hidden[m])
                for lane in range(SIDE):
                    by_unit[1 + m, lane] = (
                        by_unit[0, lane] * outer[i, m] * (float32(1) - hidden[m, lane] * hidden[m, lane])
                    )
            for m in range(1 + w):
                _add_lanes(by_weights[i, m], by_unit[m], memory, n_slots)
            for lane in range(SIDE):
                memory[lane, slot[i]] = s[lane]


@jit
def _by_field(out, signal, spins, fields):
    r""":math:`c (s - \tanh \theta)`, as 2 c s / (1 + exp(2 s theta))."""
    for lane in range(SIDE):
        s = spins[lane]
        out[lane] = float32(2) * signal[lane] * s / (float32(1) + exponential(float32(2) * s * fields[lane]))


@jit
def _add_lanes(total, weights, memory, n_slots):
    """``total += weights @ memory``, four lanes for each load and store of the total."""
    for lane in range(0, SIDE, 4):
        a, b, c, d = weights[lane], weights[lane + 1], weights[lane + 2], weights[lane + 3]
        for k in range(n_slots):
            total[k] += (a * memory[lane, k] + b * memory[lane + 1, k]) + (
                c * memory[lane + 2, k] + d * memory[lane + 3, k]
            )


@jit_reordered
def _sum(x):
    total = float32(0)
    for lane in range(SIDE):
        total += x[lane]
    return total


@jit_reordered
def _dot(x, y):
    total = float32(0)
    for lane in range(SIDE):
        total += x[lane] * y[lane]
    return total

"""Compiled draws from networks of one hidden layer, site after site; 64 configurations side by side.

Every number is computed once, as soon as the spins it depends on are known, so that a whole configuration
costs half a pass through the network. For float32 on a CPU; the models have the same in torch for the rest.
The random numbers are those of :mod:`physgen.distributions.fused`.
"""

import numpy as np
import torch
from numba import float32
from torch import Tensor

from .compiled import adder, inner, jit, tanh
from .fused import LANES, decide, fill, mix

_SIDE = 64  # configurations in a tile
_one_by_eight = adder(1, 8)


def applies(weights: Tensor) -> bool:
    """Whether these weights are of the kind that the compiled form takes."""
    return weights.device.type == "cpu" and weights.dtype == torch.float32


def draw_per_site(
    weights: Tensor, outer: Tensor, bias: Tensor, n: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draws from :math:`\theta_i = b_i + W_{i0} \cdot s_{<i} + \sum_k v_{ik} \tanh(W_{ik} \cdot s_{<i})`.

    Arguments:
        weights: W, ``(N, 1 + w, N)``; what is not below the diagonal is not read.
        outer: v, ``(N, w)``.
        bias: b, ``(N,)``.
        n: How many.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        Spins and fields, ``(n, N)`` each, and the hidden units ``(n, N, w)``.

    Example:
        >>> drawn = draw_per_site(torch.zeros(3, 2, 3), torch.zeros(3, 1), torch.ones(3), 5, None)
        >>> [part.shape for part in drawn], drawn[1][0].tolist()
        ([torch.Size([5, 3]), torch.Size([5, 3]), torch.Size([5, 3, 1])], [1.0, 1.0, 1.0])
    """
    units = np.empty((-(-n // _SIDE), *outer.shape, _SIDE), np.float32)
    spins, fields = _draw(_per_site, (weights, outer, bias), len(bias), n, units, generator)
    return spins, fields, torch.from_numpy(units).permute(0, 3, 1, 2).flatten(0, 1)[:n]


def draw_by_degree(
    direct: Tensor,
    inner: Tensor,
    inner_bias: Tensor,
    outer: Tensor,
    bias: Tensor,
    ends: Tensor,
    n: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    r"""Draws from :math:`\theta_i = b_i + D_i \cdot s_{<i} + V_i \cdot \tanh(c + W s)`, by degree.

    Arguments:
        direct, inner, outer: D ``(N, N)``, W ``(H, N)`` and V ``(N, H)``, masked.
        inner_bias, bias: c ``(H,)`` and b ``(N,)``.
        ends: How many of the units are complete once site i is known, ``(N,)``.
        n: How many.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        Spins and fields, ``(n, N)`` each.
    """
    weights = direct, inner, inner_bias, outer, bias, ends
    units = np.empty((len(inner), _SIDE), np.float32)
    return _draw(_by_degree, weights, len(bias), n, units, generator)


def _draw(kernel, weights, n_sites, n, units, generator):
    tiles = -(-n // _SIDE)
    spins = torch.empty(tiles, n_sites, _SIDE)
    fields = torch.empty_like(spins)
    seeds = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    arrays = [weight.detach().contiguous().numpy() for weight in weights]
    kernel(
        seeds,
        np.empty(_SIDE // 2, np.uint64),
        units,
        *arrays,
        spins.numpy(),
        fields.numpy(),
    )
    return tuple(x.transpose(1, 2).reshape(-1, n_sites)[:n] for x in (spins, fields))


@jit
def _per_site(state, words, units, weights, outer, bias, spins, fields):
    mix(state)
    for tile in range(len(spins)):
        s = spins[tile]
        for i in range(len(bias)):
            theta, hidden = fields[tile, i], units[tile, i]
            theta[:] = bias[i]
            _add(theta, weights[i, 0], s, i)
            for k in range(outer.shape[1]):
                hidden[k] = float32(0)
                _add(hidden[k], weights[i, 1 + k], s, i)
                tanh(hidden[k])
            _add(theta, outer[i], hidden, outer.shape[1])
            fill(state, words)
            decide(words.view(np.uint32), theta, s[i], float32(2), float32(-1))


@jit
def _by_degree(state, words, hidden, direct, inner, inner_bias, outer, bias, ends, spins, fields):
    mix(state)
    for tile in range(len(spins)):
        s, done = spins[tile], 0
        for i in range(len(bias)):
            theta = fields[tile, i]
            theta[:] = bias[i]
            _add(theta, direct[i], s, i)
            _add(theta, outer[i], hidden, done)
            fill(state, words)
            decide(words.view(np.uint32), theta, s[i], float32(2), float32(-1))
            for k in range(done, ends[i]):
                hidden[k] = inner_bias[k]
                _add(hidden[k], inner[k], s, i + 1)
                tanh(hidden[k])
            done = ends[i]


@inner
def _add(total, weights, rows, n):
    """``total += weights[:n] @ rows[:n]``, summed in registers."""
    _one_by_eight(total, 0, _SIDE, weights, 0, 0, 1, rows, 0, _SIDE, n)

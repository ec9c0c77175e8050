r"""Compiled draws from causal convolutions, site after site; 24 configurations side by side.

A feature is computed once, as soon as the spins it depends on are known. What that takes is a product of
weights with the features of a window: some rows of it above, which lie side by side in memory as every row is
kept with its periodic continuation, and the sites to the left. Blocks of four channels by 24 configurations
are summed in registers, twelve vectors of eight, so that a weight or a feature that is read serves several
multiplications. For float32 on a CPU; the model has the same in torch for the rest.

On 16 x 16 sites, three layers of 32 channels and windows of 5 columns take 14 million operations a draw. A
core of a Zen 3 makes 5100 draws a second, 71 GFLOP/s where the bare block of products makes 81.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import float32
from torch import Tensor
from torch.nn.functional import pad

from .compiled import LANES, adder, aligned, inner, jit, tanh
from .fused import LANES as STREAMS
from .fused import decide, fill, mix

_VECTORS, _BLOCK = 3, 4  # of configurations, of channels
_SIDE = _VECTORS * LANES
_COLUMNS = 4  # whose windows fit in the first cache


class Window(NamedTuple):
    """Weights of one causal convolution.

    Attributes:
        rows: Of the rows above, ``(outputs, inputs, reach, 2 reach + 1)``.
        left: Of the sites to the left and, but for the first, the site itself, ``(outputs, inputs, n)``.
        bias: ``(outputs,)``.
    """

    rows: Tensor
    left: Tensor
    bias: Tensor


def draw_by_windows(
    windows: list[Window],
    edges: tuple[Tensor, Tensor],
    outer: Tensor,
    direct: Tensor,
    bias: Tensor,
    shape: tuple[int, int],
    n: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    r"""Draws from :math:`\theta_i = b_i + D_i \cdot s_{<i} + v \cdot x_i`, x the features of the last window.

    Arguments:
        windows: In order; every feature but the first ones is a tanh plus the feature below.
        edges: Of the first features: weights of the first row for each row in turn,
            ``(width, 1, 2 reach + 1)``, and of the first column, up to that row, ``(width, 1, reach + 1)``.
        outer: v, ``(width,)``.
        direct: D, ``(N, N)``; what is not below the diagonal is not read.
        bias: b, ``(N,)``.
        shape: ``(rows, columns)``.
        n: How many.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        Spins and fields, ``(n, N)`` each.
    """
    columns, reach = shape[1], windows[0].rows.shape[2]
    width = -(-len(outer) // _BLOCK) * _BLOCK
    packed = [_pack(window, width if layer else 1, width) for layer, window in enumerate(windows)]
    starts = np.cumsum([0] + [len(weights) for weights in packed])
    weights = aligned(starts[-1])
    torch.cat(packed, out=torch.from_numpy(weights))
    top, side = (_pack_edge(edge, len(outer), width) for edge in edges)
    biases = torch.stack([pad(window.bias, (0, width - len(outer))) for window in windows])
    tiles = -(-n // _SIDE)
    spins, fields = (aligned(tiles * len(bias) * _SIDE).reshape(tiles, -1) for _ in range(2))
    seeds = torch.empty(4, STREAMS, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    size = (reach + 1) * (columns + 2 * reach) * width * _SIDE
    _draw(
        seeds,
        np.empty(STREAMS, np.uint64),
        reach,
        columns,
        weights,
        starts,
        top,
        side,
        biases.numpy(),
        pad(outer, (0, width - len(outer))).contiguous().numpy(),
        direct.contiguous().numpy().reshape(-1),
        bias.contiguous().numpy(),
        aligned(len(windows) * size).reshape(-1, size),
        aligned(columns * width * _SIDE),
        aligned((columns + 2 * reach) * _SIDE),
        np.zeros((shape[0] + reach) * _SIDE, np.float32),
        spins,
        fields,
    )
    return tuple(
        torch.from_numpy(x).view(tiles, -1, _SIDE).transpose(1, 2).reshape(-1, len(bias))[:n]
        for x in (spins, fields)
    )


def _pack(window: Window, inputs: int, outputs: int) -> Tensor:
    """Flat: for each row, then for the sites to the left: blocks of outputs, positions, inputs, outputs."""
    parts = [*window.rows.unbind(2), window.left]
    return torch.cat([_blocks(part, inputs, outputs) for part in parts])


def _pack_edge(edge: Tensor, width: int, outputs: int) -> np.ndarray:
    """Flat, for each row or column: blocks of outputs, positions, outputs."""
    parts = [_blocks(part, 1, outputs) for part in edge.detach().split(width)]
    return torch.cat(parts).numpy()


def _blocks(weights: Tensor, inputs: int, outputs: int) -> Tensor:
    """``(outputs, inputs, positions)`` with zeros up to as many of both; flat."""
    missing = (0, 0, 0, inputs - weights.shape[1], 0, outputs - weights.shape[0])
    return pad(weights, missing).unflatten(0, (-1, _BLOCK)).permute(0, 3, 2, 1).flatten()


_block, _one = adder(_BLOCK, _VECTORS), adder(1, _VECTORS)


@inner
def _add_block(sums, target, weights, first, features, source, n):
    """Adds to :data:`_BLOCK` rows of sums the products of n weights each with n rows of features."""
    _block(sums, target, _SIDE, weights, first, 1, _BLOCK, features, source, _SIDE, n)


@inner
def _add_one(sums, target, weights, first, features, source, n):
    """The same for one row."""
    _one(sums, target, _SIDE, weights, first, 1, 1, features, source, _SIDE, n)


@jit
def _draw(
    state,
    words,
    reach,
    columns,
    weights,
    starts,
    top,
    side,
    biases,
    outer,
    direct,
    bias,
    grids,
    last,
    first_row,
    first_column,
    spins,
    fields,
):
    depth, width = biases.shape
    across, size = columns + 2 * reach, width * _SIDE
    mix(state)
    for tile in range(len(spins)):
        s, theta = spins[tile], fields[tile]
        for i in range(len(bias)):
            row, column = i // columns, i % columns
            slot = row % (reach + 1)
            at = slot * across + column
            here = (at + reach) * size
            if column == 0:
                for layer in range(depth):
                    line = grids[layer + 1, here : here + columns * size] if layer + 1 < depth else last
                    start, inputs = starts[layer], width if layer else 1
                    _spread(biases[layer], line)
                    _above(line, width, weights, start, grids[layer], row, reach, columns, inputs)
                    if row and layer == 0:
                        for c in range(columns):
                            _edge(line[c * size : (c + 1) * size], top, row, first_row, c, 2 * reach + 1)
            for layer in range(depth):
                total = last[column * size : (column + 1) * size]
                if layer + 1 < depth:
                    total = grids[layer + 1, here : here + size]
                inputs = width if layer else 1
                start = starts[layer] + reach * (2 * reach + 1) * width * inputs
                _left(total, width, weights, start, grids[layer], at, max(0, reach - column), reach, inputs)
                if layer:
                    tanh(total)
                    _sum(total, grids[layer, here : here + size])
                else:
                    if column:
                        _edge(total, side, column, first_column, row, reach + 1)
                    tanh(total)
            first, end = i * _SIDE, (i + 1) * _SIDE
            for lane in range(first, end):
                theta[lane] = bias[i]
            _add_one(theta, first, outer, 0, last, column * size, width)
            _add_one(theta, first, direct, i * len(bias), s, 0, i)
            fill(state, words)
            decide(words.view(np.uint32)[:_SIDE], theta[first:end], s[first:end], float32(2), float32(-1))
            at = (at + reach) * _SIDE
            _copy(s[first:end], grids[0, at : at + _SIDE])
            if column == 0:
                there = (reach + row) * _SIDE
                _copy(s[first:end], first_column[there : there + _SIDE])
            if column == columns - 1:
                for layer in range(depth):
                    _continue(grids[layer], slot * across, reach, columns, size if layer else _SIDE)
                if row == 0:
                    _copy(grids[0, : first_row.size], first_row)


@inner
def _above(sums, width, weights, start, grid, row, reach, columns, inputs):
    """Adds what the rows above contribute, to a whole row; a few columns at a time, whose windows overlap."""
    across, n = columns + 2 * reach, (2 * reach + 1) * inputs
    for nearest in range(0, columns, _COLUMNS):
        for above in range(max(0, reach - row), reach):
            source = (row - reach + above) % (reach + 1) * across
            for c in range(0, width, _BLOCK):
                first = start + (above * width + c) * n
                for column in range(nearest, min(nearest + _COLUMNS, columns)):
                    target = (column * width + c) * _SIDE
                    _add_block(sums, target, weights, first, grid, (source + column) * inputs * _SIDE, n)


@inner
def _left(sums, width, weights, start, grid, at, missing, reach, inputs):
    """Adds what the sites to the left contribute, to one site; ``missing`` of them lie outside."""
    positions = reach + (inputs > 1)
    for c in range(0, width, _BLOCK):
        first = start + (c * positions + missing * _BLOCK) * inputs
        source, n = (at + missing) * inputs * _SIDE, (positions - missing) * inputs
        _add_block(sums, c * _SIDE, weights, first, grid, source, n)


@inner
def _edge(sums, weights, index, edge, at, n):
    """Adds what n spins of the first row or column contribute to one site, by the weights of its index."""
    width = sums.size // _SIDE
    for c in range(0, width, _BLOCK):
        _add_block(sums, c * _SIDE, weights, (index * width + c) * n, edge, at * _SIDE, n)


@inner
def _continue(grid, first, reach, columns, size):
    """Copies the ends of a row to where it goes on periodically."""
    for k in range(reach * size):
        grid[first * size + k] = grid[(first + columns) * size + k]
        grid[(first + columns + reach) * size + k] = grid[(first + reach) * size + k]


@inner
def _spread(numbers, rows):
    """Every number to the configurations of its channel, column by column."""
    for k in range(rows.size // _SIDE):
        row = rows[k * _SIDE : (k + 1) * _SIDE]
        for lane in range(_SIDE):
            row[lane] = numbers[k % numbers.size]


@inner
def _sum(total, more):
    for k in range(total.size):
        total[k] += more[k]


@inner
def _copy(source, target):
    for k in range(source.size):
        target[k] = source[k]

r"""Compiled draws from causal convolutions, site after site; 24 configurations side by side.

A feature is computed once, as soon as the spins it depends on are known. What rows above contribute is known
for a row as a whole, and periodic along it. So it is multiplied out between Fourier components, as soon as a
row is complete, and kept for the rows below; a complex product takes three real ones (Gauss). Windows of 5
columns in a row of 16 then take 23 products with matrices of weights instead of 80. Only the sites to the
left are added site by site.

Blocks of four channels by 24 configurations are summed in registers, twelve vectors of eight, so that a
weight or a feature that is read serves several multiplications. For float32 on a CPU; the model has the same
in torch for the rest.

On 16 x 16 sites, three layers of 32 channels and windows of 5 columns take 14 million operations a draw site
by site, and 8.3 million so. A core of a Zen 3 makes 7800 draws a second, 65 GFLOP/s where the bare block of
products makes 81.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import float32
from torch import Tensor

from .compiled import LANES, adder, aligned, inner, jit, tanh
from .fused import LANES as STREAMS
from .fused import decide, fill, mix

_VECTORS, _BLOCK = 3, 4  # of configurations, of channels
_SIDE = _VECTORS * LANES


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
            ``(rows * width, 1, 2 reach + 1)``, and of the first column, up to that row, for each column,
            ``(columns * width, 1, reach + 1)``.
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
    split, weigh, join = bilinear(columns, reach)
    deep = [Window(_wide(rows, 1), _wide(left, 1), bias) for rows, left, bias in windows[1:]]
    above, left = [], []
    for window in [windows[0], *deep]:
        above.append(_pack((window.rows.double() @ weigh.T).permute(2, 3, 0, 1)))
        left.append(_pack(window.left.mT.flatten(1)))
    top, side = (edge.detach().unflatten(0, (-1, len(outer))).squeeze(2) for edge in edges)
    biases = torch.stack([_wide(window.bias, 0) for window in windows])
    width, tiles = biases.shape[1], -(-n // _SIDE)
    line, parts = (len(_wide(matrix, 0)) * width * _SIDE for matrix in (join, split))
    spins, fields = (aligned(tiles * len(bias) * _SIDE).reshape(tiles, -1) for _ in range(2))
    seeds = torch.empty(4, STREAMS, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    _draw(
        seeds,
        np.empty(STREAMS, np.uint64),
        shape,
        _flat(_wide(split, 0)),
        _flat(_wide(join, 0)),
        _flat(torch.cat(above)),
        _flat(torch.cat(left)),
        _flat(_pack((top.double() @ weigh.T).mT.unsqueeze(-1))),
        _flat(_pack(side)),
        columns * biases.detach().numpy(),
        _flat(_wide(outer, 0)),
        _flat(direct),
        _flat(bias),
        aligned((len(windows) + 1) * line).reshape(-1, line),
        aligned(parts),
        aligned(parts // width),
        aligned(len(windows) * reach * parts).reshape(len(windows), reach, parts),
        np.zeros((shape[0] + reach) * _SIDE, np.float32),
        spins,
        fields,
    )
    return tuple(
        torch.from_numpy(x).view(tiles, -1, _SIDE).transpose(1, 2).reshape(-1, len(bias))[:n]
        for x in (spins, fields)
    )


def bilinear(n: int, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Matrices A, B and C that take a periodic window of reach r with few products:

    .. math:: \sum_k w_k x_{c + k - r} = \left[ C (B w \odot A x) \right]_c .

    A and B give Fourier components, :math:`a + i b` of x and :math:`c + i d` of w, as the factors of

    .. math:: k_1 = c (a + b), \quad k_2 = (d - c) a, \quad k_3 = (c + d) b, \qquad
        (a + i b)(c + i d) = k_1 - k_3 + i (k_1 + k_2),

    and of :math:`c a` alone where there is no imaginary part; C goes back. In float64.

    Arguments:
        n: Columns.
        reach: r; the window has 2 r + 1 columns.

    Returns:
        ``(m, n)``, ``(m, 2 reach + 1)`` and ``(n, m)`` with m products, ``3 n // 2`` less one if n is even.

    Example:
        >>> A, B, C = bilinear(16, 2)
        >>> x, w = torch.arange(16.0).double(), torch.tensor([0.0, 0, 0, 0, 1]).double()
        >>> len(A), (C @ ((B @ w) * (A @ x))).round().tolist()[:3]
        (23, [2.0, 3.0, 4.0])
    """
    waves = 2 * torch.pi / n * torch.arange(n // 2 + 1, dtype=torch.float64).unsqueeze(1)
    sites, steps = waves * torch.arange(n), waves * torch.arange(-reach, reach + 1)
    a, b, c, d = sites.cos(), -sites.sin(), steps.cos(), steps.sin()
    both = slice(1, (n + 1) // 2)  # components with an imaginary part, each for itself and its conjugate
    alone = [k for k in range(len(waves)) if k == 0 or 2 * k == n]
    split = torch.cat([a[alone], (a + b)[both], a[both], b[both]])
    weigh = torch.cat([c[alone], c[both], (d - c)[both], (c + d)[both]])
    join = torch.cat([a[alone], 2 * (a + b)[both], 2 * b[both], -2 * a[both]]) / n
    return split, weigh, join.T


def _wide(x: Tensor, dim: int) -> Tensor:
    """With zeros up to a multiple of the block along a dimension."""
    missing = -x.shape[dim] % _BLOCK
    return torch.cat([x, x.new_zeros(*x.shape[:dim], missing, *x.shape[dim + 1 :])], dim) if missing else x


def _pack(weights: Tensor) -> Tensor:
    """``(..., outputs, terms)``: for each of the first places: blocks of outputs, terms, outputs; flat."""
    return _wide(weights, weights.ndim - 2).unflatten(-2, (-1, _BLOCK)).mT.flatten()


def _flat(x: Tensor) -> np.ndarray:
    """As float32 numbers in a row."""
    numbers = aligned(x.numel())
    numbers[:] = x.detach().flatten()
    return numbers


_block, _one, _set_block = adder(_BLOCK, _VECTORS), adder(1, _VECTORS), adder(_BLOCK, _VECTORS, fresh=True)


@jit
def _draw(
    state,
    words,
    shape,
    split,
    join,
    above,
    left,
    top,
    side,
    biases,
    outer,
    direct,
    bias,
    lines,
    parts,
    first_parts,
    sums,
    first_column,
    spins,
    fields,
):
    (rows, columns), (depth, width) = shape, biases.shape
    reach, size, planes = sums.shape[1], width * _SIDE, top.size // (rows * width)
    sums[:] = 0
    mix(state)
    for tile in range(len(spins)):
        s, theta = spins[tile], fields[tile]
        for i in range(len(bias)):
            row, column = i // columns, i % columns
            if column == 0:
                _begin_row(lines, sums, biases, join, top, first_parts, row, planes)
            start = 0
            for layer in range(depth):
                inputs, n = (width, reach + 1) if layer else (1, reach)
                total = lines[layer + 1, column * size : (column + 1) * size]
                _left(total, width, left, start, lines[layer], column, reach, n, inputs)
                start += n * width * inputs
                if layer:
                    tanh(total)
                    _sum(total, lines[layer, column * size : (column + 1) * size])
                else:
                    if column:
                        _edge(total, side, column, first_column, row, reach + 1)
                    tanh(total)
            first, end = i * _SIDE, (i + 1) * _SIDE
            for lane in range(first, end):
                theta[lane] = bias[i]
            _add_one(theta, first, outer, 0, lines[depth], column * size, width)
            _add_one(theta, first, direct, i * len(bias), s, 0, i)
            fill(state, words)
            decide(words.view(np.uint32)[:_SIDE], theta[first:end], s[first:end], float32(2), float32(-1))
            _copy(s[first:end], lines[0, column * _SIDE : (column + 1) * _SIDE])
            if column == 0:
                _copy(s[first:end], first_column[(reach + row) * _SIDE : (reach + row + 1) * _SIDE])
            if column == columns - 1:
                _end_row(lines, sums, split, above, parts, row, shape, planes, width)
                if row == 0:
                    _transform(first_parts, split, lines[0], columns, _SIDE)


@inner
def _begin_row(lines, sums, biases, join, top, first_parts, row, planes):
    """Takes what the rows above contribute to all features of a row out of the sums."""
    depth, width = biases.shape
    for layer in range(depth):
        total = sums[layer, row % sums.shape[1]]
        _add(biases[layer], total[: width * _SIDE])
        if row and layer == 0:
            _multiply(total, width, top, row * planes * width, first_parts, planes, 1)
        _transform(lines[layer + 1], join, total, planes, width * _SIDE)
        total[:] = 0


@inner
def _end_row(lines, sums, split, above, parts, row, shape, planes, width):
    """Adds what a complete row contributes to the sums of the rows below."""
    (depth, reach), start = sums.shape[:2], 0
    for layer in range(depth):
        inputs = width if layer else 1
        _transform(parts, split, lines[layer], shape[1], inputs * _SIDE)
        for below in range(row + reach, row, -1):
            if below < shape[0]:
                _multiply(sums[layer, below % reach], width, above, start, parts, planes, inputs)
            start += planes * width * inputs


@inner
def _transform(sums, matrix, rows, n, size):
    """Sets rows of sums, each of a size, to the product of a matrix with n rows."""
    for k in range(0, size, _SIDE):
        for r in range(0, matrix.size // n, _BLOCK):
            _set_block(sums, r * size + k, size, matrix, r * n, n, 1, rows, k, size, n)


@inner
def _multiply(sums, width, weights, start, parts, planes, inputs):
    """Adds the product of weights and features for each Fourier component."""
    for plane in range(planes):
        for c in range(plane * width, (plane + 1) * width, _BLOCK):
            _add_block(sums, c * _SIDE, weights, start + c * inputs, parts, plane * inputs * _SIDE, inputs)


@inner
def _left(sums, width, weights, start, line, column, reach, positions, inputs):
    """Adds what the sites to the left contribute, to one site."""
    first = max(0, column - reach)
    missing = first + reach - column
    n = (positions - missing) * inputs
    for c in range(0, width, _BLOCK):
        at = start + (c * positions + missing * _BLOCK) * inputs
        _add_block(sums, c * _SIDE, weights, at, line, first * inputs * _SIDE, n)


@inner
def _edge(sums, weights, index, edge, at, n):
    """Adds what n spins of the first column contribute to one site, by the weights of its index."""
    width = sums.size // _SIDE
    for c in range(0, width, _BLOCK):
        _add_block(sums, c * _SIDE, weights, (index * width + c) * n, edge, at * _SIDE, n)


@inner
def _add_block(sums, target, weights, first, features, source, n):
    """Adds to :data:`_BLOCK` rows of sums the products of n weights each with n rows of features."""
    _block(sums, target, _SIDE, weights, first, 1, _BLOCK, features, source, _SIDE, n)


@inner
def _add_one(sums, target, weights, first, features, source, n):
    """The same for one row."""
    _one(sums, target, _SIDE, weights, first, 1, 1, features, source, _SIDE, n)


@inner
def _add(numbers, rows):
    """Adds each number to the configurations of its channel."""
    for c in range(numbers.size):
        for lane in range(c * _SIDE, (c + 1) * _SIDE):
            rows[lane] += numbers[c]


@inner
def _sum(total, more):
    for k in range(total.size):
        total[k] += more[k]


@inner
def _copy(source, target):
    for k in range(source.size):
        target[k] = source[k]

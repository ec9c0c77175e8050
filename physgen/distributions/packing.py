"""Rows of two numbers as bits, 32 of them to a word."""

import numpy as np
from llvmlite import ir
from numba import float32, types, uint32, uint64
from numba.extending import intrinsic
from torch import Tensor

from .compiled import FLOAT, LANES, WORD, eight, inner, jit, jit_reordered, place

HIGH = 32  # bits of a word


def packed(rows: Tensor) -> tuple[np.ndarray, int]:
    """Bits of ``(n, K)`` rows, 32 numbers to a word, ``(K / 32, n)``: which are 1.

    With them the other number, 0 or -1; or 1, and then the bits mean nothing, where there are more than two.
    """
    n, K = rows.shape
    words = np.empty((-(-K // HIGH), n), np.uint32)
    if rows.is_contiguous() or not rows.mT.is_contiguous():
        return words, _pack(rows.detach().contiguous().numpy(), words)
    return words, _pack_columns(rows.detach().mT.numpy(), words)


@jit
def _pack(rows, words):
    """Bits of which numbers are 1; returns the other value, 0 or -1, or 1 if there are others still."""
    (n, K), flat = rows.shape, rows.reshape(-1)
    with_zero, with_minus = True, True
    for i in range(n):
        for w in range(words.shape[0]):
            first, last = 32 * w, min(32 * w + 32, K)
            if last - first == 32:
                at = i * K + first
                up = equal(flat, at, np.float32(1))
                rest = ~up
                with_zero &= equal(flat, at, np.float32(0)) == rest
                with_minus &= equal(flat, at, np.float32(-1)) == rest
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


@jit_reordered
def _pack_columns(columns, words):
    """The same of rows that are the columns of ``(K, n)``."""
    one, from_zero, from_minus = float32(1), float32(0), float32(0)  # the latter are 0 where no value is off
    words[:] = 0
    for k in range(columns.shape[0]):
        row, word, bit = columns[k], words[k // 32], uint32(1) << uint32(k % 32)
        for i in range(row.size):
            x = row[i]
            word[i] |= bit if x == one else uint32(0)
            from_zero += abs(x * (x - one))
            from_minus += abs((x + one) * (x - one))
    if from_zero == 0:
        return 0
    return -1 if from_minus == 0 else 1


@inner
def turned(joint, n, rows, words, visible):
    """Words of 32 rows for each unit, and how much oftener it is up in the later rows than in the first n."""
    for k in range(visible.size):
        at, bit, early, late = k // HIGH * rows, uint32(k % HIGH), 0, 0
        for w in range(len(words)):
            before = min(max(n - w * HIGH, 0), HIGH)
            data = (uint64(1) << uint64(before)) - uint64(1)
            known = (uint64(1) << uint64(min(rows - w * HIGH, HIGH))) - uint64(1)
            word = _column(joint, at + w * HIGH, bit) & known
            early += _ones(uint32(word & data))
            late += _ones(uint32(word & ~data))
            words[w, k] = word
        visible[k] = np.float32(late) / np.float32(rows - n) - np.float32(early) / np.float32(n)


@intrinsic
def _column(typing, words, index, bit):  # noqa: ARG001
    """32 bits: this one of each of the words from ``index``."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        words, index, bit = arguments
        steps = builder.bitcast(builder.sub(WORD(HIGH - 1), bit), FLOAT)
        integers, found = ir.VectorType(WORD, LANES), WORD(0)
        steps = builder.bitcast(eight(builder, steps), integers)
        for part in range(0, HIGH, LANES):
            row = builder.load(place(builder, words, index, part), align=4)
            row = builder.shl(builder.bitcast(row, integers), steps)
            up = builder.icmp_signed("<", row, ir.Constant(integers, [0] * LANES))
            up = builder.zext(builder.bitcast(up, ir.IntType(LANES)), WORD)
            found = builder.or_(found, builder.shl(up, WORD(part)))
        return found

    return types.uint32(words, index, bit), generate


@intrinsic
def _ones(typing, word):  # noqa: ARG001
    """How many bits are 1."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.uint32(word), generate


@intrinsic
def equal(typing, flat, index, value):  # noqa: ARG001
    """32 bits: which of the numbers from ``index`` equal the value."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        flat, index, value = arguments
        same, bits = eight(builder, value), WORD(0)
        for part in range(HIGH // LANES):
            found = builder.load(place(builder, flat, index, LANES * part), align=4)
            mask = builder.bitcast(builder.fcmp_ordered("==", found, same), ir.IntType(LANES))
            bits = builder.or_(bits, builder.shl(builder.zext(mask, WORD), WORD(LANES * part)))
        return bits

    return types.uint32(flat, index, value), generate

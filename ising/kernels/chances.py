r"""One random decision for each of 512 lanes: is a uniform number below the probability of that lane?

The uniform number u and the probability p are compared binary digit by binary digit, the most significant
first; random words are the digits of u. The first digit that differs decides, so each digit decides half of
the lanes. Six digits are compared in every lane of 16 rows. Then one lane in 64 is still open, and two rows
take the next digits for all sixteen: a lane that is open in a third row as well waits for another turn.
Every decision has its own digits, and p the resolution :math:`2^{-64}`.

A lane is in one of 1, 2, 4, 8 or 16 cases, told apart by up to four bits, each case with its own probability.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
"""

import numpy as np

from .lanes import (
    AND_NOT,
    CHOOSE,
    EQUAL_AND,
    LANES,
    NEITHER,
    NONE,
    NOT_ALL,
    WORDS,
    aligned,
    load,
    logic,
    some,
    splat,
    store,
)
from .shishua import draw
from .xoshiro import bare, inline, jit

GROUP = 16  # rows decided together
DIGITS, FIRST = 64, 6  # digits in all, and those compared in every lane
CERTAIN = 15 / 16  # probability of the lanes that are not asked: they are decided by four digits

# The scratch memory of a group: what is open, the answers, the cases, and what the two slots have taken over.
OPEN, ANSWER, CASE, SLOT_A, SLOT_B = 0, GROUP, 2 * GROUP, 6 * GROUP, 7 * GROUP
SCRATCH = 8 * GROUP


def digits(probabilities: np.ndarray) -> np.ndarray:
    """The binary digits of probabilities ``(*, cases, lanes)``, as rows ``(*, 64, cases, 8)``.

    Lane l is bit ``l % 64`` of word ``l // 64``. One lane stands for all.

    Example:
        >>> rows = digits(np.array([[0.5], [0.25]]))
        >>> rows.shape, (rows[0, 0] == 2**64 - 1).all(), rows[0, 1].any(), rows[2:].any()
        ((64, 2, 8), np.True_, np.False_, np.False_)
    """
    *outer, cases, _ = probabilities.shape
    rows = aligned((*outer, DIGITS, cases, WORDS))
    every_lane = np.ascontiguousarray(np.broadcast_to(units(probabilities), (*outer, cases, LANES)))
    _spell(every_lane.reshape(-1, cases, WORDS, 64), rows.reshape(-1, DIGITS, cases, WORDS))
    return rows


def units(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities in units of :math:`2^{-64}`, uint64."""
    return (np.clip(probabilities, 0, 1 - 2.0**-53) * 2.0**64).astype(np.uint64)


@jit
def _spell(units, rows):
    """``(n, cases, 8, 64)`` numbers to ``(n, 64, cases, 8)`` words of their digits, the highest first."""
    block = np.empty(64, dtype=np.uint64)
    for n in range(units.shape[0]):
        for case in range(units.shape[1]):
            for word in range(WORDS):
                for k in range(64):
                    block[k] = units[n, case, word, 63 - k]
                transpose(block)
                for k in range(64):
                    rows[n, k, case, word] = block[k]


@bare
def transpose(block):
    """Rows of a square of 64 by 64 bits to its columns, both from the highest bit on."""
    width, mask = 32, np.uint64(0xFFFFFFFF)
    while width:
        shift = np.uint64(width)
        for first in range(0, 64, 2 * width):
            for k in range(first, first + width):
                swap = (block[k] ^ (block[k + width] >> shift)) & mask
                block[k] ^= swap
                block[k + width] ^= swap << shift
        width >>= 1
        mask ^= mask << np.uint64(width)


@inline
def digit(which, c3, c2, c1, c0, rows, at):
    """The row of the case of each lane, from ``2**len(which)`` rows beginning at ``at``."""
    if len(which) == 0:
        return load(rows, at)
    low = logic(c0, load(rows, at + 1), load(rows, at), CHOOSE)
    if len(which) > 1:
        low = logic(c1, logic(c0, load(rows, at + 3), load(rows, at + 2), CHOOSE), low, CHOOSE)
    if len(which) > 2:
        high = logic(c0, load(rows, at + 5), load(rows, at + 4), CHOOSE)
        high = logic(c1, logic(c0, load(rows, at + 7), load(rows, at + 6), CHOOSE), high, CHOOSE)
        low = logic(c2, high, low, CHOOSE)
    if len(which) > 3:
        third = logic(c0, load(rows, at + 9), load(rows, at + 8), CHOOSE)
        third = logic(c1, logic(c0, load(rows, at + 11), load(rows, at + 10), CHOOSE), third, CHOOSE)
        high = logic(c0, load(rows, at + 13), load(rows, at + 12), CHOOSE)
        high = logic(c1, logic(c0, load(rows, at + 15), load(rows, at + 14), CHOOSE), high, CHOOSE)
        low = logic(c3, logic(c2, high, third, CHOOSE), low, CHOOSE)
    return low


@inline
def begin(which, scratch, g, certain, c3, c2, c1, c0, rare, chances, at, w0, w1, w2, w3, w4, w5):
    """Compares the first six digits of row g, which are w0 to w5, and notes what is left open.

    Arguments:
        which: A tuple with one entry for each bit that tells the cases apart: its length is known when this
            is compiled.
        certain: Where the answer is yes with probability 15/16, whatever the case.
        c3: The bits that tell the cases apart; those in use are c0, then c1, and so on.
        rare: Whether no probability reaches 1/4, so that the first two digits of all are zero.
        chances: Rows of :func:`digits`, beginning at ``at``.
    """
    cases = 1 << len(which)
    if rare:
        answer, left = splat(np.uint64(0)), logic(certain, w0, w1, NONE)
    else:
        d = digit(which, c3, c2, c1, c0, chances, at)
        answer, left = logic(d, certain, d, AND_NOT), logic(certain, w0, d, NEITHER)
        d = digit(which, c3, c2, c1, c0, chances, at + cases)
        answer, left = logic(left, d, answer, CHOOSE), logic(left, w1, d, EQUAL_AND)
    d = digit(which, c3, c2, c1, c0, chances, at + 2 * cases)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w2, d, EQUAL_AND)
    d = digit(which, c3, c2, c1, c0, chances, at + 3 * cases)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w3, d, EQUAL_AND)
    d = digit(which, c3, c2, c1, c0, chances, at + 4 * cases)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w4, d, EQUAL_AND)
    d = digit(which, c3, c2, c1, c0, chances, at + 5 * cases)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w5, d, EQUAL_AND)
    store(scratch, OPEN + g, left)
    store(scratch, ANSWER + g, answer | logic(certain, w0 & w1, w2 & w3, NOT_ALL))
    if len(which) > 0:
        store(scratch, CASE + g, c0)
    if len(which) > 1:
        store(scratch, CASE + GROUP + g, c1)
    if len(which) > 2:
        store(scratch, CASE + 2 * GROUP + g, c2)
    if len(which) > 3:
        store(scratch, CASE + 3 * GROUP + g, c3)


@inline
def ask(scratch, g, asked, chances, w0, w1, w2, w3, w4, w5):
    """As :func:`begin`, for one case for all; the answer is no in the lanes that are not asked."""
    d = load(chances, 0)
    answer, left = d & asked, logic(asked, w0, d, EQUAL_AND)
    d = load(chances, 1)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w1, d, EQUAL_AND)
    d = load(chances, 2)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w2, d, EQUAL_AND)
    d = load(chances, 3)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w3, d, EQUAL_AND)
    d = load(chances, 4)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w4, d, EQUAL_AND)
    d = load(chances, 5)
    answer, left = logic(left, d, answer, CHOOSE), logic(left, w5, d, EQUAL_AND)
    store(scratch, OPEN + g, left)
    store(scratch, ANSWER + g, answer)


@inline
def finish(which, scratch, size, chances, at, s0, s1, s2, s3, counter, increment):
    """Decides what is open in all rows; returns the state of the generator.

    ``size`` is 16, but as a variable: loops of known length are unrolled until the registers do not suffice.
    """
    cases = 1 << len(which)
    nothing = splat(np.uint64(0))
    waiting = True
    while waiting:
        a3 = a2 = a1 = a0 = b3 = b2 = b1 = b0 = taken_a = taken_b = third = nothing
        for g in range(size):
            left = load(scratch, OPEN + g)
            in_a = logic(left, taken_a, taken_a, AND_NOT)
            left = left & taken_a
            in_b = logic(left, taken_b, taken_b, AND_NOT)
            left = left & taken_b
            taken_a, taken_b, third = taken_a | in_a, taken_b | in_b, third | left
            store(scratch, OPEN + g, left)
            store(scratch, SLOT_A + g, in_a)
            store(scratch, SLOT_B + g, in_b)
            if len(which) > 0:
                c0 = load(scratch, CASE + g)
                a0, b0 = logic(in_a, c0, a0, CHOOSE), logic(in_b, c0, b0, CHOOSE)
            if len(which) > 1:
                c1 = load(scratch, CASE + GROUP + g)
                a1, b1 = logic(in_a, c1, a1, CHOOSE), logic(in_b, c1, b1, CHOOSE)
            if len(which) > 2:
                c2 = load(scratch, CASE + 2 * GROUP + g)
                a2, b2 = logic(in_a, c2, a2, CHOOSE), logic(in_b, c2, b2, CHOOSE)
            if len(which) > 3:
                c3 = load(scratch, CASE + 3 * GROUP + g)
                a3, b3 = logic(in_a, c3, a3, CHOOSE), logic(in_b, c3, b3, CHOOSE)
        of_a = of_b = nothing
        i, last = at + FIRST * cases, at + DIGITS * cases
        while i < last:
            w0, w1, w2, w3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            d = digit(which, a3, a2, a1, a0, chances, i)
            of_a, taken_a = logic(taken_a, d, of_a, CHOOSE), logic(taken_a, w0, d, EQUAL_AND)
            d = digit(which, b3, b2, b1, b0, chances, i)
            of_b, taken_b = logic(taken_b, d, of_b, CHOOSE), logic(taken_b, w1, d, EQUAL_AND)
            i += cases
            d = digit(which, a3, a2, a1, a0, chances, i)
            of_a, taken_a = logic(taken_a, d, of_a, CHOOSE), logic(taken_a, w2, d, EQUAL_AND)
            d = digit(which, b3, b2, b1, b0, chances, i)
            of_b, taken_b = logic(taken_b, d, of_b, CHOOSE), logic(taken_b, w3, d, EQUAL_AND)
            i += cases
            if not some(taken_a | taken_b):
                break
        of_a, of_b = logic(of_a, taken_a, of_a, AND_NOT), logic(of_b, taken_b, of_b, AND_NOT)  # u = p
        for g in range(size):
            answer = logic(load(scratch, SLOT_A + g), of_a, load(scratch, ANSWER + g), CHOOSE)
            store(scratch, ANSWER + g, logic(load(scratch, SLOT_B + g), of_b, answer, CHOOSE))
        waiting = some(third)
    return s0, s1, s2, s3, counter

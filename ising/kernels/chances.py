# ruff: noqa: ARG001  the signatures are prescribed by numba
r"""One random decision for each of 512 lanes: is a uniform number below the probability of that lane?

Yes and no are exchanged where that makes the probability p less than one half. Six random bits number 64
cells; the whole part of 64 p of them say yes. From the lowest binary digit on, a cell says yes if the digits
so far did and the random bit is set (digit 0), or if they did or the bit is not set (digit 1): once no is
kept instead of yes where the next digit is 1, both are one "and" and one "exclusive or", also where the digit
differs between lanes. Six digits are thus worked out in every lane of 16 rows, for every case apart.

The cell of six zeros says no so far. There, in one lane out of 64, the rest of 64 p decides: new random bits
are compared with its digits, the highest first, until one differs. Two rows take them for all sixteen. A lane
that is open in a third row as well, or still open after ten digits, is settled alone. Every decision has its
own random bits, and p the resolution :math:`2^{-64}`.

A lane is in one of 1, 2, 4, 8 or 16 cases, told apart by up to four bits, each case with its own probability.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .lanes import (
    AND_NOT,
    ANY,
    CHOOSE,
    EQUAL_AND,
    FLIP_AND,
    NONE,
    OR_AND,
    fours,
    lanes,
    load,
    logic,
    logic_of,
    row_of,
    some,
    splat,
    store,
)
from .shishua import draw
from .tables import HEIGHT, REST
from .xoshiro import inline

GROUP = 16  # rows decided together
SLOT_DIGITS = 10  # digits of the rest that the two slots compare before anything is looked at
CERTAIN = 15 / 16  # probability of the cases that are not asked: that one of four bits is set

# The scratch memory of a group: what is open, the cases, and what the two slots have taken over, row by row;
# then the cases, what is still open and the answers of the slots; last a place for the answers of all rows.
OPEN, CASE, SLOT_A, SLOT_B, CASE_A, CASE_B = 0, GROUP, 5 * GROUP, 6 * GROUP, 7 * GROUP, 7 * GROUP + 1
LEFT_A, LEFT_B, OF_A, OF_B = (11 * GROUP + i for i in range(4))
ANSWER, SCRATCH = 12 * GROUP, 13 * GROUP


def _chosen(builder, bits, of_cases):
    """The value of the case that the bits tell, the lowest bit first; some may be the same, or None for 0."""

    def choose(bit, no, yes):
        if no is yes:
            return no
        if no is None:
            return builder.and_(bit, yes)
        if yes is None:
            return builder.and_(no, builder.not_(bit))
        return logic_of(builder, bit, yes, no, CHOOSE)

    for bit in bits:
        of_cases = [choose(bit, no, yes) for no, yes in zip(of_cases[::2], of_cases[1::2], strict=True)]
    return ir.Constant(lanes.vector, None) if of_cases[0] is None else of_cases[0]


@intrinsic
def digit(typing, which, asked, c3, c2, c1, c0, rows, at):
    """The row of the case of each lane, from ``2**len(which)`` rows beginning at ``at``.

    They are digits of the rest. A case that is not asked has none: 15/16 is a whole number of cells.
    """

    def generate(context, builder, signature, arguments):
        """The instructions: loads of the rows that are needed, and a tree of choices."""
        *bits, array, first = arguments[2:]
        first = context.cast(builder, first, signature.args[-1], types.int64)

        def row(case):
            return row_of(context, builder, signature.args[-2], array, builder.add(first, first.type(case)))

        table = [row(case) if len(asked[case]) else None for case in range(2 ** len(which))]
        return _chosen(builder, bits[::-1][: len(which)], table)

    return lanes(which, asked, c3, c2, c1, c0, rows, at), generate


@intrinsic
def decide(typing, which, asked, c3, c2, c1, c0, chances, at, w0, w1, w2, w3, w4, w5):
    """The answers by six random bits, and where they are still open, in the cell of zeros.

    Arguments:
        which: A tuple with one entry for each bit that tells the cases apart.
        asked: For each of 16 cases a tuple with one entry if it is asked; the others say yes with
            probability 15/16.
        c3: The bits that tell the cases apart; those in use are c0, then c1, and so on.
        chances: Rows of :func:`ising.kernels.tables.tables`, beginning at ``at``.
    """
    result, cases = types.UniTuple(lanes, 2), 2 ** len(which)

    def generate(context, builder, signature, arguments):
        """The instructions: the digits of every case that is asked, then a tree of choices."""
        bits, array, first, words = arguments[2:6], arguments[6], arguments[7], arguments[8:]
        first = context.cast(builder, first, signature.args[7], types.int64)

        def row(k, case):
            at = builder.add(first, first.type(k * cases + case))
            return row_of(context, builder, signature.args[6], array, at)

        def toss(case):
            yes = row(0, case)
            for k, word in enumerate(words, 1):
                yes = logic_of(builder, row(k, case), yes, word, FLIP_AND)
            return yes

        sure = logic_of(builder, *words[:2], builder.or_(*words[2:4]), ANY)
        left = logic_of(builder, sure, *words[4:], NONE)
        answers = [toss(case) if len(asked[case]) else sure for case in range(cases)]
        yes = _chosen(builder, bits[::-1][: len(which)], answers)
        return context.make_tuple(builder, result, [yes, left])

    return result(which, asked, c3, c2, c1, c0, chances, at, w0, w1, w2, w3, w4, w5), generate


@inline
def note(which, scratch, g, left, c3, c2, c1, c0):
    """Notes for :func:`finish` where row g is open, and the bits of its case."""
    store(scratch, OPEN + g, left)
    if len(which) > 0:
        store(scratch, CASE + g, c0)
    if len(which) > 1:
        store(scratch, CASE + GROUP + g, c1)
    if len(which) > 2:
        store(scratch, CASE + 2 * GROUP + g, c2)
    if len(which) > 3:
        store(scratch, CASE + 3 * GROUP + g, c3)


@inline
def settle(which, asked, scratch, row, case, chances, i, last, s0, s1, s2, s3, counter, increment):
    """Compares digits from i on where this row of scratch is set; leaves there where the answer turns.

    Every four words have a generator of their own, which stands still when nothing is open in them: so the
    numbers do not depend on how many words are looked at together.
    """
    n = 1 << len(which)
    c3 = c2 = c1 = c0 = of = splat(np.uint64(0))
    left = load(scratch, row)
    if len(which) > 0:
        c0 = load(scratch, case)
    if len(which) > 1:
        c1 = load(scratch, case + GROUP)
    if len(which) > 2:
        c2 = load(scratch, case + 2 * GROUP)
    if len(which) > 3:
        c3 = load(scratch, case + 3 * GROUP)
    while i < last and some(left):
        go = fours(left)
        w0, w1, w2, w3, t0, t1, t2, t3, next_counter = draw(s0, s1, s2, s3, counter, increment)
        s0, s1 = logic(go, t0, s0, CHOOSE), logic(go, t1, s1, CHOOSE)
        s2, s3 = logic(go, t2, s2, CHOOSE), logic(go, t3, s3, CHOOSE)
        counter = logic(go, next_counter, counter, CHOOSE)
        d = digit(which, asked, c3, c2, c1, c0, chances, i)
        of, left = logic(left, d, of, CHOOSE), logic(left, w0, d, EQUAL_AND)
        d = digit(which, asked, c3, c2, c1, c0, chances, i + n)
        of, left = logic(left, d, of, CHOOSE), logic(left, w1, d, EQUAL_AND)
        d = digit(which, asked, c3, c2, c1, c0, chances, i + 2 * n)
        of, left = logic(left, d, of, CHOOSE), logic(left, w2, d, EQUAL_AND)
        d = digit(which, asked, c3, c2, c1, c0, chances, i + 3 * n)
        of, left = logic(left, d, of, CHOOSE), logic(left, w3, d, EQUAL_AND)
        i += 4 * n
    store(scratch, row, logic(of, left, left, AND_NOT))  # u = p
    return s0, s1, s2, s3, counter


@inline
def finish(which, asked, scratch, size, chances, at, s0, s1, s2, s3, counter, increment):
    """Decides what is open in a group of rows, and returns the state of the generator.

    Each lane's first two open rows get a slot, and ten digits are compared in both; then what is left is
    settled row by row. ``size`` is 16, but as a variable: loops of known length are unrolled until the
    registers do not suffice.
    """
    n = 1 << len(which)
    nothing = splat(np.uint64(0))
    a3 = a2 = a1 = a0 = b3 = b2 = b1 = b0 = a = b = third = nothing
    for g in range(size):
        left = load(scratch, OPEN + g)
        more = left & a
        rest = more & b
        in_a, in_b = left ^ more, more ^ rest
        a, b, third = a | left, b | more, third | rest
        store(scratch, OPEN + g, rest)
        store(scratch, SLOT_A + g, in_a)
        store(scratch, SLOT_B + g, in_b)
        if len(which) > 0:
            c = load(scratch, CASE + g)
            a0, b0 = logic(a0, in_a, c, OR_AND), logic(b0, in_b, c, OR_AND)
        if len(which) > 1:
            c = load(scratch, CASE + GROUP + g)
            a1, b1 = logic(a1, in_a, c, OR_AND), logic(b1, in_b, c, OR_AND)
        if len(which) > 2:
            c = load(scratch, CASE + 2 * GROUP + g)
            a2, b2 = logic(a2, in_a, c, OR_AND), logic(b2, in_b, c, OR_AND)
        if len(which) > 3:
            c = load(scratch, CASE + 3 * GROUP + g)
            a3, b3 = logic(a3, in_a, c, OR_AND), logic(b3, in_b, c, OR_AND)
    of_a = of_b = nothing
    i = at + REST * n
    last = i + SLOT_DIGITS * n
    while i < last:
        w0, w1, w2, w3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
        d = digit(which, asked, a3, a2, a1, a0, chances, i)
        of_a, a = logic(a, d, of_a, CHOOSE), logic(a, w0, d, EQUAL_AND)
        d = digit(which, asked, b3, b2, b1, b0, chances, i)
        of_b, b = logic(b, d, of_b, CHOOSE), logic(b, w1, d, EQUAL_AND)
        d = digit(which, asked, a3, a2, a1, a0, chances, i + n)
        of_a, a = logic(a, d, of_a, CHOOSE), logic(a, w2, d, EQUAL_AND)
        d = digit(which, asked, b3, b2, b1, b0, chances, i + n)
        of_b, b = logic(b, d, of_b, CHOOSE), logic(b, w3, d, EQUAL_AND)
        i += 2 * n
    store(scratch, OF_A, logic(of_a, a, a, AND_NOT))
    store(scratch, OF_B, logic(of_b, b, b, AND_NOT))
    store(scratch, LEFT_A, a)
    store(scratch, LEFT_B, b)
    if len(which) > 0:
        store(scratch, CASE_A, a0)
        store(scratch, CASE_B, b0)
    if len(which) > 1:
        store(scratch, CASE_A + GROUP, a1)
        store(scratch, CASE_B + GROUP, b1)
    if len(which) > 2:
        store(scratch, CASE_A + 2 * GROUP, a2)
        store(scratch, CASE_B + 2 * GROUP, b2)
    if len(which) > 3:
        store(scratch, CASE_A + 3 * GROUP, a3)
        store(scratch, CASE_B + 3 * GROUP, b3)
    if some(logic(a, b, third, ANY)):
        row, case, i = LEFT_A, CASE_A, last
        for turn in range(-2, size):
            if turn >= 0:
                row, case, i = OPEN + turn, CASE + turn, at + REST * n
            if some(load(scratch, row)):
                s0, s1, s2, s3, counter = settle(
                    which, asked, scratch, row, case, chances, i, at + HEIGHT * n,
                    s0, s1, s2, s3, counter, increment,
                )  # fmt: skip
            row, case = LEFT_B, CASE_B
    return s0, s1, s2, s3, counter


@inline
def turned(scratch, g, of_a, of_b):
    """Where the answer of row g turns."""
    alone = logic(load(scratch, OPEN + g), load(scratch, SLOT_A + g), of_a, OR_AND)
    return logic(alone, load(scratch, SLOT_B + g), of_b, OR_AND)


@inline
def of_slots(scratch):
    """Where the answers turn that :func:`finish` has put into the two slots."""
    return load(scratch, OF_A) | load(scratch, LEFT_A), load(scratch, OF_B) | load(scratch, LEFT_B)

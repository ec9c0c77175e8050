# ruff: noqa: ARG001  the signatures are prescribed by numba
r"""One random decision for each of 512 lanes: yes with the probability p of that lane.

Throw a coin until it shows 0, which it does in throw k with probability :math:`2^{-k}`, and answer with
binary digit k of p: that is yes with probability p. With d the places where a digit differs from the one
before it, and random bits w, the answer is the sum modulo 2 of d1, ``w1 & d2``, ``w1 & w2 & d3`` and so on:
an "and" and an "exclusive or" a digit, also where the digits differ between lanes.

Six throws are made in every lane of a row. In one lane of 64 they all show 1. It takes a spare answer, that
of the digits from the seventh on, worked out before for every case: there are two in each lane for every 16
rows. A lane that is open in a third row waits, and is settled alone. Every decision has its own random bits,
and p the resolution :math:`2^{-64}`.

A lane is in one of 1, 2, 4, 8 or 16 cases, told apart by up to four bits, each case with its own probability.
As answers are sums, so is the choice between them: the tables have for each case its difference from the sum
of those with fewer bits.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
"""

import itertools

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .lanes import (
    CHOOSE,
    FLIP_AND,
    WIDTH,
    fours,
    lanes,
    load,
    logic,
    logic_of,
    row_of,
    rows_with_some,
    some,
    splat,
    store,
    store_row,
)
from .shishua import draw
from .tables import FIRST, HEIGHT
from .xoshiro import inline

GROUP = 16  # rows that share their spare answers
SPARE_DIGITS = 12  # throws for spare answers that are made before it is asked if any lane is still open
ALL = np.uint64(2**64 - 1)
CERTAIN = 15 / 16  # probability of the cases that are not asked: that one of four bits is not set

# The scratch memory of a group: what is open and the cases, row by row; by case the first spare answer, and
# where the second one differs; last a place for the answers of all rows.
OPEN, CASE, SPARE, OTHER = 0, GROUP, 5 * GROUP, 6 * GROUP
ANSWER, SCRATCH = 7 * GROUP, 8 * GROUP


def _sum(builder, bits, terms):
    """The sum modulo 2 of the terms of cases whose bits are set, the lowest bit first; None is no term."""

    def added(bit, no, yes):
        if yes is None:
            return no
        return builder.and_(bit, yes) if no is None else logic_of(builder, no, bit, yes, FLIP_AND)

    for bit in bits:
        terms = [added(bit, no, yes) for no, yes in zip(terms[::2], terms[1::2], strict=True)]
    return ir.Constant(lanes.vector, None) if terms[0] is None else terms[0]


@intrinsic
def digit(typing, which, asked, c3, c2, c1, c0, rows, at):
    """The digit for the case of each lane, from ``2**len(which)`` rows of terms beginning at ``at``."""

    def generate(context, builder, signature, arguments):
        """The instructions: a load of every case that is asked, and the sum of those that apply."""
        *bits, array, first = arguments[2:]
        first = context.cast(builder, first, signature.args[-1], types.int64)

        def row(case):
            return row_of(context, builder, signature.args[-2], array, builder.add(first, first.type(case)))

        terms = [row(case) if len(asked[case]) else None for case in range(2 ** len(which))]
        return _sum(builder, bits[::-1][: len(which)], terms)

    return lanes(which, asked, c3, c2, c1, c0, rows, at), generate


@intrinsic
def decide(typing, which, asked, c3, c2, c1, c0, scratch, chances, at, w0, w1, w2, w3, w4, w5):
    """The answers by six throws, or by the first spare answer; where that is; and where four throws show 1.

    Arguments:
        which: A tuple with one entry for each bit that tells the cases apart.
        asked: For each of 16 cases a tuple with one entry if it is asked.
        c3: The bits that tell the cases apart; those in use are c0, then c1, and so on.
        scratch: With spare answers, see :func:`spares`.
        chances: Rows of :func:`ising.kernels.tables.tables`, beginning at ``at``.
    """
    result, cases = types.UniTuple(lanes, 3), 2 ** len(which)

    def generate(context, builder, signature, arguments):
        """The instructions: the throws of every case that is asked, then the sum of those that apply."""
        bits, array, words = arguments[2:6], arguments[7], arguments[9:]
        first = context.cast(builder, arguments[8], signature.args[8], types.int64)
        left = list(itertools.accumulate(words, builder.and_))

        def toss(case):
            def row(k):
                at = builder.add(first, first.type(k * cases + case))
                return row_of(context, builder, signature.args[7], array, at)

            yes = row(0)
            for k in range(1, FIRST):
                yes = logic_of(builder, yes, left[k - 1], row(k), FLIP_AND)
            spare = row_of(context, builder, signature.args[6], arguments[6], first.type(SPARE + case))
            return logic_of(builder, yes, left[-1], spare, FLIP_AND)

        terms = [toss(case) if len(asked[case]) else None for case in range(cases)]
        return context.make_tuple(
            builder, result, [_sum(builder, bits[::-1][: len(which)], terms), left[-1], left[3]]
        )

    return result(which, asked, c3, c2, c1, c0, scratch, chances, at, w0, w1, w2, w3, w4, w5), generate


@intrinsic
def unasked(typing, which, asked, c3, c2, c1, c0):
    """Where the case is none of those that are asked."""

    def generate(context, builder, signature, arguments):
        """The instructions: a tree of choices, of which little is left, as it begins with constants."""
        cases = list(asked)[: 2 ** len(which)]
        masks = [ir.Constant(lanes.vector, [0 if len(case) else -1] * WIDTH) for case in cases]
        for bit in arguments[2:][::-1][: len(which)]:
            masks = [
                builder.xor(no, builder.and_(bit, builder.xor(no, yes)))
                for no, yes in zip(masks[::2], masks[1::2], strict=True)
            ]
        return masks[0]

    return lanes(which, asked, c3, c2, c1, c0), generate


@intrinsic
def _thrown(typing, which, asked, scratch, spare, chances, at, left, w0, w1, w2, w3):
    """Adds four digits to the spare answers of every case, where throws are left; returns where they are."""
    cases = 2 ** len(which)

    def generate(context, builder, signature, arguments):
        """The instructions."""
        spare, first = (context.cast(builder, arguments[k], signature.args[k], types.int64) for k in (3, 5))
        lefts = [arguments[6]]
        for word in arguments[7:]:
            lefts.append(builder.and_(lefts[-1], word))
        for case in range(cases):
            if len(asked[case]):
                place = signature.args[2], arguments[2], builder.add(spare, spare.type(case))
                yes = row_of(context, builder, *place)
                for k, left in enumerate(lefts[:-1]):
                    at = builder.add(first, first.type(k * cases + case))
                    row = row_of(context, builder, signature.args[4], arguments[4], at)
                    yes = logic_of(builder, yes, left, row, FLIP_AND)
                store_row(context, builder, *place, yes)
        return lefts[-1]

    return lanes(which, asked, scratch, spare, chances, at, left, w0, w1, w2, w3), generate


@inline
def spares(which, asked, scratch, chances, at, s0, s1, s2, s3, counter, increment):
    """Works out two spare answers in every lane for every case; returns the state of the generator."""
    n = 1 << len(which)
    for case in range(n):
        store(scratch, SPARE + case, splat(np.uint64(0)))
    s0, s1, s2, s3, counter = _spare(
        which, asked, scratch, SPARE, chances, at, s0, s1, s2, s3, counter, increment
    )
    for case in range(n):  # a sum modulo 2 that begins with the first is where the second one differs
        store(scratch, OTHER + case, load(scratch, SPARE + case))
    return _spare(which, asked, scratch, OTHER, chances, at, s0, s1, s2, s3, counter, increment)


@inline
def _spare(which, asked, scratch, spare, chances, at, s0, s1, s2, s3, counter, increment):
    n = 1 << len(which)
    left = splat(ALL)
    i, last = at + FIRST * n, at + (FIRST + SPARE_DIGITS) * n
    while i < last:
        w0, w1, w2, w3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
        left = _thrown(which, asked, scratch, spare, chances, i, left, w0, w1, w2, w3)
        i += 4 * n
    last = at + HEIGHT * n
    while i < last and some(left):
        w0, w1, w2, w3, s0, s1, s2, s3, counter = _drawn_where(left, s0, s1, s2, s3, counter, increment)
        left = _thrown(which, asked, scratch, spare, chances, i, left, w0, w1, w2, w3)
        i += 4 * n
    return s0, s1, s2, s3, counter


@inline
def _drawn_where(left, s0, s1, s2, s3, counter, increment):
    """Every four words have a generator of their own, which stands still when nothing is open in them: so the
    numbers do not depend on how many words are looked at together.
    """
    go = fours(left)
    w0, w1, w2, w3, t0, t1, t2, t3, next_counter = draw(s0, s1, s2, s3, counter, increment)
    s0, s1 = logic(go, t0, s0, CHOOSE), logic(go, t1, s1, CHOOSE)
    s2, s3 = logic(go, t2, s2, CHOOSE), logic(go, t3, s3, CHOOSE)
    return w0, w1, w2, w3, s0, s1, s2, s3, logic(go, next_counter, counter, CHOOSE)


@inline
def untaken():
    """What :func:`take` is told for the first row of a group."""
    nothing = splat(np.uint64(0))
    return nothing, nothing, nothing


@inline
def take(which, asked, scratch, g, left, c3, c2, c1, c0, taken):
    """Row g takes spare answers in the lanes that are left.

    Arguments:
        taken: The lanes in which the first one is taken, in which the second one is, and in which a row has
            got none.

    Returns:
        Where the answer turns, as the second spare one differs from the first, and what is taken now.
    """
    first, second, waiting = taken
    more = left & first
    rest = more & second
    store(scratch, OPEN + g, rest)
    if len(which) > 0:
        store(scratch, CASE + g, c0)
    if len(which) > 1:
        store(scratch, CASE + GROUP + g, c1)
    if len(which) > 2:
        store(scratch, CASE + 2 * GROUP + g, c2)
    if len(which) > 3:
        store(scratch, CASE + 3 * GROUP + g, c3)
    turned = more & digit(which, asked, c3, c2, c1, c0, scratch, OTHER)
    return turned, (first | left, second | more, waiting | rest)


@inline
def waits(scratch, taken):
    """Which rows of a group wait for :func:`settle`, as the bits of a word."""
    return rows_with_some(scratch, OPEN, GROUP) if some(taken[2]) else np.uint64(0)


@inline
def settle(which, asked, scratch, g, chances, at, s0, s1, s2, s3, counter, increment):
    """Where the answer of row g turns, as it is open for lack of a spare one; and the generator's state."""
    n = 1 << len(which)
    c3 = c2 = c1 = c0 = splat(np.uint64(0))
    left = load(scratch, OPEN + g)
    if len(which) > 0:
        c0 = load(scratch, CASE + g)
    if len(which) > 1:
        c1 = load(scratch, CASE + GROUP + g)
    if len(which) > 2:
        c2 = load(scratch, CASE + 2 * GROUP + g)
    if len(which) > 3:
        c3 = load(scratch, CASE + 3 * GROUP + g)
    of_spares = digit(which, asked, c3, c2, c1, c0, scratch, SPARE)
    turned = left & (of_spares ^ digit(which, asked, c3, c2, c1, c0, scratch, OTHER))
    i, last = at + FIRST * n, at + HEIGHT * n
    while i < last and some(left):
        w0, w1, w2, w3, s0, s1, s2, s3, counter = _drawn_where(left, s0, s1, s2, s3, counter, increment)
        turned = logic(turned, left, digit(which, asked, c3, c2, c1, c0, chances, i), FLIP_AND)
        left = left & w0
        turned = logic(turned, left, digit(which, asked, c3, c2, c1, c0, chances, i + n), FLIP_AND)
        left = left & w1
        turned = logic(turned, left, digit(which, asked, c3, c2, c1, c0, chances, i + 2 * n), FLIP_AND)
        left = left & w2
        turned = logic(turned, left, digit(which, asked, c3, c2, c1, c0, chances, i + 3 * n), FLIP_AND)
        left = left & w3
        i += 4 * n
    return turned, s0, s1, s2, s3, counter

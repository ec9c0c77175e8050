# ruff: noqa: ARG001  the signatures are prescribed by numba
r"""One random decision for each of 512 lanes: yes with the probability p of that lane.

Throw a coin until it shows 0, which it does in throw k with probability :math:`2^{-k}`, and answer with
binary digit k of p: that is yes with probability p. A table has the digits as differences, each with the one
before it, so that the answer is the sum modulo 2 of those up to k: ``d1 ^ (w1 & (d2 ^ (w2 & ...)))`` with
random bits w, an "and" and an "exclusive or" a digit, also where the digits differ between lanes.

Six throws are made in every lane of a row, for every case apart. In one lane of 64 they all show 1. It takes
a spare answer, that of the digits from the seventh on, worked out before for every case: there are two in
each lane for every 16 rows. A lane that is open in a third row is settled alone. Every decision has its own
random bits, and p the resolution :math:`2^{-64}`.

A lane is in one of 1, 2, 4, 8 or 16 cases, told apart by up to four bits, each case with its own probability.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .lanes import CHOOSE, FLIP_AND, fours, lanes, load, logic, logic_of, row_of, some, splat, store, store_row
from .shishua import draw
from .tables import FIRST, HEIGHT
from .xoshiro import inline

GROUP = 16  # rows that share their spare answers
SPARE_DIGITS = 12  # digits of spare answers that are worked out before any lane is looked at
ALL = np.uint64(2**64 - 1)
CERTAIN = 15 / 16  # probability of the cases that are not asked: that one of four bits is not set

# The scratch memory of a group: what is open and the cases, row by row; by case the first spare answer, and
# where the second one differs; last a place for the answers of all rows.
OPEN, CASE, SPARE, OTHER = 0, GROUP, 5 * GROUP, 6 * GROUP
ANSWER, SCRATCH = 7 * GROUP, 8 * GROUP


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

    A case that is not asked has none: 15/16 takes no more than four throws.
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
def decide(typing, which, asked, c3, c2, c1, c0, scratch, chances, at, w0, w1, w2, w3, w4, w5):
    """The answers by six throws, or by the first spare answer; where that is; and where 15/16 says no.

    Arguments:
        which: A tuple with one entry for each bit that tells the cases apart.
        asked: For each of 16 cases a tuple with one entry if it is asked; the others say yes with
            probability 15/16.
        c3: The bits that tell the cases apart; those in use are c0, then c1, and so on.
        scratch: With spare answers, see :func:`spare`.
        chances: Rows of :func:`ising.kernels.tables.tables`, beginning at ``at``.
    """
    result, cases = types.UniTuple(lanes, 3), 2 ** len(which)

    def generate(context, builder, signature, arguments):
        """The instructions: the throws of every case that is asked, then a tree of choices."""
        bits, words, first = arguments[2:6], arguments[9:], arguments[8]
        first = context.cast(builder, first, signature.args[8], types.int64)

        def toss(case):
            spare = first.type(SPARE + case)
            yes = row_of(context, builder, signature.args[6], arguments[6], spare)
            for k in reversed(range(FIRST)):
                at = builder.add(first, first.type(k * cases + case))
                row = row_of(context, builder, signature.args[7], arguments[7], at)
                yes = logic_of(builder, row, yes, words[k], FLIP_AND)
            return yes

        refused = builder.and_(builder.and_(*words[:2]), builder.and_(*words[2:4]))
        left = builder.and_(refused, builder.and_(*words[4:]))
        sure = builder.not_(refused)
        answers = [toss(case) if len(asked[case]) else sure for case in range(cases)]
        yes = _chosen(builder, bits[::-1][: len(which)], answers)
        return context.make_tuple(builder, result, [yes, left, refused])

    return result(which, asked, c3, c2, c1, c0, scratch, chances, at, w0, w1, w2, w3, w4, w5), generate


@intrinsic
def _thrown(typing, which, asked, scratch, spare, chances, at, left, w0, w1, w2, w3):
    """Adds four digits to the spare answers of every case, where throws are left; returns where they are."""
    cases = 2 ** len(which)

    def generate(context, builder, signature, arguments):
        """The instructions."""
        spare, first = (
            context.cast(builder, arguments[k], signature.args[k], types.int64) for k in (3, 5)
        )
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

"""The compiled sweep of three coupled configurations, see :mod:`ising.kernels.coupling`.

Sixteen rows of one colour are decided together: which of the thresholds each lane's u is below, first by
whole cells, then in two slots. Then the neighbours are counted in each configuration, and the count picks
the answer.
"""

import functools
from collections.abc import Callable

import numpy as np

from .chances import GROUP
from .lanes import (
    AND_NOT,
    CHOOSE,
    EQUAL_AND,
    FLIP_AND,
    MAJORITY,
    NONE,
    OR_AND,
    OR_DIFFER,
    PARTS,
    WORDS,
    XOR3,
    entry,
    fours,
    load,
    logic,
    part,
    some,
    splat,
    store,
)
from .shishua import draw, keep, resume
from .tables import DIGITS
from .xoshiro import bare, inline

TOP, BOTTOM, CARRIED, CHAINS = 0, 1, 2, 3
ALL = np.uint64(2**64 - 1)

# The scratch memory of a group; answers and what is open are kept for up to eight thresholds.
OPEN, SLOT_A, SLOT_B, SIGN = 0, GROUP, 2 * GROUP, 3 * GROUP
OF_SLOT, UNDECIDED, ANSWER = 4 * GROUP, 5 * GROUP, 6 * GROUP  # a threshold has an answer in each slot
SCRATCH = 14 * GROUP
BLOCK = 8  # groups after which the other part of the rows has its turn, while they are in the fastest cache
FIRST_ROWS = 8  # of the 64 of a threshold: the digits of its cells


def cells(thresholds: int, symmetric: bool) -> tuple[int, int]:
    """How many digits are compared in every lane, and the binary logarithm of the cells left open."""
    return 7 if symmetric else 8, (thresholds - 1).bit_length()


@inline
def _copy(rows, ghosts, first, last):
    """Rotates the words and the bits of rows into their ghosts."""
    for g in range(first, last):
        right = np.uint64(ghosts[g, 2])
        left = (np.uint64(64) - right) & np.uint64(63)
        for chain in range(CHAINS):
            for w in range(WORDS):
                word = rows[ghosts[g, 0] + chain, (w + ghosts[g, 1]) & (WORDS - 1)]
                rows[ghosts[g, 3] + chain, w] = (word >> right) | (word << left)


@functools.cache
def sweeper(z: int, symmetric: bool) -> Callable:
    """The compiled sweep for up to z neighbours."""
    thresholds = (z + 1) // 2 if symmetric else z + 1
    block = DIGITS * thresholds
    compare, finish = _comparison(thresholds, symmetric), _finish(thresholds)
    move = _square_move if symmetric and z == 4 else _move(z, symmetric)

    @inline
    def sweep_groups(rows, state, scratch, size, first, last, order, neighbours, kinds, chances):
        """Moves some groups of rows of one colour."""
        s0, s1, s2, s3, counter, increment = resume(state)
        for group in range(first, last):
            start, at = group * GROUP, kinds[group] * block
            a = b = third = splat(np.uint64(0))
            for g in range(size):
                a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
                left = compare(scratch, g, chances, at, a0, a1, a2, a3, b0, b1, b2, b3)
                a, b, third = _place(scratch, g, left, a, b, third)
            s0, s1, s2, s3, counter = finish(
                scratch, size, a, b, third, chances, at, s0, s1, s2, s3, counter, increment
            )
            for g in range(size):
                move(rows, scratch, neighbours, start, g, entry(order, start + g))
        keep(state, s0, s1, s2, s3, counter)

    # Compiled code on disk is found again by the pickled variables of a closure. A function of a module is
    # pickled as its name, another one with its content, which is not the same in the next process.
    sweep_groups.__qualname__ = f"_sweep_groups_{z}_{symmetric}"
    globals()[sweep_groups.__qualname__] = sweep_groups

    @bare
    def sweep(
        rows, state, scratch, size, n, order, neighbours, kinds, colour_ends, ghosts, ghost_ends, chances
    ):
        """Makes n sweeps of the three configurations of all lanes."""
        for _ in range(n):
            group = first_ghost = 0
            for colour in range(len(colour_ends)):
                while group < colour_ends[colour]:
                    last = min(group + BLOCK, colour_ends[colour])
                    for p in range(PARTS):
                        sweep_groups(
                            part(rows, p), part(state, p), part(scratch, p), size, group, last,
                            order, neighbours, kinds, part(chances, p),
                        )  # fmt: skip
                    group = last
                _copy(rows, ghosts, first_ghost, ghost_ends[colour])
                first_ghost = ghost_ends[colour]

    return sweep


def _comparison(thresholds: int, symmetric: bool) -> Callable:
    """Compares the first digits of row g with all thresholds, and tells where they do not decide."""
    first, spare = cells(thresholds, symmetric)

    @inline
    def compare(scratch, g, chances, at, w0, w1, w2, w3, w4, w5, w6, w7):
        """Leaves the answers of row g in scratch; returns the lanes in which they are open."""
        for j in range(thresholds):
            answer = splat(np.uint64(0))
            if not symmetric:
                answer = w0 & load(chances, at + 7)
            answer = logic(answer, w7, load(chances, at + 6), MAJORITY)
            answer = logic(answer, w6, load(chances, at + 5), MAJORITY)
            answer = logic(answer, w5, load(chances, at + 4), MAJORITY)
            answer = logic(answer, w4, load(chances, at + 3), MAJORITY)
            answer = logic(answer, w3, load(chances, at + 2), MAJORITY)
            answer = logic(answer, w2, load(chances, at + 1), MAJORITY)
            store(scratch, ANSWER + GROUP * j + g, logic(answer, w1, load(chances, at), MAJORITY))
            at += DIGITS
        left = logic(w4, w5, w6 if first - spare > 5 else w5, NONE) & logic(w1, w2, w3, NONE)
        if first - spare > 6:
            left = logic(left, w7, w7, AND_NOT)
        if first - spare > 7:
            left = logic(left, w0, w0, AND_NOT)
        if symmetric:
            store(scratch, SIGN + g, w0)
        return left

    return compare


@inline
def _place(scratch, g, left, a, b, third):
    """Gives each lane's first two open rows a slot; a third one waits."""
    more = left & a
    waits = more & b
    store(scratch, SLOT_A + g, left ^ more)
    store(scratch, SLOT_B + g, more ^ waits)
    store(scratch, OPEN + g, waits)
    return a | left, b | more, third | waits


def _finish(thresholds: int) -> Callable:
    """Decides what is open in all rows of the group; the answers of the slots are left in scratch."""

    @inline
    def settle(scratch, left, answers, step, chances, at, s0, s1, s2, s3, counter, increment):
        """Compares new digits with all thresholds where ``left`` is set, and adds to the rows of answers.

        Every four words have a generator of their own, which stands still when nothing is open in them.
        """
        for j in range(thresholds):
            store(scratch, UNDECIDED + j, left)
        still, i = left, FIRST_ROWS
        while i < DIGITS and some(still):
            go = fours(still)
            a0, a1, a2, a3, t0, t1, t2, t3, next_counter = draw(s0, s1, s2, s3, counter, increment)
            b0, b1, b2, b3, t0, t1, t2, t3, next_counter = draw(t0, t1, t2, t3, next_counter, increment)
            s0, s1 = logic(go, t0, s0, CHOOSE), logic(go, t1, s1, CHOOSE)
            s2, s3 = logic(go, t2, s2, CHOOSE), logic(go, t3, s3, CHOOSE)
            counter = logic(go, next_counter, counter, CHOOSE)
            still = splat(np.uint64(0))
            for j in range(thresholds):
                row, of = answers + step * j, at + DIGITS * j + i
                answer, left = load(scratch, row), load(scratch, UNDECIDED + j)
                answer, left = _digit(left, a0, chances, of, answer)
                answer, left = _digit(left, a1, chances, of + 1, answer)
                answer, left = _digit(left, a2, chances, of + 2, answer)
                answer, left = _digit(left, a3, chances, of + 3, answer)
                answer, left = _digit(left, b0, chances, of + 4, answer)
                answer, left = _digit(left, b1, chances, of + 5, answer)
                answer, left = _digit(left, b2, chances, of + 6, answer)
                answer, left = _digit(left, b3, chances, of + 7, answer)
                store(scratch, row, logic(answer, left, left, AND_NOT))
                store(scratch, UNDECIDED + j, left)
                still = still | left
            i += 8
        return s0, s1, s2, s3, counter

    @inline
    def finish(scratch, size, a, b, third, chances, at, s0, s1, s2, s3, counter, increment):
        """Settles both slots, then the rows that wait; returns the state of the generator."""
        for j in range(thresholds):
            store(scratch, OF_SLOT + 2 * j, splat(np.uint64(0)))
            store(scratch, OF_SLOT + 2 * j + 1, splat(np.uint64(0)))
        left, answers, step = a, OF_SLOT, 2
        for turn in range(-2, size if some(third) else 0):
            if turn >= 0:
                left, answers, step = load(scratch, OPEN + turn), ANSWER + turn, GROUP
            if some(left):
                s0, s1, s2, s3, counter = settle(
                    scratch, left, answers, step, chances, at, s0, s1, s2, s3, counter, increment
                )
            left, answers = b, OF_SLOT + 1
        return s0, s1, s2, s3, counter

    return finish


@inline
def _digit(left, w, chances, at, answer):
    d = load(chances, at)
    return logic(left, d, answer, CHOOSE), logic(left, w, d, EQUAL_AND)


@inline
def _answered(scratch, g, j):
    """The answer of row g for threshold j, with what the slots found."""
    a, b = load(scratch, SLOT_A + g), load(scratch, SLOT_B + g)
    answer = logic(load(scratch, ANSWER + GROUP * j + g), a, load(scratch, OF_SLOT + 2 * j), OR_AND)
    return logic(answer, b, load(scratch, OF_SLOT + 2 * j + 1), OR_AND)


@inline
def _other(rows, neighbours, k, chain):
    """The neighbour in place k of the table, of the same configuration."""
    return load(rows, entry(neighbours, k) + chain)


@inline
def _square_moved(rows, neighbours, g, chain, sign, if_equal, if_odd):
    """The new spin of one configuration: the majority's sign, or the random one in a tie and where told."""
    k = 4 * g
    d0, d1 = _other(rows, neighbours, k, chain), _other(rows, neighbours, k + 1, chain)
    d2, d3 = _other(rows, neighbours, k + 2, chain), _other(rows, neighbours, k + 3, chain)
    full, occupied = logic(d2 & d3, d0, d1, OR_AND), (d0 | d1) & (d2 | d3)  # a pair; both pairs
    random = logic(if_equal, full, occupied, OR_DIFFER)
    random = logic(random, logic(d0, d1, d2, XOR3) ^ d3, if_odd, OR_AND)
    return logic(random, sign, full, CHOOSE)


@inline
def _square_move(rows, scratch, neighbours, start, g, row):
    """What :func:`_move` makes, for four neighbours and no field."""
    sign, if_equal, if_odd = load(scratch, SIGN + g), _answered(scratch, g, 0), _answered(scratch, g, 1)
    top = _square_moved(rows, neighbours, start + g, TOP, sign, if_equal, if_odd)
    bottom = _square_moved(rows, neighbours, start + g, BOTTOM, sign, if_equal, if_odd)
    carried = _square_moved(rows, neighbours, start + g, CARRIED, sign, if_equal, if_odd)
    store(rows, row + TOP, top)
    store(rows, row + BOTTOM, bottom)
    store(rows, row + CARRIED, carried)


def _below(z: int, symmetric: bool) -> Callable:
    """Where a spin becomes +1 that has n of its z neighbours up."""

    @inline
    def below(scratch, g, n):
        """The lanes of row g; n is a constant."""
        if n > z:
            return splat(np.uint64(0))
        if not symmetric:
            return _answered(scratch, g, n)
        sign = load(scratch, SIGN + g)
        if 2 * n == z:
            return sign
        if 2 * n < z:
            return sign & _answered(scratch, g, n)
        return logic(_answered(scratch, g, z - n), sign, splat(ALL), CHOOSE)

    return below


def _up(z: int) -> Callable:
    """Counts the neighbours that are up in one configuration, in binary, the lowest digit first."""
    width = max(2, z)

    @inline
    def up(rows, neighbours, g, chain):
        """Of row g."""
        first, k = width * g, 2
        d0, d1 = _other(rows, neighbours, first, chain), _other(rows, neighbours, first + 1, chain)
        c0, c1, c2 = d0 ^ d1, d0 & d1, splat(np.uint64(0))
        while k + 1 < z:
            d0, d1 = (
                _other(rows, neighbours, first + k, chain),
                _other(rows, neighbours, first + k + 1, chain),
            )
            carry = logic(c0, d0, d1, MAJORITY)
            c0 = logic(c0, d0, d1, XOR3)
            c2, c1 = logic(c2, c1, carry, FLIP_AND), c1 ^ carry
            k += 2
        if k < z:
            d0 = _other(rows, neighbours, first + k, chain)
            carry, c0 = c0 & d0, c0 ^ d0
            c2, c1 = logic(c2, c1, carry, FLIP_AND), c1 ^ carry
        return c0, c1, c2

    return up


def _move(z: int, symmetric: bool) -> Callable:
    """Moves one row of all three configurations: the number of neighbours that are up picks the answer."""
    below, up = _below(z, symmetric), _up(z)

    @inline
    def moved(rows, neighbours, g, chain, e0, e1, e2, e3, e4, e5, e6, e7):
        """The new spin of one configuration."""
        c0, c1, c2 = up(rows, neighbours, g, chain)
        spin = logic(c0, e1, e0, CHOOSE)
        if z > 1:
            spin = logic(c1, logic(c0, e3, e2, CHOOSE), spin, CHOOSE)
        if z > 3:
            high = logic(c0, e5, e4, CHOOSE)
            if z > 5:
                high = logic(c1, logic(c0, e7, e6, CHOOSE), high, CHOOSE)
            spin = logic(c2, high, spin, CHOOSE)
        return spin

    @inline
    def move(rows, scratch, neighbours, start, g, row):
        """All three configurations of row g."""
        e0, e1 = below(scratch, g, 0), below(scratch, g, 1)
        e2, e3 = below(scratch, g, 2), below(scratch, g, 3)
        e4, e5 = below(scratch, g, 4), below(scratch, g, 5)
        e6, e7 = below(scratch, g, 6), below(scratch, g, 7)
        top = moved(rows, neighbours, start + g, TOP, e0, e1, e2, e3, e4, e5, e6, e7)
        bottom = moved(rows, neighbours, start + g, BOTTOM, e0, e1, e2, e3, e4, e5, e6, e7)
        carried = moved(rows, neighbours, start + g, CARRIED, e0, e1, e2, e3, e4, e5, e6, e7)
        store(rows, row + TOP, top)
        store(rows, row + BOTTOM, bottom)
        store(rows, row + CARRIED, carried)

    return move

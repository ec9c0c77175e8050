"""The compiled sweep of :mod:`ising.kernels.multispin`.

Sixteen rows of one colour share their spare answers: each row is decided as soon as its neighbours are
counted; what waits then is settled.
"""

import numpy as np

from .chances import GROUP, decide, settle, spares, take, unasked, untaken, waits
from .lanes import (
    AND_NOT,
    ANY_DIFFERS,
    BOTH_DIFFER,
    CHOOSE_NOT,
    FLIP_AND,
    MAJORITY,
    OR_AND,
    PARTS,
    WORDS,
    XOR3,
    entry,
    load,
    logic,
    lowest,
    ones,
    part,
    splat,
    store,
)
from .shishua import draw, keep, resume
from .tables import HEIGHT
from .xoshiro import bare, inline

NONE = np.uint64(0)
BLOCK = 8  # groups after which the other part of the rows has its turn, while they are in the fastest cache


@bare
def copy_ghosts(rows, ghosts, ends):
    _copy(rows, ghosts, 0, ends[-1])


@inline
def _copy(rows, ghosts, first, last):
    """Rotates the words and the bits of rows into their ghosts."""
    for g in range(first, last):
        right = np.uint64(ghosts[g, 2])
        left = (np.uint64(64) - right) & np.uint64(63)
        if ghosts[g, 1] == 0:
            for p in range(PARTS):
                own = part(rows, p)
                row = load(own, ghosts[g, 0])
                store(own, ghosts[g, 3], (row >> right) | (row << left))
        else:
            for w in range(WORDS):
                word = rows[ghosts[g, 0], (w + ghosts[g, 1]) & (WORDS - 1)]
                rows[ghosts[g, 3], w] = (word >> right) | (word << left)


@inline
def _other(signed, rows, neighbours, against, g, k):
    """A neighbour, inverted where the bond to it has J < 0."""
    other = load(rows, entry(neighbours, g * neighbours.shape[1] + k))
    return other ^ splat(against[g, k]) if len(signed) else other


@inline
def _at_least(one, two, own, a, b):
    """Where at least one bond and at least two are unsatisfied, with two neighbours more."""
    more = logic(own, a, b, ANY_DIFFERS)
    return one | more, logic(two, one, more, OR_AND) | logic(own, a, b, BOTH_DIFFER)


@inline
def _one_or_two(four, signed, rows, own, neighbours, against, g):
    """Where at least one bond of row g is unsatisfied, and at least two."""
    a, b = _other(signed, rows, neighbours, against, g, 0), _other(signed, rows, neighbours, against, g, 1)
    one, two = logic(own, a, b, ANY_DIFFERS), logic(own, a, b, BOTH_DIFFER)
    if len(four):  # the loops would cost as much as the rest
        a = _other(signed, rows, neighbours, against, g, 2)
        b = _other(signed, rows, neighbours, against, g, 3)
        return _at_least(one, two, own, a, b)
    k = 2
    while k + 1 < neighbours.shape[1]:
        a = _other(signed, rows, neighbours, against, g, k)
        b = _other(signed, rows, neighbours, against, g, k + 1)
        one, two = _at_least(one, two, own, a, b)
        k += 2
    if k < neighbours.shape[1]:
        one, two = _at_least(one, two, own, _other(signed, rows, neighbours, against, g, k), own)
    return one, two


@inline
def _count(four, signed, rows, own, neighbours, against, g):
    """The unsatisfied bonds of row g in binary, the lowest digit first."""
    a, b = _other(signed, rows, neighbours, against, g, 0), _other(signed, rows, neighbours, against, g, 1)
    c0, c1, c2 = a ^ b, logic(own, a, b, BOTH_DIFFER), splat(np.uint64(0))
    if len(four):
        a = own ^ _other(signed, rows, neighbours, against, g, 2)
        b = own ^ _other(signed, rows, neighbours, against, g, 3)
        carry = logic(c0, a, b, MAJORITY)
        return logic(c0, a, b, XOR3), c1 ^ carry, c1 & carry
    k = 2
    while k < neighbours.shape[1]:
        a = b = own ^ _other(signed, rows, neighbours, against, g, k)
        if k + 1 < neighbours.shape[1]:
            b = own ^ _other(signed, rows, neighbours, against, g, k + 1)
            carry, c0 = logic(c0, a, b, MAJORITY), logic(c0, a, b, XOR3)
        else:
            carry, c0 = c0 & a, c0 ^ a
        c2, c1 = logic(c2, c1, carry, FLIP_AND), c1 ^ carry
        k += 2
    return c0, c1, c2


@inline
def _attempt(
    form, rows, order, neighbours, against, scratch, start, g, chances, at, w0, w1, w2, w3, w4, w5, taken
):  # fmt: skip
    """Tries to flip the spins of row g of a group."""
    which, asked, sure, by_spin, four, signed = form
    row = entry(order, start + g)
    own = load(rows, row)
    if len(which) == 1:  # with two unsatisfied bonds the flip is certain
        one, free = _one_or_two(four, signed, rows, own, neighbours, against, start + g)
        c0 = c1 = c2 = one
    else:
        c0, c1, c2 = _count(four, signed, rows, own, neighbours, against, start + g)
        if len(which) == 2 or (len(which) == 3 and len(by_spin)):  # four count as three
            c1, c0, c2 = c1 | c2, c0 | c2, own
        free = unasked(which, asked, own, c2, c1, c0)
    flip, left, refused = decide(which, asked, own, c2, c1, c0, scratch, chances, at, w0, w1, w2, w3, w4, w5)
    if len(sure):
        flip, left = logic(free, refused, flip, CHOOSE_NOT), logic(left, free, free, AND_NOT)
    turned, taken = take(which, asked, scratch, g, left, own, c2, c1, c0, taken)
    store(rows, row, logic(own, flip, turned, XOR3))
    return taken


@bare
def sweep_column(
    form, rows, state, scratch, n, order, neighbours, against, kinds, colour_ends, ghosts, ghost_ends, chances
):  # fmt: skip
    """Makes n sweeps of one column.

    ``form`` is made of tuples whose lengths tell: ``which`` the number of case bits, ``asked`` for each case
    if it is asked, ``sure`` if the others are certain, ``by_spin`` if the own spin matters, ``four`` if there
    are four neighbours, and ``signed`` if signs matter.
    """
    for _ in range(n):
        group = first_ghost = 0
        for colour in range(len(colour_ends)):
            while group < colour_ends[colour]:
                last = min(group + BLOCK, colour_ends[colour])
                for p in range(PARTS):
                    _sweep_groups(
                        form, part(rows, p), part(state, p), part(scratch, p), group, last,
                        order, neighbours, against, kinds, part(chances, p),
                    )  # fmt: skip
                group = last
            _copy(rows, ghosts, first_ghost, ghost_ends[colour])
            first_ghost = ghost_ends[colour]


@inline
def _sweep_groups(
    form, rows, state, scratch, first, last, order, neighbours, against, kinds, chances
):  # fmt: skip
    """Makes one sweep of some groups of rows of one colour."""
    which, asked = form[:2]
    s0, s1, s2, s3, counter, increment = resume(state)
    for group in range(first, last):
        start, at = group * GROUP, (kinds[group] * HEIGHT) << len(which)
        s0, s1, s2, s3, counter = spares(
            which, asked, scratch, chances, at, s0, s1, s2, s3, counter, increment
        )
        taken = untaken()
        for g in range(0, GROUP, 2):
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            b0, b1, b2, b3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            taken = _attempt(
                form, rows, order, neighbours, against, scratch, start, g, chances, at,
                a0, a1, a2, a3, b0, b1, taken,
            )  # fmt: skip
            a0, a1, a2, a3, s0, s1, s2, s3, counter = draw(s0, s1, s2, s3, counter, increment)
            taken = _attempt(
                form, rows, order, neighbours, against, scratch, start, g + 1, chances, at,
                b2, b3, a0, a1, a2, a3, taken,
            )  # fmt: skip
        waiting = waits(scratch, taken)
        while waiting:
            g = lowest(waiting)
            turned, s0, s1, s2, s3, counter = settle(
                which, asked, scratch, g, chances, at, s0, s1, s2, s3, counter, increment
            )
            row = entry(order, start + g)
            store(rows, row, load(rows, row) ^ turned)
            waiting &= waiting - np.uint64(1)
    keep(state, s0, s1, s2, s3, counter)


@bare
def flips(rows, before, used, n):
    """How many of the spins that are used differ, of n rows."""
    total = 0
    for p in range(PARTS):
        here, there = part(rows, p), part(before, p)
        lanes, count = load(part(used, p), 0), splat(NONE)
        for row in range(n):
            count = count + ones((load(here, row) ^ load(there, row)) & lanes)
        store(there, 0, count)
    for w in range(WORDS):
        total += before[0, w]
    return total

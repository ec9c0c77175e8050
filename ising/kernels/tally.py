"""Counting in every lane at once: how many pairs of rows differ, added up in binary.

Sixteen pairs are joined by full adders before anything is carried further, so a pair costs about three
instructions, whatever the number of lanes (Harley's and Seal's population count, for columns of bits).

References:
    | Hacker's Delight (Warren, 2nd edition 2012), section 5-1, counting 1-bits in an array
"""

import numpy as np

from .bits import transpose_squares
from .lanes import LANES, MAJORITY, WORDS, XOR3, entry, load_row, logic, store
from .xoshiro import bare, inline

PLANES = 64  # binary digits of a count: a square of bits for every word of a row


def tally(rows: np.ndarray, i: np.ndarray, j: np.ndarray, against: np.ndarray) -> np.ndarray:
    """In how many pairs ``(i, j)`` of rows a lane differs, or agrees where ``against``.

    Arguments:
        rows: uint64, ``(n, 8)``.
        i: Numbers of rows, int32, ``(pairs,)``.
        j: The rows they are compared with.
        against: Words of ones for the pairs that should differ, uint64, ``(pairs,)``, or ``(0,)`` for none.

    Returns:
        Binary digits of the counts, the lowest first, uint64, shape ``(64, 8)``; see :func:`lane_counts`.

    Example:
        >>> from ising.kernels.lanes import aligned
        >>> rows = aligned((2, 8))
        >>> rows[0] = 5
        >>> pairs, none = np.array([[0, 0, 1], [1, 0, 1]], dtype=np.int32), np.empty(0, dtype=np.uint64)
        >>> lane_counts(tally(rows, *pairs, none)[None])[0, :4].tolist()
        [1, 0, 1, 0]
    """
    planes = np.zeros((PLANES, WORDS), dtype=np.uint64)
    tally_into(rows, i, j, against, planes)
    return planes


def lane_counts(planes: np.ndarray) -> np.ndarray:
    """Binary digits ``(columns, 64, 8)`` to numbers ``(columns, 512)``, int64."""
    squares = planes.copy()
    for square in squares:
        count_lanes(square)
    return squares.transpose(0, 2, 1).reshape(len(planes), LANES).astype(np.int64)


@inline
def _differ(rows, i, j, against, k):
    differ = load_row(rows, entry(i, k)) ^ load_row(rows, entry(j, k))
    return differ ^ against[k] if len(against) else differ


@inline
def _eight(rows, i, j, against, k, ones, twos, fours):
    """Eight pairs: the carry into the eights, and what is left below."""
    a, b = _differ(rows, i, j, against, k), _differ(rows, i, j, against, k + 1)
    c, d = _differ(rows, i, j, against, k + 2), _differ(rows, i, j, against, k + 3)
    two_a, ones = logic(ones, a, b, MAJORITY), logic(ones, a, b, XOR3)
    two_b, ones = logic(ones, c, d, MAJORITY), logic(ones, c, d, XOR3)
    four_a, twos = logic(twos, two_a, two_b, MAJORITY), logic(twos, two_a, two_b, XOR3)
    a, b = _differ(rows, i, j, against, k + 4), _differ(rows, i, j, against, k + 5)
    c, d = _differ(rows, i, j, against, k + 6), _differ(rows, i, j, against, k + 7)
    two_a, ones = logic(ones, a, b, MAJORITY), logic(ones, a, b, XOR3)
    two_b, ones = logic(ones, c, d, MAJORITY), logic(ones, c, d, XOR3)
    four_b, twos = logic(twos, two_a, two_b, MAJORITY), logic(twos, two_a, two_b, XOR3)
    return logic(fours, four_a, four_b, MAJORITY), ones, twos, logic(fours, four_a, four_b, XOR3)


@inline
def _carry(planes, plane, top, row):
    """Adds ones of the value of this plane."""
    for p in range(plane, top):
        old = load_row(planes, p)
        store(planes, p, old ^ row)
        row = old & row


@bare
def tally_into(rows, i, j, against, planes):
    """See :func:`tally`."""
    planes[:] = 0
    top = 1
    while len(i) >> top:
        top += 1
    whole = len(i) - len(i) % 16
    ones = twos = fours = eights = load_row(planes, 0)
    for k in range(0, whole, 16):
        eight_a, ones, twos, fours = _eight(rows, i, j, against, k, ones, twos, fours)
        eight_b, ones, twos, fours = _eight(rows, i, j, against, k + 8, ones, twos, fours)
        sixteen = logic(eights, eight_a, eight_b, MAJORITY)
        eights = logic(eights, eight_a, eight_b, XOR3)
        _carry(planes, 4, top, sixteen)
    _carry(planes, 0, top, ones)
    _carry(planes, 1, top, twos)
    _carry(planes, 2, top, fours)
    _carry(planes, 3, top, eights)
    for k in range(whole, len(i)):
        _carry(planes, 0, top, _differ(rows, i, j, against, k))


@bare
def count_lanes(planes):
    """Turns binary digits into numbers: ``planes[k, w]`` becomes that of lane ``64 w + k``."""
    transpose_squares(planes)

"""Probabilities as rows of binary digits, which :mod:`ising.kernels.chances` works with."""

from collections.abc import Sequence

import numpy as np

from .bits import transpose_squares
from .lanes import LANES, WORDS, aligned
from .xoshiro import inline, jit

DIGITS, FIRST = 64, 6  # digits in all, and those that are asked for in every lane
HEIGHT = FIRST + 60  # rows of a case: its digits, and two of zeros


def digits(probabilities: np.ndarray) -> np.ndarray:
    """The binary digits of probabilities ``(*, cases, lanes)``, as rows ``(*, 64, cases, 8)``.

    Lane l is bit ``l % 64`` of word ``l // 64``. One lane stands for all.

    Example:
        >>> rows = digits(np.array([[0.5], [0.25]]))
        >>> rows.shape, (rows[0, 0] == 2**64 - 1).all(), rows[0, 1].any(), rows[2:].any()
        ((64, 2, 8), np.True_, np.False_, np.False_)
    """
    return _rows(units(probabilities), DIGITS)


def tables(probabilities: np.ndarray, asked: Sequence[tuple] = ((0,),) * 16) -> np.ndarray:
    """What :mod:`ising.kernels.chances` needs of probabilities ``(*, cases, lanes)``.

    Returns:
        Rows ``(*, 66, cases, 8)``: the terms of each case, see :func:`terms`, digit by digit.
    """
    return _rows(terms(units(probabilities), asked), HEIGHT)


def units(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities in units of :math:`2^{-64}`, uint64."""
    return (np.clip(probabilities, 0, 1 - 2.0**-53) * 2.0**64).astype(np.uint64)


def terms(units: np.ndarray, asked: Sequence[tuple]) -> np.ndarray:
    """Numbers ``(*, cases, lanes)`` in the form that is added up modulo 2, digit by digit.

    Where a digit differs from the one before it is the sum of the terms of its case and of all cases that
    are asked and have some of its bits.

    Example:
        >>> [bin(term) for term in terms(np.array([[0b1101], [0b0001]], dtype=np.uint64), ((0,), (0,)))[:, 0]]
        ['0b1011', '0b1010']
    """
    found = units ^ (units >> np.uint64(1))
    for case in range(found.shape[-2]):
        for other in range(case):
            if other & case == other and len(asked[other]):
                found[..., case, :] ^= found[..., other, :]
    return found


def _rows(numbers: np.ndarray, height: int) -> np.ndarray:
    """``(*, cases, lanes)`` numbers as ``(*, height, cases, 8)`` words of their digits, the highest first."""
    *outer, cases, _ = numbers.shape
    every_lane = np.ascontiguousarray(np.broadcast_to(numbers, (*outer, cases, LANES)))
    rows = aligned((*outer, height, cases, WORDS))
    _spell(every_lane.reshape(-1, cases, WORDS, 64), rows.reshape(-1, height, cases, WORDS))
    return rows


@jit
def _spell(numbers, rows):
    """``(n, cases, 8, 64)`` numbers to ``(n, 64 and more, cases, 8)`` words of their digits."""
    square = np.empty((DIGITS, WORDS), dtype=np.uint64)
    for n in range(numbers.shape[0]):
        for case in range(numbers.shape[1]):
            for word in range(WORDS):
                for k in range(64):
                    square[k, word] = numbers[n, case, word, k]
            spell(square, rows[n, :, case])


@inline
def spell(square, rows):
    """Writes the digits of each lane, the highest first; the number of lane 64 w + k is ``square[k, w]``."""
    transpose_squares(square)
    for k in range(DIGITS):
        for word in range(WORDS):
            rows[k, word] = square[DIGITS - 1 - k, word]

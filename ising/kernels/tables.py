"""Probabilities as rows of binary digits, which :mod:`ising.kernels.chances` works with."""

import numpy as np

from .lanes import LANES, WORDS, aligned
from .xoshiro import bare, inline, jit

DIGITS, FIRST = 64, 6  # digits in all, and those of the cells
REST = FIRST + 1  # the first row of the digits of the rest, after those of the cells
HEIGHT = REST + 60  # rows of a case


def digits(probabilities: np.ndarray) -> np.ndarray:
    """The binary digits of probabilities ``(*, cases, lanes)``, as rows ``(*, 64, cases, 8)``.

    Lane l is bit ``l % 64`` of word ``l // 64``. One lane stands for all.

    Example:
        >>> rows = digits(np.array([[0.5], [0.25]]))
        >>> rows.shape, (rows[0, 0] == 2**64 - 1).all(), rows[0, 1].any(), rows[2:].any()
        ((64, 2, 8), np.True_, np.False_, np.False_)
    """
    every_lane, outer = _every_lane(units(probabilities))
    rows = aligned((*outer, DIGITS, every_lane.shape[1], WORDS))
    _spell_digits(every_lane, rows.reshape(-1, DIGITS, every_lane.shape[1], WORDS))
    return rows


def tables(probabilities: np.ndarray) -> np.ndarray:
    """What :func:`decide` and :func:`finish` need of probabilities ``(*, cases, lanes)``.

    Returns:
        Rows ``(*, 67, cases, 8)``: of each case seven for its cells, then the digits of the rest.
    """
    every_lane, outer = _every_lane(codes(units(probabilities)))
    rows = aligned((*outer, HEIGHT, every_lane.shape[1], WORDS))
    _spell_codes(every_lane, rows.reshape(-1, HEIGHT, every_lane.shape[1], WORDS))
    return rows


def units(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities in units of :math:`2^{-64}`, uint64."""
    return (np.clip(probabilities, 0, 1 - 2.0**-53) * 2.0**64).astype(np.uint64)


def codes(units: np.ndarray) -> np.ndarray:
    """The smaller one of p and 1 - p, in units, with the highest bit set where that is 1 - p.

    Example:
        >>> [hex(code) for code in codes(np.array([2**62, 2**64 - 2**62], dtype=np.uint64))]
        ['0x4000000000000000', '0xc000000000000000']
    """
    half = np.uint64(2**63)
    smaller = np.minimum(np.where(units < half, units, -units), half - np.uint64(1))
    return np.where(units < half, smaller, smaller | half)


def _every_lane(numbers: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """``(*, cases, lanes)`` as ``(n, cases, 8, 64)``, and the shape before the cases."""
    *outer, cases, _ = numbers.shape
    every_lane = np.ascontiguousarray(np.broadcast_to(numbers, (*outer, cases, LANES)))
    return every_lane.reshape(-1, cases, WORDS, 64), tuple(outer)


@jit
def _spell_digits(units, rows):
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


@jit
def _spell_codes(codes, rows):
    """``(n, cases, 8, 64)`` codes to ``(n, 67, cases, 8)`` words."""
    block = np.empty(64, dtype=np.uint64)
    for n in range(codes.shape[0]):
        for case in range(codes.shape[1]):
            for word in range(WORDS):
                for k in range(64):
                    block[k] = codes[n, case, word, 63 - k]
                transpose(block)
                spell(block, rows[n, :, case], word)


@inline
def spell(block, rows, word):
    """Writes the rows of one case, for 64 lanes, from the binary digits of their codes, ``(64,)`` words.

    The first row is the lowest digit of the cells, the next ones tell where a digit differs from the one
    above it, and the seventh where yes and no are exchanged.
    """
    rows[0, word] = block[5]
    for k in range(1, 5):
        rows[k, word] = block[6 - k] ^ block[5 - k]
    rows[5, word], rows[6, word] = block[1], block[0]
    for k in range(FIRST, DIGITS):
        rows[k + 1, word] = block[k]


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

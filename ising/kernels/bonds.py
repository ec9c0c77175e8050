r"""Spins of 64 sites as the bits of a word, and their bonds as the bits of others.

Bonds belong to their later site: those that lead from the sites of a word a fixed distance back are the bits
of another word. All of them are decided together, by comparing random binary digits with those of their
probabilities, the highest first, until no satisfied bond is undecided: about 8 random words instead of 64.
Probabilities have 32 digits, an error of at most :math:`2^{-32}`.

The ghost spin of a field is a site before all others that never turns.
"""

from typing import NamedTuple

import numpy as np
from numba import uint64

from .xoshiro import inline, step

WORD, DIGITS = 64, 32
GHOST = 0  # the distance of the bonds to the ghost spin, and its site: the first word holds no other
ALL, LAST_LANE, ZERO, ONE = uint64(2**64 - 1), uint64(63), uint64(0), uint64(1)
WIDTH, WORD_SHIFT = uint64(WORD), uint64(6)


class Bonds(NamedTuple):
    """Bonds by the word of their later site and by distance: ``first[w]`` to ``first[w + 1]`` are of word w.

    Two groups of every word, if need be without bonds, come first: that of distance 1, and the largest other.

    Attributes:
        first: uint64, ``(words + 1,)``, where word 0 has none, and site i is bit i % 64 of word 1 + i // 64.
        distance: How far back the other ends are, uint64, ``(groups,)``; 0 is the ghost spin.
        there: Which sites have such a bond, as bits, uint64, ``(groups,)``.
        against: Which bonds are satisfied by opposite spins, as bits, uint64, ``(groups,)``.
        row: Where in :attr:`weights` their strengths are, uint64, ``(groups,)``.
        weights: The different sets of strengths of 64 bonds, float64, ``(rows, 64)``.
    """

    first: np.ndarray
    distance: np.ndarray
    there: np.ndarray
    against: np.ndarray
    row: np.ndarray
    weights: np.ndarray


def grouped(edges: np.ndarray, J: np.ndarray, h: np.ndarray) -> Bonds:
    """The bonds of sites, and of each site with the ghost spin; parallel bonds are one of their sum.

    Example:
        >>> ring = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
        >>> bonds = grouped(ring, np.ones(4), np.zeros(4))
        >>> bonds.distance.tolist(), [bin(there) for there in bonds.there.tolist()]
        ([1, 3], ['0b1110', '0b1000'])
    """
    n_words, beyond, tied = -(-len(h) // WORD), len(h) + 3, np.flatnonzero(h)
    starts, none = WORD * np.arange(n_words), np.zeros(n_words)  # no strength: for the groups always there
    site = np.concatenate([edges.max(-1), tied, starts, starts])
    distance = np.concatenate([np.ptp(edges, axis=-1), np.full(len(tied), GHOST), none + 1, none + 2])
    weight = np.concatenate([J, h[tied], none, none])

    key = ((1 + site // WORD) * beyond + distance.astype(np.int64)) * WORD + site % WORD
    order = np.argsort(key, kind="stable")
    key, begins = _runs(key[order])
    weight, lane = np.add.reduceat(weight[order], begins), (key % WORD).astype(np.uint64)
    group, begins = _runs(key // WORD)
    there, size = weight != 0, np.abs(weight)
    bit = np.left_shift(np.uint64(1), lane)
    count = np.add.reduceat(there, begins, dtype=np.int64)
    largest = np.maximum.reduceat(size, begins)
    smallest = np.minimum.reduceat(np.where(there, size, np.inf), begins)

    word, distance = np.divmod(group, beyond)
    order = np.lexsort((-count, distance == GHOST, distance != 1, word))
    rank = np.arange(len(order)) - np.searchsorted(word, word)
    kept = order[(rank < 2) | (count[order] > 0)]
    same = np.where(smallest >= largest, largest, -1.0 - np.arange(len(group)))  # one row for equal strengths
    _, of_row, row = np.unique(same[kept], return_index=True, return_inverse=True)
    row_of = np.zeros(len(group), dtype=np.int64)
    row_of[kept] = row
    weights = np.repeat(largest[kept[of_row], None], WORD, axis=1)
    bond_row = np.repeat(row_of, np.diff(begins, append=len(key)))
    weights[bond_row[there], lane[there]] = size[there]
    return Bonds(
        np.searchsorted(word[kept], np.arange(n_words + 2)).astype(np.uint64),
        distance[kept].astype(np.uint64),
        np.bitwise_or.reduceat(np.where(there, bit, 0), begins)[kept],
        np.bitwise_or.reduceat(np.where(weight < 0, bit, 0), begins)[kept],
        row.reshape(-1).astype(np.uint64),
        weights,
    )


def _runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values, and where each of them begins."""
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return ordered[begins], begins


def probability_digits(exponents: np.ndarray) -> np.ndarray:
    """Activation probabilities 1 − exp(−2x) of 64 bonds in binary, the highest digit first.

    Arguments:
        exponents: Float64, ``(..., 64)``.

    Returns:
        uint64, ``(..., 32)``; bit k of each word is of bond k.

    Example:
        >>> [bin(word)[:7] for word in probability_digits(np.full(64, np.log(2) / 2))[:2].tolist()]
        ['0b11111', '0b0']
    """
    units = np.rint(-np.expm1(-2 * exponents) * 2.0**DIGITS)
    of_bonds = np.minimum(units, 2.0**DIGITS - 1).astype(">u4")
    of_digits = np.unpackbits(of_bonds[..., None].view(np.uint8), axis=-1).swapaxes(-1, -2)
    packed = np.ascontiguousarray(np.packbits(of_digits, axis=-1, bitorder="little"))
    return packed.view("<u8")[..., 0].astype(np.uint64)


@inline
def active(asked, digits, row, s0, s1, s2, s3):
    """Those of the bonds ``asked`` that are active, with the probabilities of a row; and the next state."""
    yes, open_, k = ZERO, asked, ZERO
    while open_ and k < uint64(DIGITS):
        bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
        digit = digits[row, k]
        yes |= open_ & ~bits & digit
        open_ &= ~(bits ^ digit)
        k += ONE
    return yes, s0, s1, s2, s3


@inline
def satisfied(words, w, g, distance, there, against):
    """The bonds of group g, one of word w, whose spins are as their coupling wants them."""
    other = ALL
    if distance[g]:
        whole, rest = distance[g] >> WORD_SHIFT, distance[g] & LAST_LANE
        before = words[w - whole - ONE] >> ONE
        other = (words[w - whole] << rest) | (before >> (LAST_LANE - rest))
    return there[g] & ~(words[w] ^ other ^ against[g])


@inline
def popcount(word):
    """How many bits are set."""
    pairs = word - ((word >> ONE) & uint64(0x5555555555555555))
    fours = (pairs & uint64(0x3333333333333333)) + ((pairs >> uint64(2)) & uint64(0x3333333333333333))
    eights = (fours + (fours >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
    return (eights * uint64(0x0101010101010101)) >> uint64(56)

"""Configurations as packed bits, as they are stored: up is 1, the first site is the highest bit of a byte.

Kernels that hold one bit per chain in the words of a site have the bits of a configuration in N different
words; :func:`transpose` gathers them, 64 sites of 64 chains at a time.

References:
    | Hacker's Delight (Warren, 2nd edition 2012), section 7-3, transposing a bit matrix
"""

import numpy as np
from numba import uint64

from .lanes import PARTS, WORDS, aligned, load, part, store
from .xoshiro import inline, jit

BITS = 64  # of a word


def pack(spins: np.ndarray) -> np.ndarray:
    """Spins ±1 ``(*, N)`` to bits ``(*, ceil(N/8))``.

    Example:
        >>> pack(np.array([1, -1, -1, -1, -1, -1, -1, 1, 1])).tolist()
        [129, 128]
    """
    return np.packbits(spins > 0, axis=-1)


def unpack(bits: np.ndarray, n_sites: int) -> np.ndarray:
    """The inverse of :func:`pack`: int8 spins."""
    spins = np.unpackbits(bits, axis=-1, count=n_sites).view(np.int8)
    spins *= 2
    spins -= 1
    return spins


def transpose(words: np.ndarray) -> np.ndarray:
    """Bits by site and chain to bits by chain and site.

    Arguments:
        words: uint64, ``(N, W)``; bit k, counted from the lowest, of ``words[i, w]`` is site i of chain
            ``64 * w + k``.

    Returns:
        uint8, ``(64 * W, ceil(N/8))``, one packed configuration per row.

    Example:
        >>> words = np.array([[1], [2], [3]], dtype=np.uint64)
        >>> transpose(words)[:2, 0].tolist()  # chain 0 is up at the sites 0 and 2, chain 1 at 1 and 2
        [160, 96]
    """
    n_sites, n_words = words.shape
    gathered = np.empty((BITS * n_words, -(-n_sites // BITS)), dtype=np.uint64)
    _transpose(np.ascontiguousarray(words), gathered, aligned((BITS, WORDS)))
    octets = gathered.astype("<u8", copy=False).view(np.uint8)
    return np.ascontiguousarray(octets[:, : -(-n_sites // 8)])


@jit
def _transpose(words, gathered, square):
    """Fills ``(chains, ceil(N/64))`` words whose bytes, lowest first, are the packed configurations."""
    n_sites, n_words = words.shape
    for first in range(0, n_words, WORDS):
        last = min(first + WORDS, n_words)
        for block in range(gathered.shape[1]):
            start, there = BITS * block, min(BITS, n_sites - BITS * block)
            if there < BITS or last - first < WORDS:
                square[:] = uint64(0)
            for k in range(BITS):
                i = k ^ 7  # in a byte the first site is the highest bit
                if i < there:
                    for w in range(first, last):
                        square[k, w - first] = words[start + i, w]
            transpose_squares(square)
            for w in range(first, last):
                for k in range(BITS):
                    gathered[BITS * w + k, block] = square[k, w - first]


@inline
def transpose_squares(square):
    """Turns row k, bit j of each of the eight columns of words into row j, bit k."""
    for p in range(PARTS):
        own = part(square, p)
        mask, width = uint64(0x00000000FFFFFFFF), 32
        while width:
            shift = uint64(width)
            for start in range(0, BITS, 2 * width):
                for k in range(start, start + width):
                    low, high = load(own, k), load(own, k + width)
                    swap = ((low >> shift) ^ high) & mask
                    store(own, k, low ^ (swap << shift))
                    store(own, k + width, high ^ swap)
            width >>= 1
            mask ^= mask << uint64(width)

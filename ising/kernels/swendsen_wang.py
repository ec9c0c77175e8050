r"""Swendsen-Wang sweeps of one chain after another, 64 bonds at a time, for any Hamiltonian.

The law is that of :mod:`ising.updates.swendsen_wang`, for any lattice, couplings of any sign and size, and
any field. The spins of 64 sites in a row are the bits of a word. Bonds belong to their later site: those that
lead from a word to sites a fixed distance back are the bits of another word.

**Bonds.** All bits of a word of bonds are decided together, by comparing random binary digits with those of
their probabilities, the highest first, until no satisfied bond is undecided: about 8 random words instead of
64. Probabilities have 32 digits, an error of at most :math:`2^{-32}`.

**Labels.** Whether a bond is active is a coin toss, so the processor would guess a branch on it wrong. In the
order of sites, without a branch, a label is that of the site before, or else that of a second neighbour, or
else the site itself. Where both bonds are active and the labels differ, the pair is queued, and the trees of
labels are joined after each word, as they are for all other bonds. A label is never later than its site, so
one more pass in the same order hands every sign down from the root of its cluster.

Two distances thus cost least, the step to the next site and the most frequent other one: all bonds inside a
square lattice of any sides. The third direction of a triangular or cubic lattice is joined bond by bond. The
ghost spin of a field is a site before all others that never turns.

References:
    | Nonuniversal critical dynamics in Monte Carlo simulations (Swendsen and Wang, 1987)
    | Efficiency of a good but not linear set union algorithm (Tarjan, 1975)
"""

from typing import NamedTuple

import numpy as np
from numba import int64, uint64
from numba.cpython.unsafe.numbers import trailing_zeros

from ..model import Ising
from .clusters import ClusterSampler
from .xoshiro import bare, inline, step

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


@bare
def active(asked, digits, row, rng):
    """Those of the bonds ``asked`` that are active, with the probabilities of a row; ``rng`` goes on."""
    s0, s1, s2, s3 = rng
    yes, open_, k = ZERO, asked, ZERO
    while open_ and k < uint64(DIGITS):
        bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
        digit = digits[row, k]
        yes |= open_ & ~bits & digit
        open_ &= ~(bits ^ digit)
        k += ONE
    rng[0], rng[1], rng[2], rng[3] = s0, s1, s2, s3
    return yes


@inline
def _satisfied(words, w, g, distance, there, against):
    """The bonds of a group that may be active."""
    other = ALL
    if distance[g]:
        whole, rest = distance[g] >> WORD_SHIFT, distance[g] & LAST_LANE
        before = words[w - whole - ONE] >> ONE
        other = (words[w - whole] << rest) | (before >> (LAST_LANE - rest))
    return there[g] & ~(words[w] ^ other ^ against[g])


@inline
def _root(label, i):
    """The site that the labels lead to from i, on a path that is halved on the way."""
    while label[i] != i:
        label[i] = label[label[i]]
        i = label[i]
    return i


@inline
def _join(label, i, j):
    i, j = _root(label, i), _root(label, j)
    label[max(i, j)] = min(i, j)


@inline
def _label_word(label, w, sites, back, before, second, pairs):
    """Labels a word by the bonds to the site before and to that far back; returns how many pairs are left."""
    left, here = ZERO, w << WORD_SHIFT
    last = label[here - ONE]
    for k in range(sites):
        one, two = (before >> k) & ONE, (second >> k) & ONE
        site = here + k
        above = int64(label[site - back]) * int64(two) + int64(site) * int64(ONE ^ two)
        pairs[left, 0], pairs[left, 1] = last, above
        left += uint64(one & two) & uint64(last != above)
        last = last if one else above
        label[site] = last
    return left


@bare
def label_sites(words, n_sites, bonds, digits, rng, label, pairs):
    """Draws bonds and divides the sites into clusters: ``label`` leads to an earlier site or to itself."""
    first, distance, there, against, row = bonds
    for w in range(ONE, uint64(len(words))):
        g, end = first[w], first[w + ONE]
        before = active(_satisfied(words, w, g, distance, there, against), digits, row[g], rng)
        g += ONE
        second = active(_satisfied(words, w, g, distance, there, against), digits, row[g], rng)
        sites = min(WIDTH, n_sites - ((w - ONE) << WORD_SHIFT))
        left = _label_word(label, w, sites, distance[g], before, second, pairs)
        for pair in range(left):
            _join(label, pairs[pair, 0], pairs[pair, 1])
        for other in range(g + ONE, end):
            bits = active(_satisfied(words, w, other, distance, there, against), digits, row[other], rng)
            while bits:
                site = (w << WORD_SHIFT) + uint64(trailing_zeros(bits))
                bits &= bits - ONE
                _join(label, int64(site), int64(site - distance[other]) if distance[other] else int64(GHOST))


@bare
def _turn(words, label, flip, n_sites, rng):
    """Gives every cluster a new sign; returns how many sites turn."""
    s0, s1, s2, s3 = rng
    turned = ZERO
    flip[GHOST] = 0
    for w in range(ONE, uint64(len(words))):
        coins, s0, s1, s2, s3 = step(s0, s1, s2, s3)
        here, out = w << WORD_SHIFT, ZERO
        for k in range(WIDTH):
            flip[here + k] = (coins >> k) & ONE
        for k in range(min(WIDTH, n_sites + WIDTH - here)):
            turns = flip[label[here + k]]
            flip[here + k] = turns
            out |= uint64(turns) << k
        words[w] ^= out
    rng[0], rng[1], rng[2], rng[3] = s0, s1, s2, s3
    for site in range(WIDTH, n_sites + WIDTH):
        turned += flip[site]
    return turned


@inline
def _square(words, label, size, sign):
    """The sum of the squared magnetisations of the clusters, whose labels are roots."""
    size[:] = 0
    for i in range(len(sign)):
        site = uint64(i) + WIDTH
        spin = 2 * int64((words[site >> WORD_SHIFT] >> (site & LAST_LANE)) & ONE) - 1
        size[label[site]] += sign[i] * spin
    total = 0.0
    for magnetisation in size:
        total += float(magnetisation) ** 2
    return total


@bare
def _pack(s, words):
    """Bytes 0 and 1 to the bits of all words but the first."""
    for w in range(ONE, uint64(len(words))):
        at = (w - ONE) << WORD_SHIFT
        word = ZERO
        for k in range(min(WIDTH, uint64(len(s)) - at)):
            word |= uint64(s[at + k]) << k
        words[w] = word


@bare
def _unpack(words, s):
    for w in range(ONE, uint64(len(words))):
        at, word = (w - ONE) << WORD_SHIFT, words[w]
        for k in range(min(WIDTH, uint64(len(s)) - at)):
            s[at + k] = (word >> k) & ONE


@bare
def _sweeps(up, rng, chains, n, laws, scratch, flipped, squares, labels):
    """Makes n sweeps of each given chain.

    ``squares`` gets the sum of the squared magnetisations of all clusters, ``labels`` a site of the cluster
    that each site is in.
    """
    which, digits, bonds, sign = laws
    words, label, flip, pairs, size = scratch
    n_sites = uint64(up.shape[1])
    for site in range(WIDTH):
        label[site] = site
    for chain in chains:
        s, state = up[chain], rng[chain]
        _pack(s, words)
        for m in range(n):
            label_sites(words, n_sites, bonds, digits[which[chain]], state, label, pairs)
            if squares.size or labels.size:
                for site in range(WIDTH, n_sites + WIDTH):
                    label[site] = label[label[site]]  # the earlier site leads to its root already
            if squares.size:
                squares[chain, m] = _square(words, label, size, sign)
            if labels.size:
                for i in range(n_sites):
                    labels[chain, i] = label[i + WIDTH] - WORD
            flipped[chain] += _turn(words, label, flip, n_sites, state)
        _unpack(words, s)


class SwendsenWang(ClusterSampler):
    """See :class:`ising.kernels.Sampler`; one sweep gives every cluster of every chain a new sign."""

    name = "swendsen_wang"

    def _prepare(self, model: Ising) -> None:  # noqa: ARG002  what is needed of it is here already
        self._bonds = grouped(self._edges, self._J, self._h)

    def _heat(self, betas: np.ndarray) -> None:
        self._digits = probability_digits(betas[:, None, None] * self._bonds.weights)

    def _grow(self, block, n, flipped, squares, labels) -> None:
        bonds = self._bonds[:-1]
        n_words = len(bonds[0]) - 1
        scratch = (
            np.empty(n_words, dtype=np.uint64),
            np.empty(WORD * n_words, dtype=np.int32),
            np.empty(WORD * n_words, dtype=np.uint8),
            np.empty((WORD + 1, 2), dtype=np.int32),
            np.empty(WORD * n_words if squares.size else 0, dtype=np.int32),
        )
        laws = self._which, self._digits, bonds, self._sign
        _sweeps(self._up, self._rng, block, n, laws, scratch, flipped, squares, labels)

    def clusters(self) -> np.ndarray:
        """Makes one sweep; returns for each site one site of its cluster, int32, ``(chains, N)``.

        Without a field only: the ghost spin is no site.
        """
        if self._h.any():
            raise ValueError("clusters are told without a field only, h = 0: the ghost spin is no site")
        labels = np.empty(self._up.shape, dtype=np.int32)
        self._run(1, labels=labels)
        return labels

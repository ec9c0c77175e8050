r"""Swendsen-Wang sweeps of one chain after another, 64 bonds at a time, for any Hamiltonian.

The law is that of :mod:`ising.updates.swendsen_wang`, for any lattice, couplings of any sign and size, and
any field; the bonds are those of :mod:`.bonds`.

Whether a bond is active is a coin toss, so the processor would guess a branch on it wrong. In the order of
sites, without a branch, a label is that of the site before, or else that of a second neighbour, or else the
site itself. Where both bonds are active and the labels differ, the pair is queued, and the trees of labels
are joined after each word, as they are for all other bonds. A label is never later than its site, so one more
pass in the same order hands every sign down from the root of its cluster.

Two distances thus cost least, the step to the next site and the most frequent other one: all bonds inside a
square lattice of any sides. The third direction of a triangular or cubic lattice is joined bond by bond.

References:
    | Nonuniversal critical dynamics in Monte Carlo simulations (Swendsen and Wang, 1987)
    | Efficiency of a good but not linear set union algorithm (Tarjan, 1975)
"""

import numpy as np
from numba import int64, uint64
from numba.cpython.unsafe.numbers import trailing_zeros

from .bonds import GHOST, LAST_LANE, ONE, WIDTH, WORD, WORD_SHIFT, ZERO, active, satisfied
from .clusters import ClusterSampler
from .xoshiro import bare, inline, step


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
def _label_sites(words, n_sites, bonds, digits, rng, label, pairs):
    """Draws bonds and divides the sites into clusters: ``label`` leads to an earlier site or to itself."""
    first, distance, there, against, row = bonds
    s0, s1, s2, s3 = rng
    for w in range(ONE, uint64(len(words))):
        g, end = first[w], first[w + ONE]
        asked = satisfied(words, w, g, distance, there, against)
        before, s0, s1, s2, s3 = active(asked, digits, row[g], s0, s1, s2, s3)
        g += ONE
        asked = satisfied(words, w, g, distance, there, against)
        second, s0, s1, s2, s3 = active(asked, digits, row[g], s0, s1, s2, s3)
        sites = min(WIDTH, n_sites - ((w - ONE) << WORD_SHIFT))
        left = _label_word(label, w, sites, distance[g], before, second, pairs)
        for pair in range(left):
            _join(label, pairs[pair, 0], pairs[pair, 1])
        for other in range(g + ONE, end):
            asked = satisfied(words, w, other, distance, there, against)
            bits, s0, s1, s2, s3 = active(asked, digits, row[other], s0, s1, s2, s3)
            while bits:
                site = (w << WORD_SHIFT) + uint64(trailing_zeros(bits))
                bits &= bits - ONE
                _join(label, int64(site), int64(site - distance[other]) if distance[other] else int64(GHOST))
    rng[0], rng[1], rng[2], rng[3] = s0, s1, s2, s3


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
def _square(words, label, size, n_sites):
    """The sum of the squared magnetisations of the clusters, whose labels are roots."""
    size[:] = 0
    for site in range(WIDTH, n_sites + WIDTH):
        size[label[site]] += 2 * int64((words[site >> WORD_SHIFT] >> (site & LAST_LANE)) & ONE) - 1
    total = 0.0
    for magnetisation in size:
        total += float(magnetisation) ** 2
    return total


@bare
def _sweeps(spins, rng, chains, n, n_sites, laws, scratch, flipped, squares, labels):
    """Makes n sweeps of each given chain.

    ``squares`` gets the sum of the squared magnetisations of all clusters, ``labels`` a site of the cluster
    that each site is in.
    """
    which, digits, bonds = laws
    label, flip, pairs, size = scratch
    for site in range(WIDTH):
        label[site] = site
    for chain in chains:
        words, state = spins[chain], rng[chain]
        for m in range(n):
            _label_sites(words, n_sites, bonds, digits[which[chain]], state, label, pairs)
            if squares.size or labels.size:
                for site in range(WIDTH, n_sites + WIDTH):
                    label[site] = label[label[site]]  # the earlier site leads to its root already
            if squares.size:
                squares[chain, m] = _square(words, label, size, n_sites)
            if labels.size:
                for i in range(n_sites):
                    labels[chain, i] = label[i + WIDTH] - WORD
            flipped[chain] += _turn(words, label, flip, n_sites, state)


class SwendsenWang(ClusterSampler):
    """See :class:`ising.kernels.Sampler`; one sweep gives every cluster of every chain a new sign."""

    name = "swendsen_wang"

    def _grow(self, block, n, flipped, squares, labels) -> None:
        n_words = self._words.shape[1]
        scratch = (
            np.empty(WORD * n_words, dtype=np.int32),
            np.empty(WORD * n_words, dtype=np.uint8),
            np.empty((WORD + 1, 2), dtype=np.int32),
            np.empty(WORD * n_words if squares.size else 0, dtype=np.int32),
        )
        laws = self._which, self._digits, self._bonds[:-1]
        n_sites = np.uint64(self._n_sites)
        _sweeps(self._words, self._rng, block, n, n_sites, laws, scratch, flipped, squares, labels)

    def clusters(self) -> np.ndarray:
        """Makes one sweep; returns for each site one site of its cluster, int32, ``(chains, N)``.

        Without a field only: the ghost spin is no site.
        """
        if self._field:
            raise ValueError("clusters are told without a field only, h = 0: the ghost spin is no site")
        labels = np.empty((len(self._words), self._n_sites), dtype=np.int32)
        self._run(1, labels=labels)
        return labels

r"""Wolff clusters of one chain after another, 64 sites at a time, for any Hamiltonian.

The law is that of :mod:`ising.updates.wolff`; the bonds are those of :mod:`.bonds`, drawn for a whole word of
sites as the cluster reaches it. A word that sites have joined waits on a stack. When its turn comes, they
spread along the active bonds inside the word, by a carry upwards and by doubling steps downwards, and those
that are new pass on to other words through its links, a few shifts each. Words whose links are the same
relative to themselves are of one kind; kinds are few, so their table stays in the fastest cache.

Spins turn when the cluster is complete, and not at all where it is tied to the ghost spin.

References:
    | Collective Monte Carlo Updating for Spin Systems (Wolff, 1989)
"""

from typing import NamedTuple

import numpy as np
from numba import int64, uint64

from ..model import Ising
from .bonds import GHOST, LAST_LANE, ONE, WIDTH, WORD, WORD_SHIFT, ZERO, Bonds, active, popcount, satisfied
from .clusters import ClusterSampler
from .xoshiro import bare, fraction, inline, step


class Links(NamedTuple):
    r"""Where the sites of a word lead: links ``first[kind[w]]`` to ``first[kind[w] + 1]`` are of word w.

    Sites x lead to the bits :math:`((((x \ll a) \gg b) \& g) \gg c) \ll d` of the other word, with g the
    active bonds of a group of whichever of the two words is later.

    Attributes:
        kind: uint16 or larger, ``(words,)``.
        first: uint64, ``(kinds + 1,)``.
        ahead: How many words ahead the other word is, int64, ``(links,)``.
        group: Which group of the later word, uint64, ``(links,)``.
        shifts: a to d, uint64, ``(links, 4)``.
        ghost: Which group of its own are the bonds to the ghost spin, int64, ``(kinds,)``; -1 for none.
    """

    kind: np.ndarray
    first: np.ndarray
    ahead: np.ndarray
    group: np.ndarray
    shifts: np.ndarray
    ghost: np.ndarray


def linked(bonds: Bonds) -> Links:
    """The links of all words, those inside a word from one site to the next left out.

    Example:
        >>> from .bonds import grouped
        >>> ring = np.stack([np.arange(128), (np.arange(128) + 1) % 128], 1)
        >>> links = linked(grouped(ring, np.ones(128), np.zeros(128)))
        >>> links.kind.tolist(), links.ahead.tolist()
        ([0, 2, 1], [-1, -1, 1, 1])
    """
    first = bonds.first.astype(np.int64)
    n_words = len(first) - 1
    word = np.repeat(np.arange(n_words), np.diff(first))
    group = np.arange(len(word)) - first[word]
    whole, rest = np.divmod(bonds.distance.astype(np.int64), WORD)
    low = (np.uint64(1) << rest.astype(np.uint64)) - np.uint64(1)  # lanes whose other ends are a word further
    to_site = bonds.distance != GHOST
    near = to_site & (bonds.there & ~low > 0) & ~((group == 0) & (bonds.distance == 1))
    far = to_site & (bonds.there & low > 0)
    rows = [np.empty((0, 7), dtype=np.int64)]
    for chosen, back, outward, homeward in (
        (near, whole, (0, 0, 1, 0), (1, 0, 0, 0)),
        (far, whole + 1, (0, 0, 0, -1), (0, -1, 0, 0)),
    ):
        later, steps, shift = word[chosen], back[chosen], rest[chosen, None]
        for at, ahead, how in ((later, -steps, outward), (later - steps, steps, homeward)):
            shifts = np.where(np.array(how) > 0, shift, np.where(np.array(how) < 0, WORD - shift, 0))
            rows.append(np.column_stack([at, ahead, group[chosen], shifts]))
    table = np.concatenate(rows)
    table = table[np.lexsort((*table.T[:0:-1], table[:, 0]))]
    ghost = np.full(n_words, -1)
    ghost[word[~to_site]] = group[~to_site]
    return _of_kinds(table, ghost)


def _of_kinds(table: np.ndarray, ghost: np.ndarray) -> Links:
    """From rows of a word, steps ahead, a group and shifts, in the order of words."""
    n_words = len(ghost)
    begins = np.searchsorted(table[:, 0], np.arange(n_words + 1))
    count = np.diff(begins)
    padded = np.full((n_words, max(int(count.max()), 1), table.shape[1] - 1), -WORD, dtype=np.int64)
    padded[table[:, 0], np.arange(len(table)) - begins[table[:, 0]]] = table[:, 1:]
    padded = np.column_stack([padded.reshape(n_words, -1), ghost])
    differs = np.flatnonzero(
        np.append(True, (padded[1:] != padded[:-1]).any(1))
    )  # few do from the word before
    _, of_kind, kind = np.unique(padded[differs], axis=0, return_index=True, return_inverse=True)
    of_kind = differs[of_kind]
    kind = np.repeat(kind.reshape(-1), np.diff(differs, append=n_words))
    kept = np.concatenate([np.arange(begins[w], begins[w + 1]) for w in of_kind])
    return Links(
        kind.astype(np.min_scalar_type(len(of_kind))),
        np.append(0, np.cumsum(count[of_kind])).astype(np.uint64),
        table[kept, 1],
        table[kept, 2].astype(np.uint64),
        np.ascontiguousarray(table[kept, 3:]).astype(np.uint64),
        ghost[of_kind],
    )


@inline
def _spread(sites, along):
    """All sites that bonds inside a word join to the given ones; bit k of ``along`` is from k - 1 to k."""
    begin = (sites << ONE) & along
    sites |= (((along + begin) ^ along) | begin) & along
    down = along >> ONE
    sites |= down & (sites >> ONE)
    for k in (1, 2, 4, 8, 16):
        down &= down >> uint64(k)
        sites |= down & (sites >> uint64(2 * k))
    return sites


@inline
def _draw(words, w, bonds, digits, bond, s0, s1, s2, s3):
    """Decides all bonds of word w."""
    first, distance, there, against, row = bonds
    for g in range(first[w], first[w + ONE]):
        asked = satisfied(words, w, g, distance, there, against)
        bond[g], s0, s1, s2, s3 = active(asked, digits, row[g], s0, s1, s2, s3)
    return s0, s1, s2, s3


@inline
def _cluster(words, root, bonds, digits, links, scratch, s0, s1, s2, s3):
    """Marks the cluster of a site in ``joined``; returns how many words were drawn, and whether it is tied.

    ``reached`` is zero before and afterwards, ``joined`` and ``drawn`` are so before.
    """
    kind, begin, ahead, group, shifts, ghost = links
    bond, joined, reached, drawn, touched, stack = scratch
    first, count, tied = bonds[0], ZERO, False
    stack[0], height = root >> WORD_SHIFT, ONE
    reached[root >> WORD_SHIFT] = ONE << (root & LAST_LANE)
    while height:
        height -= ONE
        w = uint64(stack[height])
        if tied:
            reached[w] = ZERO
            continue
        if not drawn[w]:
            s0, s1, s2, s3 = _draw(words, w, bonds, digits, bond, s0, s1, s2, s3)
            drawn[w], touched[count] = True, w
            count += ONE
        new = _spread(reached[w], bond[first[w]]) & ~joined[w]
        reached[w] = ZERO
        joined[w] |= new
        its = uint64(kind[w])
        if ghost[its] >= 0:
            tied = (new & bond[first[w] + uint64(ghost[its])]) != ZERO
        for link in range(begin[its], begin[its + ONE]):
            moved = (new << shifts[link, 0]) >> shifts[link, 1]
            other = uint64(int64(w) + ahead[link])
            later = other if ahead[link] > 0 else w
            if moved and not drawn[later]:
                s0, s1, s2, s3 = _draw(words, later, bonds, digits, bond, s0, s1, s2, s3)
                drawn[later], touched[count] = True, later
                count += ONE
            hit = moved & bond[first[later] + group[link]]
            hit = ((hit >> shifts[link, 2]) << shifts[link, 3]) & ~joined[other]
            waiting = reached[other]
            stack[height] = other
            height += uint64((hit != ZERO) & (waiting == ZERO))
            reached[other] = waiting | hit
    return count, tied, s0, s1, s2, s3


@bare
def _wolff(spins, rng, chains, n, n_sites, laws, scratch, flipped, squares):
    """Makes n clusters in each given chain. ``squares`` gets the squared magnetisation per site of each."""
    which, digits, bonds, links = laws
    _, joined, _, drawn, touched, _ = scratch
    for chain in chains:
        words = spins[chain]
        s0, s1, s2, s3 = rng[chain]
        for m in range(n):
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            root = uint64(fraction(bits) * n_sites) + WIDTH
            count, tied, s0, s1, s2, s3 = _cluster(
                words, root, bonds, digits[which[chain]], links, scratch, s0, s1, s2, s3
            )
            size, up = ZERO, ZERO
            for k in range(count):
                w = uint64(touched[k])
                cluster = joined[w]
                size += popcount(cluster)
                up += popcount(cluster & words[w])
                words[w] ^= ZERO if tied else cluster
                joined[w], drawn[w] = ZERO, False
            if squares.size:
                squares[chain, m] = n_sites * (2.0 * up - size) ** 2 / float(size)
            flipped[chain] += ZERO if tied else size
        rng[chain, 0], rng[chain, 1], rng[chain, 2], rng[chain, 3] = s0, s1, s2, s3


class Wolff(ClusterSampler):
    """See :class:`ising.kernels.Sampler`; one sweep is one cluster in every chain."""

    name = "wolff"

    def __init__(self, model: Ising, *args, **options):
        super().__init__(model, *args, **options)
        self._links = linked(self._bonds)

    def _grow(self, block, n, flipped, squares, labels) -> None:  # noqa: ARG002  one signature
        n_words = self._words.shape[1]
        scratch = (
            np.empty(len(self._bonds.distance), dtype=np.uint64),
            np.zeros(n_words, dtype=np.uint64),
            np.zeros(n_words, dtype=np.uint64),
            np.zeros(n_words, dtype=np.bool_),
            np.empty(n_words, dtype=np.int32),
            np.empty(n_words, dtype=np.int32),
        )
        laws = self._which, self._digits, self._bonds[:-1], self._links
        n_sites = np.uint64(self._n_sites)
        _wolff(self._words, self._rng, block, n, n_sites, laws, scratch, flipped, squares)

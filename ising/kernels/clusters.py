r"""Wolff clusters of one chain after another, each with its own random number stream.

The law is that of :mod:`ising.updates.wolff`, for couplings of any sign and any field. Bonds are drawn as the
flood meets them, each by 32 random bits: the error of a probability is at most :math:`2^{-33}`.

Whether a neighbour joins is a coin toss, so the processor would guess a branch on it wrong half of the time.
There is none: every neighbour is written to the end of the queue, and the queue grows by one or by nothing. A
queue, unlike a stack, lets several sites be worked on at once. Neighbours are steps from a site; sites with
the same steps are of one kind, and kinds are few, so their table stays in the fastest cache for any size.

Where all couplings are alike and no loop is frustrated, the spins of a cluster are all equal, once those of
one sublattice of an antiferromagnet are reversed, as they are in here. All else takes a slower path.

References:
    | Collective Monte Carlo Updating for Spin Systems (Wolff, 1989)
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import int64, uint8, uint64

from ..lattices import Lattice
from ..model import Ising
from .xoshiro import bare, fraction, inline, step, streams

PATIENCE = 64  # sites by which a Wolff cluster grows before it is asked whether it is tied to the ghost spin
VISITED = uint8(2)  # a site is 0 or 1, its spin, plus this mark
LOW, HALF = uint64(2**32 - 1), uint64(32)
NO_SQUARES, NO_LABELS = np.empty((0, 0)), np.empty((0, 0), dtype=np.int32)  # where none are asked for
ZERO, ONE, TWO = uint64(0), uint64(1), uint64(2)  # signed and unsigned numbers would mix to floats


class ClusterSampler:
    """What the two samplers share; see :class:`ising.kernels.Sampler`.

    A sampler works out what belongs to the Hamiltonian (``_prepare``) and to each of a few inverse
    temperatures (``_heat``), and makes n sweeps of a block of chains (``_grow``).
    """

    name: str

    @classmethod
    def covers(cls, update: str, model: Ising, device: str) -> bool:  # noqa: ARG003  any Hamiltonian will do
        return update == cls.name and device == "cpu"

    def __init__(
        self,
        model: Ising,
        update: str,  # noqa: ARG002
        beta: float | np.ndarray,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        device: str = "cpu",  # noqa: ARG002
        threads: int = 1,
    ):
        lattice = model.lattice
        self._sign, self._alike = _sublattices(model)
        self._edges = lattice.edges.numpy().astype(np.int32)
        J, self._h = np.array(model.bond_couplings.numpy()), self._sign * model.site_fields.numpy()
        self._J = np.abs(J) if self._alike else J
        self._up = self._placed(spins)
        self._rng = np.ascontiguousarray(streams(seed, len(self._up)).T)
        self._blocks = np.array_split(np.arange(len(self._up)), min(threads, len(self._up)))
        self._prepare(model)
        self._betas = np.empty(0)
        self.set_beta(beta)

    def set_beta(self, beta: float | np.ndarray) -> None:
        per_chain = np.broadcast_to(np.asarray(beta, dtype=np.float64), len(self._up))
        betas, self._which = np.unique(per_chain, return_inverse=True)  # chains share tables
        if not np.array_equal(betas, self._betas):  # an exchange only deals them out anew
            self._betas = betas
            self._heat(betas)

    def sweep(self, n: int) -> float:
        return self._run(n)

    def squares(self, n: int) -> np.ndarray:
        r"""Makes n sweeps; each gives a cluster estimator of :math:`M^2`, float64, ``(chains, n)``.

        Without a field only: see :mod:`ising.improved`.
        """
        squares = np.empty((len(self._up), n))
        self._run(n, squares=squares)
        return squares

    def spins(self) -> np.ndarray:
        return (2 * self._up.view(np.int8) - 1) * self._sign

    def bits(self) -> np.ndarray:
        return np.packbits(self._up ^ (self._sign < 0), axis=-1)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        energy, magnetisation = np.zeros((2, len(self._up)))

        def measure_block(block: np.ndarray) -> None:
            _measure(self._up, block, self._edges, self._J, self._h, self._sign, energy, magnetisation)

        self._over_blocks(measure_block)
        return energy, magnetisation

    def state(self) -> dict[str, np.ndarray]:
        return {"spins": self.spins(), "rng": self._rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._up, self._rng = self._placed(state["spins"]), np.array(state["rng"], order="C")

    def _placed(self, spins: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(spins * self._sign > 0).view(np.uint8)

    def _run(self, n: int, squares: np.ndarray = NO_SQUARES, labels: np.ndarray = NO_LABELS) -> float:
        flipped = np.zeros(len(self._up))
        self._over_blocks(lambda block: self._grow(block, n, flipped, squares, labels))
        return float(flipped.mean()) / (n * self._up.shape[1])

    def _over_blocks(self, work: Callable[[np.ndarray], None]) -> None:
        if len(self._blocks) == 1:
            work(self._blocks[0])
        else:
            with ThreadPoolExecutor(len(self._blocks)) as pool:
                list(pool.map(work, self._blocks))


def kinds(lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours as steps: those of site i are ``i + steps[kind[i]]``.

    Returns:
        int64 ``(kinds, z)``, where z is made even and at least 2 by steps of 0; and unsigned ``(N,)``.

    Example:
        >>> from ising.lattices import chain, square
        >>> steps, kind = kinds(chain(4))
        >>> steps.tolist(), kind.tolist()
        ([[-3, -1], [1, -1], [1, 3]], [2, 1, 1, 0])
        >>> kinds(square(64))[0].shape
        (9, 4)
    """
    sites, here = lattice.neighbours[0].numpy(), np.arange(lattice.n_sites)[:, None]
    own = np.broadcast_to(here, (len(here), 2 if sites.shape[1] == 0 else sites.shape[1] % 2))
    rows = np.hstack([sites, own]) - here
    first = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(1)))  # few sites differ from the last
    steps, kind = np.unique(rows[first], axis=0, return_inverse=True)
    kind = np.repeat(kind.reshape(-1), np.diff(first, append=len(rows)))
    return np.ascontiguousarray(steps), kind.astype(np.min_scalar_type(len(steps)))


def _sublattices(model: Ising) -> tuple[np.ndarray, bool]:
    """Signs ``(N,)`` that make all couplings equal and positive; or ones, and that it cannot be done."""
    J, lattice = model.bond_couplings, model.lattice
    ones = np.ones(lattice.n_sites, dtype=np.int8)
    if not len(J) or (J[0] != J).any():
        return ones, False
    if J[0] >= 0:
        return ones, True
    if len(lattice.colour_classes) > 2:
        return ones, False
    return lattice.staggering.numpy().astype(np.int8), True


def _thresholds(exponents: np.ndarray) -> np.ndarray:
    """Activation probabilities 1 − exp(−2x) in units of 2**-32."""
    return np.rint(-np.expm1(-2 * exponents) * 2.0**32).astype(np.uint64)


@inline
def _flood(law, done, limit, size, seen, flip, s0, s1, s2, s3):
    """Lets the cluster grow from the sites ``done`` to ``limit`` of its queue; returns how far it got.

    A site that joins gets its spin, turned over if ``flip``, and the mark ``seen``. One that has joined is
    not found again: it is marked, or turned over and therefore not aligned any more.
    """
    c, queue, steps, kind, bond, antiferromagnetic = law
    z = uint64(steps.shape[1])
    if antiferromagnetic.size == 0:  # all couplings alike
        threshold = bond[0, 0]
        aligned = uint8((c[queue[0]] ^ flip) & uint8(1))
        joined = uint8((aligned ^ flip) | seen)
        while done < size and done < limit:
            i = int64(queue[done])
            row = kind[i]
            done += ONE
            k = ZERO
            while k < z:
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                j = uint64(i + steps[row, k])
                there = c[j]
                joins = (there == aligned) & ((bits & LOW) < threshold)
                c[j] = joined if joins else there
                queue[size] = j
                size += uint64(joins)
                j = uint64(i + steps[row, k + ONE])
                there = c[j]
                joins = (there == aligned) & ((bits >> HALF) < threshold)
                c[j] = joined if joins else there
                queue[size] = j
                size += uint64(joins)
                k += TWO
    else:
        while done < size and done < limit:
            i = int64(queue[done])
            row = kind[i]
            here = uint8((c[i] ^ flip) & uint8(1))
            done += ONE
            for k in range(z):
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                j = uint64(i + steps[row, k])
                there = c[j]
                joins = (there == here ^ antiferromagnetic[i, k]) & ((bits >> HALF) < bond[i, k])
                c[j] = uint8((there ^ flip) | seen) if joins else there
                queue[size] = j
                size += uint64(joins)
    return done, size, s0, s1, s2, s3


@inline
def _tied(c, queue, first, last, flip, tie, favoured, s0, s1, s2, s3):
    """Whether a bond to the ghost spin is active at one of these sites of the queue."""
    tied = False
    while first < last and not tied:
        i = queue[first]
        first += ONE
        bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
        tied = ((c[i] ^ flip) & uint8(1) == favoured[i]) & ((bits >> HALF) < tie[i])
    return tied, s0, s1, s2, s3


@inline
def _magnetisation(c, queue, size, flip, sign):
    """Of the cluster, before it was flipped."""
    total = 0
    for k in range(size):
        i = queue[k]
        total += sign[i] * (2 * int64((c[i] ^ flip) & uint8(1)) - 1)
    return float(total)


@bare
def _wolff(up, rng, chains, n, laws, queue, flipped, squares):
    """Makes n clusters in each given chain. ``squares`` gets the squared magnetisation per site of each."""
    which, bonds, ties, steps, kind, antiferromagnetic, favoured, sign = laws
    n_sites = up.shape[1]
    field, flip = ties.shape[1] > 0, uint8(1)
    seen = VISITED if antiferromagnetic.size else uint8(0)
    patience = uint64(PATIENCE if field else n_sites)
    for chain in chains:
        c, tie = up[chain], ties[which[chain]]
        law = c, queue, steps, kind, bonds[which[chain]], antiferromagnetic
        s0, s1, s2, s3 = rng[chain]
        for m in range(n):
            bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
            root = int64(fraction(bits) * n_sites)
            c[root] = uint8((c[root] ^ flip) | seen)
            queue[0] = root
            done, size, tied = ZERO, ONE, False
            while done < size and not tied:
                first = done
                done, size, s0, s1, s2, s3 = _flood(
                    law, done, done + patience, size, seen, flip, s0, s1, s2, s3
                )
                if field:
                    tied, s0, s1, s2, s3 = _tied(c, queue, first, done, flip, tie, favoured, s0, s1, s2, s3)
            if squares.size:
                squares[chain, m] = n_sites * _magnetisation(c, queue, size, flip, sign) ** 2 / float(size)
            if tied or seen:
                back = flip if tied else uint8(0)
                for k in range(size):
                    c[queue[k]] = uint8((c[queue[k]] ^ back) & uint8(1))
            flipped[chain] += ZERO if tied else size
        rng[chain] = s0, s1, s2, s3


@bare
def _measure(up, chains, edges, J, h, sign, energy, magnetisation):
    """Adds up the energy and the magnetisation of each given chain."""
    for chain in chains:
        c = up[chain]
        for bond in range(len(J)):
            energy[chain] -= J[bond] * (1 - 2 * int64(c[edges[bond, 0]] ^ c[edges[bond, 1]]))
        for i in range(len(c)):
            spin = 2 * int64(c[i]) - 1
            energy[chain] -= h[i] * spin
            magnetisation[chain] += sign[i] * spin


class Wolff(ClusterSampler):
    """See :class:`ising.kernels.Sampler`; one sweep is one cluster in every chain."""

    name = "wolff"

    def _prepare(self, model: Ising) -> None:
        lattice = model.lattice
        steps, kind = kinds(lattice)
        around = np.zeros((lattice.n_sites, steps.shape[1]))
        around[:, : lattice.neighbours[0].shape[1]] = model.neighbour_couplings.numpy()
        self._weights = np.abs(self._J[:1, None] if self._alike else around)
        antiferromagnetic = np.zeros((0, 0), dtype=np.uint8) if self._alike else (around < 0).view(np.uint8)
        self._tables = steps, kind, antiferromagnetic, (self._h > 0).view(np.uint8), self._sign

    def _heat(self, betas: np.ndarray) -> None:
        self._bonds = _thresholds(betas[:, None, None] * self._weights)
        self._ties = _thresholds(betas[:, None] * np.abs(self._h if self._h.any() else self._h[:0]))

    def _grow(self, block, n, flipped, squares, labels) -> None:  # noqa: ARG002  one signature
        queue = np.empty(len(self._h) + 1, dtype=np.int32)
        laws = self._which, self._bonds, self._ties, *self._tables
        _wolff(self._up, self._rng, block, n, laws, queue, flipped, squares)

r"""Edwards-Anderson spin glasses: Ising models whose couplings are drawn at random, and overlaps of replicas.

A glass is an :class:`ising.Ising` with one coupling per bond: all that takes a model takes a glass. The seed
is of the disorder alone, a simulation has its own.

On the Nishimori line disorder averages of the energy are known exactly, on every lattice of B bonds:
:math:`[\langle E \rangle] = -B J \tanh \beta J` where :math:`e^{2 \beta J} = p / (1 - p)` for :func:`bimodal`
with a fraction p > 1/2 of ferromagnetic bonds, :math:`-B J_0` where :math:`\beta = J_0 / \sigma^2` for
:func:`gaussian` with mean :math:`J_0`.

References:
    | Theory of spin glasses (Edwards and Anderson, 1975)
    | Internal energy, specific heat and correlation function of the bond-random Ising model (Nishimori, 1981)
"""

import numpy as np
from torch import Tensor

from .lattices import Lattice
from .model import Ising


def bimodal(
    lattice: Lattice, seed: int, *, fraction: float = 0.5, J: float = 1.0, h: float | Tensor = 0.0
) -> Ising:
    r"""The ±J glass: every coupling is +J with probability ``fraction``, else −J.

    Arguments:
        lattice: Sites and bonds.
        seed: Seed of the disorder.
        fraction: Probability of a ferromagnetic bond.
        J: Size of all couplings.
        h: Field, as :class:`ising.Ising` takes it.

    Example:
        >>> from ising.lattices import square
        >>> bimodal(square(4), seed=1).bond_couplings.unique().tolist()
        [-1.0, 1.0]
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is the probability of a bond +J, between 0 and 1, got {fraction}")
    positive = _generator("bimodal", seed).random(len(lattice.edges)) < fraction
    return Ising(lattice, np.where(positive, J, -J), h)


def gaussian(
    lattice: Lattice, seed: int, *, mean: float = 0.0, width: float = 1.0, h: float | Tensor = 0.0
) -> Ising:
    r"""The Gaussian glass: couplings of the normal law :math:`N(J_0, \sigma^2)`.

    Arguments:
        lattice: Sites and bonds.
        seed: Seed of the disorder.
        mean: The mean :math:`J_0`.
        width: The standard deviation :math:`\sigma`.
        h: Field, as :class:`ising.Ising` takes it.

    Example:
        >>> from ising.lattices import square
        >>> gaussian(square(4), seed=1).bond_couplings.shape
        torch.Size([32])
    """
    if not width >= 0:
        raise ValueError(f"width is a standard deviation, at least 0, got {width}")
    return Ising(lattice, _generator("gaussian", seed).normal(mean, width, len(lattice.edges)), h)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r"""Overlap :math:`q = \frac1N \sum_i s_i^a s_i^b` of two replicas: ``(*, N)`` spins to ``(*,)``.

    Example:
        >>> overlap(np.array([1, 1, -1, -1], np.int8), np.array([1, 1, 1, -1], np.int8))
        np.float64(0.5)
    """
    _check_alike(a, b)
    return np.mean(a * b, axis=-1, dtype=np.float64)


def link_overlap(a: np.ndarray, b: np.ndarray, lattice: Lattice) -> np.ndarray:
    r"""Link overlap :math:`q_l = \frac{1}{|E|} \sum_{\langle ij \rangle} s_i^a s_j^a s_i^b s_j^b`.

    ``(*, N)`` spins to ``(*,)``. It tells how much of the replicas is separated by domain walls, and does not
    change when a replica is flipped as a whole.

    Example:
        >>> from ising.lattices import square
        >>> up = np.ones(16, np.int8)
        >>> link_overlap(up, -up, square(4))
        np.float64(1.0)
    """
    _check_alike(a, b)
    i, j = lattice.edges.cpu().numpy().T
    common = a * b
    return np.mean(common[..., i] * common[..., j], axis=-1, dtype=np.float64)


def _generator(kind: str, seed: int) -> np.random.Generator:
    """Another stream for every kind of disorder."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(kind.encode())))


def _check_alike(a: np.ndarray, b: np.ndarray) -> None:
    if np.shape(a) != np.shape(b):
        raise ValueError(f"two replicas have the same shape, got {np.shape(a)} and {np.shape(b)}")

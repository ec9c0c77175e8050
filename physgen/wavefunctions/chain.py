r"""The transverse-field Ising chain and its exact ground state.

.. math:: H = -J \sum_i \sigma^z_i \sigma^z_{i+1} - h \sum_i \sigma^x_i

on a ring of N sites, :math:`\sigma` Pauli matrices, h > 0: all off-diagonal elements are negative, so that
the ground state is positive in the basis of :math:`\sigma^z`. It is critical at h = J.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigsh
from torch import Tensor

from .spins import MAX_ENUMERATED, SpinMachine, all_spins

MAX_DIAGONALISED = 20

__all__ = ["MAX_DIAGONALISED", "MAX_ENUMERATED", "Chain", "all_spins", "correlation"]


@dataclass(frozen=True)
class Chain:
    """The Hamiltonian above.

    Arguments:
        sites: N, at least 3: two sites would share two bonds.
        h: Transverse field, above 0; a negative one is the same after a rotation.
        J: Coupling, above 0.

    Example:
        >>> chain = Chain(8, h=1.0)
        >>> round(chain.exact_energy, 6), round(float(chain.ground_state()[0]), 6)
        (-10.251662, -10.251662)
    """

    sites: int
    h: float = 1.0
    J: float = 1.0

    def __post_init__(self) -> None:
        if self.sites < 3:
            raise ValueError(f"a ring needs at least 3 sites to have distinct bonds, got {self.sites}")
        if not (0 < self.h < math.inf and 0 < self.J < math.inf):
            raise ValueError(f"the field h and the coupling J must be finite and > 0, got {self.h}, {self.J}")

    @property
    def unit(self) -> float:
        """The energy scale, J + h."""
        return self.J + self.h

    @property
    def exact_energy(self) -> float:
        r"""Ground state of free fermions with antiperiodic momenta, any N.

        .. math:: E_0 = -\sum_{k} \sqrt{J^2 + h^2 - 2 J h \cos k}, \qquad k = (2m + 1)\pi/N

        References:
            | The one-dimensional Ising model with a transverse field (Pfeuty, 1970)
        """
        k = (2 * np.arange(self.sites) + 1) * np.pi / self.sites
        return -float(np.hypot(self.J - self.h * np.cos(k), self.h * np.sin(k)).sum())

    def local_energy(self, psi: SpinMachine, s: Tensor) -> Tensor:
        r""":math:`E_L = -J \sum_i s_i s_{i+1} - h \sum_i \Psi(s^{(i)}) / \Psi(s)`, ``(n, N)`` to ``(n,)``."""
        return -self.J * (s * s.roll(1, -1)).sum(-1) - self.h * psi.ratios(s).sum(-1)

    def ground_state(self) -> tuple[float, np.ndarray]:
        r"""Energy and positive normalised amplitudes ``(2**N,)``, row k as :func:`all_spins` has it.

        The matrix is that of the sector even under the flip of all spins, which holds the ground state: half
        the size, and no near-degeneracy in the ordered phase.
        """
        N = self.sites
        if N > MAX_DIAGONALISED:
            raise ValueError(
                f"diagonalisation is for at most {MAX_DIAGONALISED} sites, got {N}; exact_energy has no limit"
            )
        half = np.arange(2 ** (N - 1))  # first spin down; the rest of each pair is the complement
        bonds = (half ^ (half >> 1 | (half & 1) << (N - 1)))[:, None] >> np.arange(N) & 1
        flipped = half[:, None] ^ 1 << np.arange(N)
        flipped = np.where(flipped < len(half), flipped, 2**N - 1 - flipped)
        rows, diagonal = np.repeat(half, N), -self.J * (N - 2.0 * bonds.sum(-1))
        off = csr_array((np.full(rows.size, -self.h), (rows, flipped.ravel())), shape=(len(half),) * 2)
        start = np.ones(len(half))  # the ground state is positive, so this is never orthogonal to it
        matrix = off + csr_array((diagonal, (half, half)), shape=off.shape)
        values, vectors = eigsh(matrix, k=1, which="SA", v0=start)
        amplitude = np.abs(vectors[:, 0]) / math.sqrt(2)
        return float(values[0]), np.concatenate([amplitude, amplitude[::-1]])


def correlation(s: Tensor) -> Tensor:
    r""":math:`\frac1N \sum_i s_i s_{i+r}` for r = 0 … N // 2: ``(*, N)`` to ``(*, N // 2 + 1)``.

    Example:
        >>> correlation(torch.tensor([[1.0, -1.0, 1.0, -1.0]])).tolist()
        [[1.0, -1.0, 1.0]]
    """
    spectrum = torch.fft.rfft(s, dim=-1).abs().square()
    return torch.fft.irfft(spectrum, n=s.shape[-1], dim=-1)[..., : s.shape[-1] // 2 + 1] / s.shape[-1]

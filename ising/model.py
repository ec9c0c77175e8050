"""The Ising Hamiltonian on any lattice."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from . import lattices
from .lattices import Lattice


@dataclass(frozen=True, eq=False)
class Ising:
    r"""Spins :math:`s_i = \pm 1` with energy

    .. math:: E(s) = - \sum_{\langle ij \rangle} J_{ij} s_i s_j - \sum_i h_i s_i ,

    each bond counted once, :math:`J > 0` ferromagnetic, :math:`k_B = 1`.

    Arguments:
        lattice: Sites and bonds.
        J: Coupling, a number or one value per bond, shape ``(E,)``; kept as float or float64 tensor.
        h: Field, a number or one value per site, shape ``(N,)``; likewise.

    Example:
        >>> import torch
        >>> from ising.lattices import square
        >>> Ising(square(3)).energy(torch.ones(2, 9))
        tensor([-18., -18.], dtype=torch.float64)
    """

    lattice: Lattice
    J: float | Tensor = 1.0
    h: float | Tensor = 0.0

    def __post_init__(self) -> None:
        for name, count, unit in (
            ("J", len(self.lattice.edges), "bond"),
            ("h", self.lattice.n_sites, "site"),
        ):
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                array = np.array(value, dtype=np.float64)  # also for sequences
                value = torch.from_numpy(array).to(self.lattice.edges.device) if array.ndim else float(array)
            if isinstance(value, Tensor):
                if value.shape != (count,):
                    raise ValueError(
                        f"{name} needs one value per {unit}, ({count},), got {tuple(value.shape)}"
                    )
                value = value.double()
            object.__setattr__(self, name, value)
            if not torch.as_tensor(value).isfinite().all():
                raise ValueError(f"{name} must be finite, got {value}")

    def energy(self, spins: Tensor) -> Tensor:
        """Total energy, float64: ``(*, N)`` spins of any dtype to ``(*,)``."""
        if spins.shape[-1] != self.lattice.n_sites:
            raise ValueError(
                f"the last axis of spins must hold the {self.lattice.n_sites} sites, "
                f"got shape {tuple(spins.shape)}"
            )
        i, j = self.lattice.edges.T
        pairs = spins.index_select(-1, i) * spins.index_select(-1, j)
        return -_weighted_sum(pairs, self.J) - _weighted_sum(spins, self.h)

    @cached_property
    def bond_couplings(self) -> Tensor:
        """One coupling per bond, ``(E,)`` float64, also where J is a number."""
        edges = self.lattice.edges
        return torch.as_tensor(self.J, dtype=torch.float64, device=edges.device).expand(len(edges))

    @cached_property
    def site_fields(self) -> Tensor:
        """One field per site, ``(N,)`` float64, also where h is a number."""
        edges = self.lattice.edges
        return torch.as_tensor(self.h, dtype=torch.float64, device=edges.device).expand(self.lattice.n_sites)

    @cached_property
    def neighbour_couplings(self) -> Tensor:
        """Couplings in the order of ``lattice.neighbours``, ``(N, z)`` float64, zero where padded."""
        _, bonds = self.lattice.neighbours
        return torch.cat([self.bond_couplings, self.bond_couplings.new_zeros(1)])[bonds]

    def local_field(self, spins: Tensor) -> Tensor:
        r""":math:`f_i = -\partial E / \partial s_i`, ``(*, N)`` float64; a flip costs :math:`2 s_i f_i`."""
        sites, _ = self.lattice.neighbours
        return (self.neighbour_couplings * spins[..., sites]).sum(-1) + self.site_fields

    def to(self, device: torch.device | str) -> "Ising":
        """The same Hamiltonian with all its tensors on another device."""
        moved = {key: v.to(device) for key in ("J", "h") if isinstance(v := getattr(self, key), Tensor)}
        return replace(self, lattice=self.lattice.to(device), **moved)

    def describe(self) -> dict[str, object]:
        """The arguments of :func:`restore`: plain numbers and lists, as they are written to files.

        Raises:
            ValueError: If the bonds are not those that the name of the lattice stands for.
        """
        if not self.lattice.is_as_named:
            raise ValueError(
                f"the bonds of this lattice are not those of {self.lattice.name or 'any lattice'}"
                f"{self.lattice.size} with pbc={self.lattice.pbc}, so it cannot be written down by name; "
                "register a builder for it in ising/lattices.py"
            )
        J, h = (v.tolist() if isinstance(v, Tensor) else float(v) for v in (self.J, self.h))
        return {
            "lattice": self.lattice.name,
            "size": list(self.lattice.size),
            "pbc": list(self.lattice.pbc),
            "J": J,
            "h": h,
        }


def restore(
    lattice: str, size: list[int], pbc: list[bool], J: float | list[float], h: float | list[float]
) -> Ising:
    """The model that :meth:`Ising.describe` described.

    Example:
        >>> restore(**Ising(lattices.square(4), h=0.5).describe()).h
        0.5
    """
    J_, h_ = (torch.tensor(v, dtype=torch.float64) if isinstance(v, list) else v for v in (J, h))
    return Ising(lattices.build(lattice, tuple(size), tuple(pbc)), J_, h_)


def check_beta(beta: float) -> float:
    """The inverse temperature itself, or one sentence on why it cannot be one."""
    if not (math.isfinite(beta) and beta >= 0):
        raise ValueError(
            f"beta must be a finite number >= 0 (T = 1/beta, J > 0 is the ferromagnet), got {beta}"
        )
    return float(beta)


def _weighted_sum(values: Tensor, weight: float | Tensor) -> Tensor:
    """Sum of ``weight * values`` over the last axis, in float64 whatever the dtype of the values."""
    if isinstance(weight, Tensor):
        return values.double() @ weight
    return values.sum(-1, dtype=torch.float64) * weight

"""One update rule per file; the folder is the registry.

A rule is a function ``sweep(spins, model, beta, generator) -> (spins, Info)`` that leaves the Boltzmann law
:math:`p(s) \\propto e^{-\\beta E(s)}` of every chain unchanged, on every lattice. Spins go in and come out as
``(chains, N)``, of any dtype and on any device; ``beta`` is one number or one per chain. In memory the sites
come first: a neighbour is then a whole row, read in one go, and a state handed from sweep to sweep is never
transposed.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..model import Ising


class Info(NamedTuple):
    """What a sweep reports besides the new spins."""

    acceptance: Tensor  # (chains,) flipped fraction of the N spins


Sweep = Callable[[Tensor, Ising, float | Tensor, torch.Generator], tuple[Tensor, Info]]


def names() -> list[str]:
    """Every update rule of this folder, by file name."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def get(name: str) -> Sweep:
    """The sweep of ``ising/updates/<name>.py``.

    Example:
        >>> names()
        ['few_clusters', 'heat_bath', 'kawasaki', 'metropolis', 'swendsen_wang', 'wolff']
    """
    if name not in names():
        raise ValueError(f"unknown update {name!r}; choose one of {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").sweep


def conserves_magnetisation(name: str) -> bool:
    """Whether an update never changes M: it then samples the Boltzmann law within the sector it starts in.

    Example:
        >>> [name for name in names() if conserves_magnetisation(name)]
        ['kawasaki']
    """
    get(name)
    return getattr(importlib.import_module(f"{__name__}.{name}"), "CONSERVES_MAGNETISATION", False)


def sites_first(spins: Tensor) -> Tensor:
    """A copy of ``(chains, N)`` spins as ``(N, chains)``, contiguous."""
    return spins.T.clone(memory_format=torch.contiguous_format)


def local_field(columns: Tensor, sites: Tensor, model: Ising) -> Tensor:
    r"""Fields :math:`f_i = \sum_j J_{ij} s_j + h_i`, ``(N, chains)`` spins to ``(sites, chains)`` float32."""
    neighbours, _ = model.lattice.neighbours
    J, h = model.neighbour_couplings[sites].float(), model.site_fields[sites].float()
    field = h.unsqueeze(-1).expand(-1, columns.shape[-1])
    for there, coupling in zip(neighbours[sites].T, J.T, strict=True):
        field = torch.addcmul(field, coupling.unsqueeze(-1), columns[there].float())
    return field


def uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent numbers in [0, 1), multiples of 2**-24, in the shape of ``like``."""
    return torch.rand(like.shape, generator=generator, device=like.device)


def inverse_temperature(beta: float | Tensor, spins: Tensor) -> Tensor:
    """``beta`` as float32 on the device of the spins: one number, or one per chain."""
    return torch.as_tensor(beta, dtype=torch.float32, device=spins.device)


def active(alignment: Tensor, weight: Tensor, beta: Tensor, generator: torch.Generator) -> Tensor:
    r"""Which satisfied terms of the energy are active, each with probability :math:`1 - e^{-2 \beta w}`.

    Arguments:
        alignment: The s s of the bonds or the s of the sites, shape ``(n, chains)``.
        weight: Their J or h, shape ``(n,)``; w is the product of both where that is positive.
        beta: As :func:`inverse_temperature` gives it.
        generator: The only source of randomness.
    """
    gain = alignment * weight.float().unsqueeze(-1)
    return uniform(gain, generator) < -torch.expm1(-2 * beta * gain.clamp(min=0))

"""Which exact value applies to a given model: the cheapest route to log Z and to each observable."""

import math

import numpy as np
from torch import Tensor

from ..model import Ising, check_beta
from .beale import beale_log_z, energy_distribution
from .chain import chain_energy, chain_log_z, chain_specific_heat
from .enumeration import MAX_SITES, enumerate_observables, log_partition, magnetic
from .kaufman import kaufman_energy, kaufman_log_z, kaufman_specific_heat
from .strip import strip_log_z, strip_magnetisation

_AT_ONCE = 20  # sites that are enumerated without being asked for
_STRIP_SITES, _RING_SITES = 64, 1024  # likewise for strips of a square lattice and for chains
_FRUSTRATED_SITES = 1024  # odd antiferromagnetic tori go by their density of states


def known(model: Ising, beta: float) -> dict[str, float]:
    """Every observable of ``ising.observables`` that is exactly known for this model, by its name there.

    Enumeration up to 20 sites; Kaufman for larger square tori without a field (where frustrated, the density
    of states); transfer matrices for chains of any couplings, and for the magnetisation of uniform chains (up
    to 1024 sites) and square lattices (up to 64 sites, any boundaries, with a field too). Empty where nothing
    is known.

    Example:
        >>> from ising import lattices
        >>> sorted(known(Ising(lattices.square(16)), beta=0.44))
        ['energy', 'specific_heat']
    """
    beta = check_beta(beta)
    if model.lattice.n_sites <= _AT_ONCE:
        return enumerate_observables(model, beta)
    return _energetic(model, beta) | _magnetic(model, beta)


def log_z(model: Ising, beta: float) -> float | None:
    r"""Exact :math:`\log Z` in nats by the cheapest route that applies, None where there is none.

    The routes of :func:`known`, and enumeration up to ``MAX_SITES`` sites.

    Example:
        >>> from ising import lattices
        >>> log_z(Ising(lattices.cubic(4)), beta=0.22) is None
        True
    """
    beta = check_beta(beta)
    lattice = model.lattice
    J, h = _uniform(model.bond_couplings), _uniform(model.site_fields)
    if beta == 0:
        return lattice.n_sites * math.log(2)
    if lattice.n_sites <= _AT_ONCE:
        return log_partition(model, beta)
    if lattice.name == "chain":
        return chain_log_z(lattice.n_sites, beta, model.J, model.h, pbc=lattice.pbc[0])
    if J is not None and h == 0 and _is_torus(model):
        Lx, Ly = lattice.shape
        if not _is_frustrated(lattice.shape, J):
            return kaufman_log_z(Lx, Ly, beta, J)
        if lattice.n_sites <= _FRUSTRATED_SITES:
            return beale_log_z(Lx, Ly, beta, J)
    if J is not None and h is not None and _is_strip(model):
        Lx, Ly = lattice.shape
        return strip_log_z(Lx, Ly, beta, J, h, pbc=lattice.pbc)
    return log_partition(model, beta) if lattice.n_sites <= MAX_SITES else None


def _energetic(model: Ising, beta: float) -> dict[str, float]:
    lattice, J = model.lattice, _uniform(model.bond_couplings)
    if lattice.name == "chain":
        arguments = (lattice.n_sites, beta, model.J, model.h)
        return {
            "energy": chain_energy(*arguments, pbc=lattice.pbc[0]),
            "specific_heat": chain_specific_heat(*arguments, pbc=lattice.pbc[0]),
        }
    if J is None or _uniform(model.site_fields) != 0 or not _is_torus(model):
        return {}
    Lx, Ly = lattice.shape
    if not _is_frustrated(lattice.shape, J):
        return {
            "energy": kaufman_energy(Lx, Ly, beta, J),
            "specific_heat": kaufman_specific_heat(Lx, Ly, beta, J),
        }
    if lattice.n_sites > _FRUSTRATED_SITES:
        return {}
    energies, p = energy_distribution(Lx, Ly, beta, J)
    mean = float(energies @ p)
    return {
        "energy": mean / lattice.n_sites,
        "specific_heat": beta**2 * float((energies - mean) ** 2 @ p) / lattice.n_sites,
    }


def _magnetic(model: Ising, beta: float) -> dict[str, float]:
    lattice = model.lattice
    J, h = _uniform(model.bond_couplings), _uniform(model.site_fields)
    if J is None or h is None:
        return {}
    if lattice.name == "chain" and lattice.n_sites <= _RING_SITES:
        M, p = strip_magnetisation(1, lattice.n_sites, beta, J, h, pbc=(False, lattice.pbc[0]))
    elif _is_strip(model):
        Lx, Ly = lattice.shape
        M, p = strip_magnetisation(Lx, Ly, beta, J, h, pbc=lattice.pbc)
    else:
        return {}
    m = M / lattice.n_sites
    moments = {"m": m, "abs_m": np.abs(m), "m2": m**2, "m4": m**4}
    return magnetic(beta, lattice.n_sites, **{name: float(x @ p) for name, x in moments.items()})


def _uniform(values: Tensor) -> float | None:
    """The number they all equal, or None."""
    return float(values[0]) if len(values) and bool((values == values[0]).all()) else None


def _is_torus(model: Ising) -> bool:
    """Whether this is the square lattice on a torus with any coupling at all."""
    lattice = model.lattice
    return lattice.name in ("square", "rectangular") and all(lattice.pbc) and bool(model.bond_couplings.any())


def _is_strip(model: Ising) -> bool:
    return model.lattice.name in ("square", "rectangular") and model.lattice.n_sites <= _STRIP_SITES


def _is_frustrated(shape: tuple[int, ...], J: float) -> bool:
    return J < 0 and any(side % 2 for side in shape)

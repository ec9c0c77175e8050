"""Exact answers: enumeration, transfer matrices, closed forms of the square lattice, densities of states.

:func:`known` and :func:`log_z` choose the cheapest route for a model; all else can be called by itself too.
Energies and specific heats are per site, partition functions are of the whole system.
"""

from .beale import beale_density_of_states, beale_log_z, energy_distribution
from .catalogue import known, log_z
from .chain import chain_energy, chain_log_z, chain_magnetisation, chain_specific_heat
from .enumeration import MAX_SITES, boltzmann, correlation, enumerate_observables, log_partition, states
from .infinite import (
    critical_beta,
    critical_temperature,
    onsager_energy,
    onsager_log_z,
    onsager_specific_heat,
    yang_magnetisation,
)
from .kaufman import kaufman_energy, kaufman_log_z, kaufman_specific_heat
from .potts import (
    potts_boltzmann,
    potts_chain_log_z,
    potts_critical_beta,
    potts_critical_energy,
    potts_observables,
    potts_states,
)
from .strip import strip_log_z, strip_magnetisation

__all__ = [
    "MAX_SITES",
    "beale_density_of_states",
    "beale_log_z",
    "boltzmann",
    "chain_energy",
    "chain_log_z",
    "chain_magnetisation",
    "chain_specific_heat",
    "correlation",
    "critical_beta",
    "critical_temperature",
    "energy_distribution",
    "enumerate_observables",
    "kaufman_energy",
    "kaufman_log_z",
    "kaufman_specific_heat",
    "known",
    "log_partition",
    "log_z",
    "onsager_energy",
    "onsager_log_z",
    "onsager_specific_heat",
    "potts_boltzmann",
    "potts_chain_log_z",
    "potts_critical_beta",
    "potts_critical_energy",
    "potts_observables",
    "potts_states",
    "states",
    "strip_log_z",
    "strip_magnetisation",
    "yang_magnetisation",
]

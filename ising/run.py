"""The result of a simulation at one temperature."""

from dataclasses import dataclass, field

import numpy as np

from .observables import REGISTRY, Series
from .stats import Estimate


@dataclass(frozen=True, eq=False)
class Run:
    """Configurations drawn at one temperature, with what is needed to draw them again.

    Attributes:
        model: The Hamiltonian, as :meth:`ising.model.Ising.describe` gives it.
        shape: Sites along each axis.
        beta: Inverse temperature, :math:`k_B = 1`.
        update: Name of the update rule.
        seed: Seed of all random numbers.
        burn_in: Sweeps made before the first sample.
        thin: Sweeps between samples.
        spins: int8, ±1, shape ``(chains, samples, N)``.
        energies: Total energies, float64, shape ``(chains, samples)``.
        magnetisations: Total magnetisations, float64, shape ``(chains, samples)``.
        provenance: How it was made: versions, kernel, wall time, measured autocorrelation, …
    """

    model: dict[str, object]
    shape: tuple[int, ...]
    beta: float
    update: str
    seed: int
    burn_in: int
    thin: int
    spins: np.ndarray = field(repr=False)
    energies: np.ndarray = field(repr=False)
    magnetisations: np.ndarray = field(repr=False)
    provenance: dict[str, str | float | int]

    @property
    def chains(self) -> int:
        return self.spins.shape[0]

    @property
    def samples(self) -> int:
        """Samples per chain."""
        return self.spins.shape[1]

    @property
    def n_sites(self) -> int:
        return self.spins.shape[2]

    @property
    def series(self) -> Series:
        return Series(self.energies, self.magnetisations, self.n_sites, self.beta)

    def observables(self) -> dict[str, Estimate]:
        """Every registered observable, in the order of display."""
        return {name: estimator(self.series) for name, estimator in REGISTRY.items()}

    @property
    def energy(self) -> Estimate:
        """Energy per site."""
        return REGISTRY["energy"](self.series)

    @property
    def m(self) -> Estimate:
        """Magnetisation per site."""
        return REGISTRY["m"](self.series)

    @property
    def abs_m(self) -> Estimate:
        """Absolute magnetisation per site."""
        return REGISTRY["abs_m"](self.series)

    @property
    def specific_heat(self) -> Estimate:
        """Specific heat per site."""
        return REGISTRY["specific_heat"](self.series)

    @property
    def chi(self) -> Estimate:
        """Susceptibility per site, of the absolute magnetisation."""
        return REGISTRY["chi"](self.series)

    @property
    def u4(self) -> Estimate:
        """Binder cumulant of the magnetisation."""
        return REGISTRY["u4"](self.series)

"""The result of a simulation at one temperature."""

import math
from dataclasses import dataclass, field

import numpy as np

from .kernels.bits import pack, unpack
from .observables import REGISTRY, Series
from .stats import Estimate


@dataclass(frozen=True, eq=False, init=False)
class Run:
    """Configurations drawn at one temperature, with what is needed to draw them again.

    It is made from ``spins``, or from their ``bits``; where both are given, as :func:`dataclasses.replace`
    does, the spins count.

    Attributes:
        model: The Hamiltonian, as :meth:`ising.model.Ising.describe` gives it.
        shape: Sites along each axis.
        beta: Inverse temperature, :math:`k_B = 1`.
        update: Name of the update rule.
        seed: Seed of all random numbers.
        burn_in: Sweeps made before the first sample.
        thin: Sweeps between samples.
        bits: The configurations packed, up is 1, uint8, ``(chains, samples, ceil(N/8))``; see :attr:`spins`.
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
    bits: np.ndarray = field(repr=False)
    energies: np.ndarray = field(repr=False)
    magnetisations: np.ndarray = field(repr=False)
    provenance: dict[str, str | float | int]

    def __init__(
        self,
        model: dict[str, object],
        shape: tuple[int, ...],
        beta: float,
        update: str,
        seed: int,
        burn_in: int,
        thin: int,
        spins: np.ndarray | None = None,
        energies: np.ndarray | None = None,
        magnetisations: np.ndarray | None = None,
        provenance: dict[str, str | float | int] | None = None,
        *,
        bits: np.ndarray | None = None,
    ):
        values = dict(locals())
        if spins is not None:
            values["bits"] = packed(spins, math.prod(shape))
        for name in self.__dataclass_fields__:
            if values[name] is None:
                raise TypeError(f"a run needs {'spins, or bits' if name == 'bits' else name}")
            object.__setattr__(self, name, values[name])

    @property
    def spins(self) -> np.ndarray:
        """int8, ±1, shape ``(chains, samples, N)``; unpacked at each access."""
        return unpack(self.bits, self.n_sites)

    @property
    def chains(self) -> int:
        """Number of chains."""
        return self.bits.shape[0]

    @property
    def samples(self) -> int:
        """Samples per chain."""
        return self.bits.shape[1]

    @property
    def n_sites(self) -> int:
        """Number of sites N."""
        return math.prod(self.shape)

    @property
    def series(self) -> Series:
        """Energies and magnetisations as the estimators of :mod:`ising.observables` take them."""
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


def packed(spins: np.ndarray, n_sites: int) -> np.ndarray:
    """The bits of int8 spins ±1 ``(chains, samples, N)``, refused in a sentence if they are something else.

    Example:
        >>> packed(np.ones((2, 3, 9), dtype=np.int8), 9).shape
        (2, 3, 2)
    """
    if spins.ndim != 3 or spins.shape[2] != n_sites or 0 in spins.shape:
        raise ValueError(
            f"spins must have a shape (chains, samples, {n_sites}), no side 0, got {spins.shape}"
        )
    if spins.dtype != np.int8 or np.count_nonzero(spins) < spins.size or spins.min() < -1 or spins.max() > 1:
        raise ValueError("spins must be int8, -1 or +1; turn 0 and 1 into spins by 2 * x - 1 first")
    return pack(spins)

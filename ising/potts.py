r"""The q-state Potts model: each site is in one of q states, a bond between equal states gains J.

For q = 2 it is the Ising model without a field, :math:`\delta(s_i, s_j) = (1 + \sigma_i \sigma_j)/2`. At the
same temperature :math:`J_{Potts} = 2 J_{Ising}` makes the same Boltzmann law (at the same J it takes
:math:`\beta_{Potts} = 2 \beta_{Ising}`), with :math:`E_{Potts} = E_{Ising} - \sum J_{Ising}`.

The square lattice has its transition at :math:`\beta_c J = \ln(1 + \sqrt q)`, continuous for q <= 4, of first
order above; see :mod:`ising.exact.potts`. A :class:`PottsRun` is not stored: files of :mod:`ising.store` hold
one bit per site.

References:
    | Some generalized order-disorder transformations (Potts, 1952)
    | The Potts model (Wu, 1982)
"""

import math
import platform
import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from . import lattices, stats
from .equilibrium import NotEquilibrated, halves_z, pilot, warn_if_unsettled
from .kernels.potts import PottsSampler
from .lattices import Lattice
from .model import Ising, check_beta
from .observables import REGISTRY, Series
from .simulate import check_counts, check_start, root_seed
from .stats import Estimate


@dataclass(frozen=True, eq=False)
class Potts:
    r"""States :math:`s_i \in \{0, \dots, q - 1\}` with energy

    .. math:: E(s) = - \sum_{\langle ij \rangle} J_{ij} \, \delta(s_i, s_j) ,

    each bond counted once, :math:`J > 0` ferromagnetic, :math:`k_B = 1`.

    Arguments:
        lattice: Sites and bonds.
        q: Number of states, 2 to 127.
        J: Coupling, a number or one value per bond, shape ``(E,)``; kept as float or float64 tensor.

    Example:
        >>> Potts(lattices.square(3), q=3).energy(torch.zeros(2, 9, dtype=torch.int8))
        tensor([-18., -18.], dtype=torch.float64)
    """

    lattice: Lattice
    q: int
    J: float | Tensor = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.q, bool) or not isinstance(self.q, int) or not 2 <= self.q <= 127:
            raise ValueError(f"q, the number of states, must be a whole number from 2 to 127, got {self.q!r}")
        object.__setattr__(self, "J", self.as_ising.J)

    @cached_property
    def as_ising(self) -> Ising:
        """The Ising model of the same lattice and the same J: it checks and tabulates the couplings."""
        return Ising(self.lattice, self.J)

    def energy(self, spins: Tensor) -> Tensor:
        """Total energy, float64: states ``(*, N)`` to ``(*,)``."""
        if spins.shape[-1] != self.lattice.n_sites:
            raise ValueError(
                f"the last axis of spins must hold the {self.lattice.n_sites} sites, "
                f"got shape {tuple(spins.shape)}"
            )
        i, j = self.lattice.edges.T
        return -((spins[..., i] == spins[..., j]).double() @ self.as_ising.bond_couplings)

    def describe(self) -> dict[str, object]:
        """The arguments of :func:`restore`: plain numbers and lists."""
        described = self.as_ising.describe()
        del described["h"]
        return described | {"q": self.q}

    def sampler(
        self, beta: float, update: str, spins: np.ndarray, seed: np.random.SeedSequence, threads: int = 1
    ) -> PottsSampler:
        """Chains that start from ``spins`` ``(chains, N)``; each has a stream spawned from the seed."""
        return PottsSampler(
            self.lattice.neighbours[0].numpy(),
            self.lattice.edges.numpy(),
            (self.as_ising.neighbour_couplings.numpy(), np.array(self.as_ising.bond_couplings.numpy())),
            self.q,
            update,
            check_beta(beta),
            spins,
            seed,
            threads,
        )


def restore(lattice: str, size: list[int], pbc: list[bool], J: float | list[float], q: int) -> Potts:
    """The model that :meth:`Potts.describe` described.

    Example:
        >>> restore(**Potts(lattices.square(4), q=3).describe()).q
        3
    """
    J_ = torch.tensor(J, dtype=torch.float64) if isinstance(J, list) else J
    return Potts(lattices.build(lattice, tuple(size), tuple(pbc)), q, J_)


@dataclass(frozen=True, eq=False)
class PottsRun:
    r"""Configurations drawn at one temperature, with what is needed to draw them again.

    Estimates have the names of :class:`ising.Run`, with the order parameter
    :math:`|m| = (q \max_k n_k / N - 1)/(q - 1)`, which is the absolute magnetisation for q = 2.

    Attributes:
        model: The Hamiltonian, as :meth:`Potts.describe` gives it.
        shape: Sites along each axis.
        beta: Inverse temperature, :math:`k_B = 1`.
        update: Name of the update rule.
        seed: Seed of all random numbers.
        burn_in: Sweeps made before the first sample.
        thin: Sweeps between samples.
        spins: States 0 to q − 1, int8, shape ``(chains, samples, N)``.
        energies: Total energies, float64, shape ``(chains, samples)``.
        populations: Sites :math:`n_k` in each state, int64, shape ``(chains, samples, q)``.
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
    populations: np.ndarray = field(repr=False)
    provenance: dict[str, str | float | int]

    @property
    def series(self) -> Series:
        """Energies, and N times the order parameter in the place of the magnetisation."""
        n_sites = self.spins.shape[-1]
        return Series(self.energies, n_sites * order_parameter(self.populations), n_sites, self.beta)

    def observables(self) -> dict[str, Estimate]:
        """Every observable by name."""
        names = ("energy", "abs_m", "specific_heat", "chi", "u4", "m2")
        return {name: getattr(self, name) for name in names}

    @property
    def energy(self) -> Estimate:
        """Energy per site."""
        return REGISTRY["energy"](self.series)

    @property
    def abs_m(self) -> Estimate:
        """Order parameter, 0 to 1."""
        return REGISTRY["abs_m"](self.series)

    @property
    def specific_heat(self) -> Estimate:
        """Specific heat per site."""
        return REGISTRY["specific_heat"](self.series)

    @property
    def chi(self) -> Estimate:
        r"""Susceptibility per site of the order parameter, :math:`\beta N (⟨m^2⟩ - ⟨m⟩^2)`."""
        return REGISTRY["chi"](self.series)

    @property
    def m2(self) -> Estimate:
        """Squared length of the magnetisation vector, see :func:`squared_magnetisation`."""
        return stats.mean(squared_magnetisation(self.populations))

    @property
    def u4(self) -> Estimate:
        r"""Binder cumulant of the magnetisation vector.

        .. math:: U_4 = 1 - \frac{q - 1}{q + 1} \, \frac{\langle m^4 \rangle}{\langle m^2 \rangle^2}

        0 for a Gaussian vector of q − 1 components, 2/(q + 1) for a fixed length; as for Ising where q = 2.
        """
        q, square = self.populations.shape[-1], squared_magnetisation(self.populations)
        if not square.any():
            return Estimate(math.nan, math.nan)
        factor = (q - 1) / (q + 1)
        return stats.jackknife(lambda m2, m4: 1 - factor * m4 / (m2 * m2), square, square * square)


def order_parameter(populations: np.ndarray) -> np.ndarray:
    r""":math:`(q \max_k n_k / N - 1)/(q - 1)` of populations ``(*, q)``: 1 where all sites agree.

    Example:
        >>> order_parameter(np.array([[9, 0, 0], [3, 3, 3], [6, 3, 0]]))
        array([1. , 0. , 0.5])
    """
    q = populations.shape[-1]
    return (q * populations.max(-1) / populations.sum(-1) - 1) / (q - 1)


def squared_magnetisation(populations: np.ndarray) -> np.ndarray:
    r""":math:`m^2 = (q \sum_k (n_k/N)^2 - 1)/(q - 1)` of populations ``(*, q)``.

    The squared mean of the sites' vectors, which point to the corners of a regular simplex.

    Example:
        >>> squared_magnetisation(np.array([[9, 0, 0], [3, 3, 3]]))
        array([1., 0.])
    """
    q, n_sites = populations.shape[-1], populations.sum(-1)
    return (q * (populations**2).sum(-1) / n_sites**2 - 1) / (q - 1)


def simulate(
    model: Potts,
    *,
    beta: float,
    update: str = "metropolis",
    samples: int = 1000,
    burn_in: int | None = None,
    thin: int | None = None,
    chains: int = 64,
    start: str = "random",
    seed: int = 0,
    threads: int = 1,
) -> PottsRun:
    """Draws ``chains * samples`` configurations from the Boltzmann law, as :func:`ising.simulate` does.

    Arguments:
        model: The Hamiltonian.
        beta: Inverse temperature, :math:`k_B = 1`.
        update: ``metropolis``, ``heat_bath``, ``wolff``, or for J >= 0 ``swendsen_wang``.
        samples: Samples per chain.
        burn_in: Sweeps before the first sample; by default the pilot decides.
        thin: Sweeps between samples; by default :math:`2 \\tau_{int}` as the pilot finds it.
        chains: Independent chains.
        start: ``random`` (infinite temperature) or ``ordered`` (all sites in state 0).
        seed: The same seed and settings give the same states; see :func:`ising.simulate.root_seed`.
        threads: Used where there are enough chains; the states do not depend on it.

    Warns:
        NotEquilibrated: If the first and the last half of the samples disagree, or the pilot gave up.

    Example:
        >>> run = simulate(Potts(lattices.square(3), q=3), beta=0.0, samples=200, seed=1)
        >>> run.spins.shape, run.energy.sigmas_from(-2 / 3) < 4.5
        ((64, 200, 9), True)
    """
    began = time.perf_counter()
    check_counts(samples=samples, chains=chains, seed=seed, threads=threads, burn_in=burn_in, thin=thin)
    check_start(start)
    described, n_sites = model.describe(), model.lattice.n_sites
    root = root_seed("potts", described, check_beta(beta), update, int(chains), start, int(seed))
    start_seed, run_seed = root.spawn(2)
    first = np.zeros((chains, n_sites), dtype=np.int8)
    if start == "random":
        first = np.random.default_rng(start_seed).integers(0, model.q, first.shape, dtype=np.int8)
    sampler = model.sampler(beta, update, first, run_seed, threads)

    provenance: dict[str, str | float | int] = {"kernel": "potts", "start": start}
    if burn_in:
        sampler.sweep(burn_in)
    if burn_in is None or thin is None:
        found = pilot(sampler.sweep, lambda: _watched(*sampler.measure()), chains)
        warn_if_unsettled(found, beta)
        burn_in, thin = (burn_in or 0) + found.sweeps, thin or max(1, math.ceil(2 * found.tau))
        provenance |= {"pilot_tau_sweeps": found.tau, "pilot_drift": found.drift}

    spins = np.empty((chains, samples, n_sites), dtype=np.int8)
    energies = np.empty((chains, samples))
    populations = np.empty((chains, samples, model.q), dtype=np.int64)
    changed = 0.0
    for k in range(samples):
        changed += sampler.sweep(thin)
        spins[:, k] = sampler.spins()
        energies[:, k], populations[:, k] = sampler.measure()
    drift = max(abs(halves_z(x)) for x in _watched(energies, populations))
    if drift > 5:
        warnings.warn(
            f"the first and the last half of the samples differ by {drift:.1f} standard errors at beta = "
            f"{beta:g}; raise burn_in, or take update='wolff' or another start",
            NotEquilibrated,
            stacklevel=2,
        )
    provenance |= {"acceptance": changed / samples, "drift": drift, "python": platform.python_version()}
    provenance |= {"numpy": np.__version__, "seconds": round(time.perf_counter() - began, 3)}
    return PottsRun(
        model=described,
        shape=tuple(model.lattice.shape),
        beta=float(beta),
        update=update,
        seed=int(seed),
        burn_in=int(burn_in),
        thin=int(thin),
        spins=spins,
        energies=energies,
        populations=populations,
        provenance=provenance,
    )


def _watched(energies: np.ndarray, populations: np.ndarray) -> np.ndarray:
    return np.stack([energies, order_parameter(populations)])

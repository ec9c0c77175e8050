r"""Cluster estimators: more precise than spins in the disordered phase, from the same updates.

The clusters of active bonds (:mod:`ising.updates.swendsen_wang`) have independent random signs, so the
average over all of these can be taken exactly. With the magnetisation :math:`M_c` of a cluster c of
:math:`n_c` sites, :math:`M_c = \pm n_c` where all J are positive,

.. math:: \langle s_i s_j \rangle = \langle s_i s_j \, [i, j \text{ in one cluster}] \rangle, \qquad
   \langle M^2 \rangle = \Big\langle \sum_c M_c^2 \Big\rangle_{SW}
   = N \Big\langle \frac{M_c^2}{n_c} \Big\rangle_{Wolff} ,

where Wolff meets a cluster of n sites with probability n/N. Above :math:`T_c` the variance of the left hand
sides is mostly that of the signs. All this holds for couplings of any sign, but only without a field.

References:
    | Monte Carlo study of weighted percolation clusters relevant to the Potts models (Sweeny, 1983)
    | Asymptotic freedom and mass generation in the O(3) nonlinear sigma-model (Wolff, 1990)
"""

import numpy as np

from . import stats
from .equilibrium import pilot, warn_if_unsettled
from .kernels import SwendsenWang, Wolff
from .kernels.xoshiro import jit
from .model import Ising, check_beta
from .simulate import check_counts, check_start, initial_spins, root_seed
from .stats import Estimate

SAMPLERS = {sampler.name: sampler for sampler in (SwendsenWang, Wolff)}


def susceptibility(
    model: Ising,
    *,
    beta: float,
    update: str = "wolff",
    sweeps: int = 1000,
    burn_in: int | None = None,
    chains: int = 16,
    start: str = "random",
    seed: int = 0,
    threads: int = 1,
) -> Estimate:
    r"""Susceptibility per site without the :math:`|M|`, :math:`\chi = \beta \langle M^2 \rangle / N`.

    That of the infinite system above :math:`T_c`; below, it grows like N. (:func:`ising.observables.chi`
    subtracts :math:`\langle |M| \rangle^2`.)

    Arguments:
        model: The Hamiltonian, without a field.
        beta: Inverse temperature, :math:`k_B = 1`.
        update: ``wolff`` or ``swendsen_wang``.
        sweeps: Updates per chain; each of them is measured.
        burn_in: Updates before that; by default a pilot decides.
        chains: Independent chains.
        start: ``random`` (infinite temperature) or ``ordered`` (all spins up).
        seed: The same seed and settings give the same estimate.
        threads: Used where there are enough chains; the estimate does not depend on it.

    Example:
        >>> from ising.lattices import square
        >>> susceptibility(Ising(square(4)), beta=0.2, seed=1).sigmas_from(0.560638) < 4.5
        True
    """
    sampler = _equilibrated(model, beta, update, sweeps, burn_in, chains, start, seed, threads)
    return stats.mean(beta / model.lattice.n_sites * sampler.squares(sweeps))


def correlation(
    model: Ising,
    *,
    beta: float,
    sweeps: int = 1000,
    burn_in: int | None = None,
    chains: int = 16,
    start: str = "random",
    seed: int = 0,
    threads: int = 1,
) -> list[Estimate]:
    r"""Spin correlation along the axes by Swendsen-Wang, :math:`G(r) = \langle s_i s_{i + r \hat a} \rangle`.

    Averaged over all sites and axes, r = 0, 1, … up to half of the shortest side, as in
    :func:`ising.observables.correlation`. The relative error grows far more slowly with r than that of the
    plain estimator, which ends in noise of constant size. Different r share their configurations.

    The arguments are those of :func:`susceptibility`; all sides must be periodic.

    Example:
        >>> from ising.lattices import chain
        >>> g = correlation(Ising(chain(8)), beta=0.5, seed=1)
        >>> t = float(np.tanh(0.5))
        >>> g[0].mean, g[2].sigmas_from((t**2 + t**6) / (1 + t**8)) < 4.5
        (1.0, True)
    """
    lattice = model.lattice
    if not all(lattice.pbc):
        raise ValueError(f"correlation averages over translations and needs pbc=True, got {lattice.pbc}")
    sampler = _equilibrated(model, beta, "swendsen_wang", sweeps, burn_in, chains, start, seed, threads)
    series = np.zeros((sweeps, chains, min(lattice.shape) // 2 + 1))
    strides = np.cumprod((1, *lattice.shape[:0:-1]))[::-1]
    for in_sweep in series:
        labels = sampler.clusters()
        _connected(labels, sampler.spins(), np.array(lattice.shape), strides, in_sweep)
    return [stats.mean(at_r.T) for at_r in np.moveaxis(series, -1, 0)]


def _equilibrated(
    model: Ising,
    beta: float,
    update: str,
    sweeps: int,
    burn_in: int | None,
    chains: int,
    start: str,
    seed: int,
    threads: int,
) -> SwendsenWang | Wolff:
    """A sampler after its burn-in, everything checked."""
    check_counts(sweeps=sweeps, burn_in=burn_in, chains=chains, seed=seed, threads=threads)
    check_start(start)
    if update not in SAMPLERS:
        raise ValueError(f"no clusters in the update {update!r}; choose one of {', '.join(SAMPLERS)}")
    if model.site_fields.any():
        raise ValueError(
            "cluster estimators hold without a field only, h = 0; with one take those of ising.simulate"
        )
    root = root_seed("improved", model.describe(), check_beta(beta), update, chains, start, seed)
    start_seed, run_seed = root.spawn(2)
    spins = initial_spins(start, chains, model.lattice.n_sites, start_seed)
    sampler = SAMPLERS[update](model, update, beta, spins, run_seed, threads=threads)
    if burn_in is None:
        found = pilot(sampler.sweep, lambda: np.abs(np.stack(sampler.measure())), chains)
        warn_if_unsettled(found, beta)
    elif burn_in:
        sampler.sweep(burn_in)
    return sampler


@jit
def _connected(labels, spins, shape, strides, correlation):
    """Fills ``(chains, reach)`` with the mean of s s over pairs of sites r apart that share a cluster."""
    n_sites = labels.shape[1]
    for chain in range(len(labels)):
        label, s = labels[chain], spins[chain]
        for axis in range(len(shape)):
            period = shape[axis] * strides[axis]
            for r in range(correlation.shape[1]):
                ahead, total = r * strides[axis], 0
                for first in range(0, n_sites, period):
                    seam = first + period - ahead  # beyond it the partner is at the other end of the axis
                    for i in range(first, seam):
                        total += (label[i] == label[i + ahead]) * s[i] * s[i + ahead]
                    for i in range(seam, first + period):
                        total += (label[i] == label[i + ahead - period]) * s[i] * s[i + ahead - period]
                correlation[chain, r] += total / (n_sites * len(shape))

"""Monte Carlo of Ising models: lattices, updates, simulation, error analysis, exact answers, storage.

====================  =====================================================================================
spin                  −1 or +1, shape ``(*, N)``, sites row-major; ``lattice.shape`` tells the rest. Packed to
                      bits inside kernels and on disk
energy                total, each bond once, :math:`E = -J \\sum s_i s_j - h \\sum s_i`, J > 0 ferromagnetic
temperature           ``beta`` in code, :math:`k_B = 1`
leading shapes        ``(chains, samples, N)``
log-probabilities     nats, of the whole configuration; per site only where the name says so
tau_int               1/2 for independent samples; in samples, unless the name says sweeps
error bar             one standard error, autocorrelation included: ``Estimate(mean, error, tau)``
randomness            an explicit seed or generator; streams are spawned from it
train / validation    split by chain, never by neighbours in time
====================  =====================================================================================

Example:
    >>> from ising import Ising, lattices, simulate
    >>> run = simulate(Ising(lattices.square(4)), beta=0.2, update="wolff", samples=100, seed=1)
    >>> run.spins.shape
    (64, 100, 16)
"""

from . import exact, lattices, perfect, stats, store, tempering, wang_landau
from .model import Ising
from .potts import Potts
from .run import Run
from .simulate import simulate
from .stats import Estimate

__all__ = [
    "Estimate",
    "Ising",
    "Potts",
    "Run",
    "exact",
    "lattices",
    "perfect",
    "simulate",
    "stats",
    "store",
    "tempering",
    "wang_landau",
]

"""Restricted Boltzmann machines as trial functions of variational Monte Carlo.

A trial function offers ``log_psi(x)``, ``log_derivatives(x)`` and its ``parameters()``; one of particles
also ``derivatives(x)``, the gradient and the Laplacian of log psi. A Hamiltonian offers
``local_energy(psi, x)`` and ``unit``, its energy scale. A sampler is an endless iterator of walkers drawn
from psi squared. Everything is real and float64.
"""

from .chain import Chain
from .energy import EnergyLoss
from .gaussian_binary import GaussianBinary, Product
from .jastrow import PadeJastrow
from .spins import Enumeration, SpinMachine, SpinWalkers
from .trap import Trap
from .walkers import Walkers

__all__ = [
    "Chain",
    "EnergyLoss",
    "Enumeration",
    "GaussianBinary",
    "PadeJastrow",
    "Product",
    "SpinMachine",
    "SpinWalkers",
    "Trap",
    "Walkers",
]

"""Pyro distributions of statistical physics: one spin, and restricted Boltzmann machines."""

from .rbm import BernoulliRBM, GaussianBinaryRBM, SpinRBM
from .spin import Spin, draw_spins

__all__ = ["BernoulliRBM", "GaussianBinaryRBM", "Spin", "SpinRBM", "draw_spins"]

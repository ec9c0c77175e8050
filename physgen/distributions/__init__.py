"""Pyro distributions of statistical physics: one spin, and restricted Boltzmann machines of any units."""

from .families import BernoulliRBM, GaussianBinaryRBM, GaussianRBM, SpinRBM, machine
from .layer import Groups, Layer
from .rbm import RestrictedBoltzmann
from .spin import Spin, draw_spins

__all__ = [
    "BernoulliRBM",
    "GaussianBinaryRBM",
    "GaussianRBM",
    "Groups",
    "Layer",
    "RestrictedBoltzmann",
    "Spin",
    "SpinRBM",
    "draw_spins",
    "machine",
]

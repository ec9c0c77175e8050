"""Generative models of spins, trained and compared with Monte Carlo."""

from importlib.metadata import version

__version__ = version("physgen")

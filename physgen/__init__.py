"""Generative models of spins, trained and compared with Monte Carlo."""

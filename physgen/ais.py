r"""Partition functions by annealed importance sampling.

Chains pass through the laws :math:`p_k \propto e^{-F_k}` of ``model.annealed(t_k)``, t from 0 to 1, by one
update each:

.. math::
    \log w = \sum_{k=1}^{K} [F_{k-1}(v_{k-1}) - F_k(v_{k-1})], \qquad v_k \sim T_k(v_k | v_{k-1}), \qquad
    \langle w \rangle = Z / Z_0

exactly, for any number of temperatures; too few make the weights so uneven that no finite set of chains sees
the mean. Walked from the model down to t = 0, the chains give :math:`Z_0 / Z` and err to the other side.

References:
    | Annealed Importance Sampling (Neal, 2001)
    | On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov and Murray, 2008)
    | Accurate and Conservative Estimates of MRF Log-likelihood using Reverse Annealing (Burda et al., 2015)
"""

import math
import warnings
from typing import Protocol

import torch
from torch import Tensor

from ising.stats import Estimate

from .distributions import RestrictedBoltzmann
from .divergence import effective_sample_size

MIN_EFFECTIVE = 20  # chains; with fewer the jackknife error is itself a guess


class UnevenWeights(UserWarning):
    """A few chains carry all the weight, so neither the estimate nor its error can be trusted."""


class Annealable(Protocol):
    """A path of machines; :class:`physgen.models.rbm.RBM` and the distributions of one batch have it."""

    def annealed(self, t: float, base: Tensor | None) -> RestrictedBoltzmann:
        """Independent visible units with bias ``base`` at t = 0, the model itself at t = 1."""
        ...


def log_partition(
    model: Annealable,
    chains: int = 1000,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
) -> Estimate:
    r""":math:`\log Z`, nats, with its one-sigma error: the jackknife over chains of :math:`\log \bar w`.

    The jackknife also removes the bias :math:`-\mathrm{Var}(w) / 2 n \bar w^2` of the logarithm. What is left
    errs low when the chains miss a mode of the model; :func:`bracket` shows it.

    Arguments:
        model: A model with ``annealed``.
        chains: Independent chains n, at least 2.
        temperatures: Steps K, at least 1, from t = 0 to t = 1.
        generator: Source of randomness; torch's global one if not given.
        base: Visible bias at t = 0, ``(N,)``. Default: the model's own choice.

    Warns:
        UnevenWeights: If the weights are worth fewer than 20 chains.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm = RBM((3, 3), hidden=4, spread=0.3)
        >>> log_partition(rbm, chains=500, temperatures=50).sigmas_from(rbm.log_partition()) < 5
        True
    """
    path = _path(0, 1, chains, temperatures)
    start = _uncoupled(model, base)
    hidden = start.hidden_bias.new_zeros(chains, start.n_hidden)
    v = start.draw_visible(hidden, generator)
    log_w = log_weights(model, v, path, generator, base=base)
    return _log_mean(log_w, _log_z0(start), sign=1)


def reverse(
    model: Annealable,
    samples: Tensor,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
) -> Estimate:
    r""":math:`\log Z` from chains that start at independent samples ``(n, N)`` of the model and are heated.

    Its mean lies above :math:`\log Z` as that of :func:`log_partition` lies below. The error counts only the
    noise of the weights: samples that are not yet at equilibrium shift the result unseen.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm = RBM((3, 3), hidden=4, spread=0.3)
        >>> reverse(rbm, rbm.sample(500), temperatures=50).sigmas_from(rbm.log_partition()) < 5
        True
    """
    path = _path(1, 0, len(samples), temperatures)
    log_w = log_weights(model, samples, path, generator, base=base)
    return _log_mean(log_w, _log_z0(_uncoupled(model, base)), sign=-1)


def bracket(
    model: Annealable,
    samples: Tensor,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
) -> tuple[Estimate, Estimate]:
    r"""Forward and reverse estimates of :math:`\log Z` with one chain per sample.

    They enclose it on average. Where they differ by many errors, the path is too short or a mode is missed.
    """
    forward = log_partition(model, len(samples), temperatures, generator, base=base)
    return forward, reverse(model, samples, temperatures, generator, base=base)


@torch.no_grad()
def log_weights(
    model: Annealable,
    v: Tensor,
    path: Tensor,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
) -> Tensor:
    """Log-weights ``(n,)``, float64, of chains ``v`` ``(n, N)`` along the times ``path`` ``(K + 1,)``."""
    here = model.annealed(float(path[0]), base)
    log_w = torch.zeros(len(v), dtype=torch.float64, device=v.device)
    for t in path[1:].tolist():
        there = model.annealed(t, base)
        log_w += here.free_energy(v) - there.free_energy(v)
        v = there.gibbs(v, 1, generator)
        here = there
    return log_w


def _path(start: float, end: float, chains: int, temperatures: int) -> Tensor:
    """Evenly spaced times, or one sentence on why no estimate with an error can come of them."""
    if chains < 2 or temperatures < 1:
        raise ValueError(
            f"annealing needs at least 2 chains, to tell the error, and 1 temperature, got {chains} and "
            f"{temperatures}; hundreds of each are usual"
        )
    return torch.linspace(start, end, temperatures + 1)


@torch.no_grad()
def _uncoupled(model: Annealable, base: Tensor | None) -> RestrictedBoltzmann:
    return model.annealed(0.0, base)


def _log_z0(uncoupled: RestrictedBoltzmann) -> float:
    return float(uncoupled.log_partition_uncoupled())


def _log_mean(log_w: Tensor, log_z0: float, sign: int) -> Estimate:
    """``log_z0 + sign * log mean w`` with bias and error from leaving out one chain at a time."""
    n = len(log_w)
    size = n * effective_sample_size(log_w.cpu().numpy())
    if not size >= min(MIN_EFFECTIVE, n / 2):
        warnings.warn(
            f"the weights of {n} chains are worth {size:.1f} equal ones; take more temperatures or chains, "
            "or a base closer to the data",
            UnevenWeights,
            stacklevel=3,
        )
    w = (log_w - log_w.max()).exp()
    left_out = ((w.sum() - w) / (n - 1)).log()
    full = math.log(w.mean())
    mean = n * full - (n - 1) * float(left_out.mean())
    error = math.sqrt((n - 1) * float(left_out.var(correction=0)))
    return Estimate(log_z0 + sign * (float(log_w.max()) + mean), error)

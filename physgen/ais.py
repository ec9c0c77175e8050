r"""Partition functions by annealed importance sampling.

Chains pass through laws :math:`p_k \propto f_k` of a path from independent units to the model, t from 0 to 1,
by one update each:

.. math::
    \log w = \sum_{k=1}^{K} [\log f_k(x_{k-1}) - \log f_{k-1}(x_{k-1})], \qquad x_k \sim T_k(x_k | x_{k-1}),
    \qquad \langle w \rangle = Z / Z_0

exactly, for any number of temperatures; too few make the weights so uneven that no finite set of chains sees
the mean. Walked from the model down to t = 0, the chains give :math:`Z_0 / Z` and err to the other side.

References:
    | Annealed Importance Sampling (Neal, 2001)
    | On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov and Murray, 2008)
    | Accurate and Conservative Estimates of MRF Log-likelihood using Reverse Annealing (Burda et al., 2015)
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ising.stats import Estimate

from .distributions import RestrictedBoltzmann
from .partition import Annealable, UnevenWeights, Weights, path_of
from .partition.bennett import meeting
from .partition.path import Path
from .partition.schedule import anneal, spaced

__all__ = ["UnevenWeights", "bracket", "bridge", "integrated", "log_partition", "reverse"]


def log_partition(
    model: Annealable,
    chains: int = 1000,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
    data: Tensor | None = None,
) -> Estimate:
    r""":math:`\log Z`, nats, with its one-sigma error: the jackknife over chains of :math:`\log \bar w`.

    What is left of the bias errs low when the chains miss a mode of the model; :func:`bracket` shows it.

    Arguments:
        model: A model with ``annealed``.
        chains: Independent chains n, at least 2.
        temperatures: Steps K, at least 1, from t = 0 to t = 1; spaced by a pilot.
        generator: Source of randomness; torch's global one if not given.
        base: Visible bias at t = 0, ``(N,)``. Default: the model's own choice, the data's means after
            :meth:`physgen.models.rbm.RBM.centre`. No matter where the path is that of the marginal weight of
            hidden units (:mod:`physgen.partition.collapsed`), which starts with every state alike.
        data: Configurations ``(*, N)``; the base is then fitted to their means.

    Warns:
        UnevenWeights: If the weights are worth fewer than 20 chains, or their tail is too heavy.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm = RBM((3, 3), hidden=4, spread=0.3)
        >>> log_partition(rbm, chains=500, temperatures=50).sigmas_from(rbm.log_partition()) < 5
        True
    """
    path, times = _prepared(model, chains, temperatures, generator, base, data)
    return forward_weights(path, chains, times, generator).checked()


def reverse(
    model: Annealable,
    samples: Tensor,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
    data: Tensor | None = None,
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
    path, times = _prepared(model, len(samples), temperatures, generator, base, data)
    return reverse_weights(path, samples, times, generator).checked()


def bracket(
    model: Annealable,
    samples: Tensor,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
    data: Tensor | None = None,
) -> tuple[Estimate, Estimate]:
    r"""Forward and reverse estimates of :math:`\log Z` with one chain per sample.

    They enclose it on average. Where they differ by many errors, the path is too short or a mode is missed.
    """
    both = both_ways(model, samples, len(samples), temperatures, generator, base=base, data=data)
    return both[0].checked(), both[1].checked()


def bridge(
    model: Annealable,
    samples: Tensor,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
    data: Tensor | None = None,
) -> Estimate:
    r""":math:`\log Z` from chains that walk both ways, by Bennett's acceptance ratio.

    The best use of as many forward chains as there are independent samples ``(n, N)`` of the model.

    Warns:
        UnevenWeights: If fewer than 20 chains are found where the two sets meet.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm = RBM((3, 3), hidden=4, spread=0.3)
        >>> bridge(rbm, rbm.sample(500), temperatures=50).sigmas_from(rbm.log_partition()) < 5
        True
    """
    both = both_ways(model, samples, len(samples), temperatures, generator, base=base, data=data)
    return meeting(*both).checked()


@torch.no_grad()
def integrated(
    model: Annealable,
    chains: int = 1000,
    temperatures: int = 2000,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
    data: Tensor | None = None,
) -> Estimate:
    r""":math:`\log Z` by thermodynamic integration of :math:`\langle \partial_t \log f_t \rangle`: a check.

    Every step counts the mean of :math:`\log f_k - \log f_{k-1}` before and after its update, so that the
    error of the quadrature is of third order. Chains that lag behind their law shift the result, to low
    values; unlike a mean of weights this one does not depend on a few of them.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm = RBM((3, 3), hidden=4, spread=0.3)
        >>> integrated(rbm, chains=500, temperatures=200).sigmas_from(rbm.log_partition()) < 5
        True
    """
    path, times = _prepared(model, chains, temperatures, generator, base, data)
    state = path.start(chains, generator)
    total = torch.zeros(chains, dtype=torch.float64, device=state[0].device)
    for here, there in pairwise(times.tolist()):
        total += path.change(state, here, there) / 2
        state = path.move(state, there, generator)
        total += path.change(state, here, there) / 2
    return Estimate(path.log_z0 + float(total.mean()), float(total.std()) / math.sqrt(chains))


@torch.no_grad()
def forward_weights(
    path: Path, chains: int, times: Tensor, generator: torch.Generator | None = None
) -> Weights:
    """Of chains from independent units to the model."""
    return Weights(anneal(path, path.start(chains, generator), times, generator)[0], path.log_z0)


@torch.no_grad()
def reverse_weights(
    path: Path, samples: Tensor, times: Tensor, generator: torch.Generator | None = None
) -> Weights:
    """Of chains from samples ``(n, N)`` of the model to independent units."""
    log_w = anneal(path, path.of(samples, generator), times.flip(0), generator)[0]
    return Weights(log_w, path.log_z0, -1)


def both_ways(
    model: Annealable,
    samples: Tensor,
    chains: int,
    temperatures: int,
    generator: torch.Generator | None = None,
    *,
    base: Tensor | None = None,
    data: Tensor | None = None,
) -> tuple[Weights, Weights]:
    """:func:`forward_weights` of ``chains`` chains and :func:`reverse_weights` of one chain per sample."""
    path, times = _prepared(model, min(chains, len(samples)), temperatures, generator, base, data)
    forward = forward_weights(path, chains, times, generator)
    return forward, reverse_weights(path, samples, times, generator)


@torch.no_grad()
def fitted_base(model: Annealable, base: Tensor | None, data: Tensor | None) -> Tensor | None:
    """``base``, or the biases of independent units with the means of the data where there are any.

    Models that are not restricted Boltzmann machines keep the base of their own.
    """
    if data is None or base is not None:
        return base
    start = model.annealed(0.0, None)
    if not isinstance(start, RestrictedBoltzmann):
        return None
    return start.visible_units.fit(torch.as_tensor(data).flatten(0, -2).to(start.loc)).to(start.loc)


def _prepared(
    model: Annealable,
    chains: int,
    temperatures: int,
    generator: torch.Generator | None,
    base: Tensor | None,
    data: Tensor | None,
) -> tuple[Path, Tensor]:
    """The path and its times; or one sentence on why no estimate with an error can come of them."""
    if chains < 2 or temperatures < 1:
        raise ValueError(
            f"annealing needs at least 2 chains, to tell the error, and 1 temperature, got {chains} and "
            f"{temperatures}; hundreds of each are usual"
        )
    path = path_of(model, fitted_base(model, base, data))
    return path, spaced(path, temperatures, generator)

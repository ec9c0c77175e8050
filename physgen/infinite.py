r"""The infinite sigmoid belief net whose layers share one weight matrix: a Boltzmann machine unrolled.

Layers alternate between the sizes of v and h; each is drawn given the one above with W or its transpose. To
generate is to run alternating Gibbs updates downwards, so the lowest layer of a net of d layers follows the
law of a Gibbs chain after d half updates, whatever the law of the topmost layer, and that of the machine for
:math:`d \to \infty`: the layers above are a prior that makes the posterior :math:`p(h | v)` factorial.

References:
    | A Fast Learning Algorithm for Deep Belief Nets (Hinton, Osindero and Teh, 2006), section 3
"""

import torch
from torch import Tensor

from .distributions import RestrictedBoltzmann


def marginal(machine: RestrictedBoltzmann, pairs: int) -> Tensor:
    r"""Exact law of the lowest layer of a net of ``pairs`` pairs of layers, over all states of v, ``(2^D,)``.

    The topmost layer, of hidden units, is uniform. The distance to p(v) falls by the second eigenvalue of the
    Gibbs chain per pair.

    Example:
        >>> from physgen.distributions import BernoulliRBM
        >>> machine = BernoulliRBM(0.5 * torch.eye(2), torch.zeros(2), torch.zeros(2))
        >>> p = machine.log_prob(machine.enumerate_support()).exp()
        >>> [bool((marginal(machine, d) - p).abs().max() < 10.0**-d) for d in (1, 4)]
        [True, True]
    """
    v = machine.visible_units.states(machine.loc)
    h = machine.hidden_units.states(machine.loc)
    down = machine.visible(h.unsqueeze(1)).log_prob(v).exp()  # (states of h, states of v)
    up = machine.hidden(v.unsqueeze(1)).log_prob(h).exp()
    law = torch.full((len(h),), 1 / len(h), dtype=down.dtype)
    for _ in range(pairs - 1):
        law = law @ down @ up
    return law @ down


def posterior_gap(machine: RestrictedBoltzmann, pairs: int) -> float:
    r"""Largest difference between the true posterior of the second layer given the lowest and :math:`p(h|v)`.

    The true posterior, by Bayes, is :math:`p(v | h)\, \pi(h) / \sum_h p(v | h)\, \pi(h)`, with :math:`\pi`
    what the layers above h generate. It is not factorial for a finite net, and becomes the machine's.
    """
    v = machine.visible_units.states(machine.loc)
    h = machine.hidden_units.states(machine.loc)
    down = machine.visible(h.unsqueeze(1)).log_prob(v).exp()
    up = machine.hidden(v.unsqueeze(1)).log_prob(h).exp()
    prior = torch.full((len(h),), 1 / len(h), dtype=down.dtype)
    if pairs > 1:
        prior = marginal(machine, pairs - 1) @ up
    joint = prior.unsqueeze(-1) * down
    return float((joint / joint.sum(0) - up.T).abs().max())

r"""The couplings of spins that the hidden units of a machine mediate.

.. math:: -F(s) = \sum_S J_S \prod_{i \in S} s_i

A hidden unit adds :math:`A(c + \sum_i w_i s_i)` to :math:`-F`, a function of spins whose coefficients are
averages over all of them, :math:`J_S = \langle A \prod_S s_i \rangle`. On few spins a Walsh-Hadamard
transform takes these averages (:func:`couplings`). On any number of spins they are one integral. For hidden
spins, with the bias c as the weight of one more spin that is always up, and an even number of spins in S,

.. math:: J_S = (-1)^{|S|/2 - 1} \int \frac{d\omega}{2\omega \sinh(\pi\omega/2)}
    \prod_{i \in S} \sin \omega w_i \prod_{i \notin S} \cos \omega w_i ,

because the Fourier transform of :math:`A'' = 1/\cosh^2` is :math:`\pi\omega / \sinh(\pi\omega/2)`, and
the average over a spin turns :math:`e^{i \omega w s}` into a cosine, or i times a sine. The trapezoidal rule
takes the integral to rounding. Cossu et al. expand A in its inputs, Decelle et al. replace the sum over the
other spins by a normal variable; this integral is what both approximate.

References:
    | Machine learning determination of dynamical parameters: The Ising model case (Cossu et al., 2019)
    | Inferring effective couplings with restricted Boltzmann machines (Decelle et al., 2024)
"""

import math

import torch
from torch import Tensor

from . import units
from .rbm import RestrictedBoltzmann

MAX_SITES = 20  # of the transform over all states
_DECAY = 20.0  # beyond the largest input A'' falls by e^-2 a unit, its transform by e^-pi/2 a frequency


def couplings(law: RestrictedBoltzmann) -> Tensor:
    """All couplings of up to 20 visible spins, of any hidden units: batch shape + ``(2**N,)``.

    Entry k is the coupling of the sites whose bits k has, site 0 in the highest one, as in the number of a
    state; entry 0 is the constant, the mean of -F over all states.

    Example:
        >>> from physgen.distributions import conversions
        >>> pair = conversions.from_bonds(torch.tensor([[0, 1]]), torch.tensor([0.7]), torch.tensor([0.1, 0]))
        >>> couplings(pair)[1:].double().round(decimals=4).tolist()  # of s_1, of s_0, of both
        [0.0, 0.1, 0.7]
    """
    _check_spins(law)
    if law.n_visible > MAX_SITES:
        raise ValueError(f"all couplings need at most {MAX_SITES} spins; pair_couplings() has no limit")
    values = law.log_weights(visible=True)
    for _ in range(law.n_visible):  # the site in the highest bit is summed over and moves to the lowest
        down, up = values.unflatten(-1, (2, -1)).unbind(-2)
        values = torch.stack([up + down, up - down], -1).flatten(-2) / 2
    return values


def pair_couplings(law: RestrictedBoltzmann) -> tuple[Tensor, Tensor]:
    """Fields ``(N,)`` and pair couplings ``(N, N)`` of any number of visible spins, float64 to rounding.

    The matrix is symmetric with a zero diagonal; -F holds each pair once. Hidden units are spins, Bernoulli,
    binomial or Gaussian; the last mediate pair couplings only, so that fields and pairs are all of -F. Each
    unit costs a product of an ``(N, n)`` matrix by its transpose, n about 4 (20 + sum of its \\|weights\\|).

    Example:
        >>> from physgen.distributions import SpinRBM
        >>> fields, pairs = pair_couplings(SpinRBM(torch.ones(30, 1) / 5, torch.zeros(30), torch.zeros(1)))
        >>> fields.shape, pairs[0, 1] > 0
        (torch.Size([30]), tensor(True))
    """
    _check_spins(law)
    if law.batch_shape:
        raise ValueError(f"couplings are those of one machine, this is a batch of {tuple(law.batch_shape)}")
    loc = law.loc.double()
    if type(law.hidden_units) is units.Gaussian:
        W = (
            law.weight.double() / law.hidden_units.scale
        )  # E has W h / scale^2, and h has the variance scale^2
        pairs, fields = W @ W.mT, loc + W @ (law.hidden_bias.double() / law.hidden_units.scale)
    else:
        inputs, copies = _inputs(law)
        every = inputs.new_zeros(len(inputs), len(inputs))
        for w in inputs.mT:
            tangents, weights = _nodes(w)
            every += tangents.mT @ (weights.unsqueeze(-1) * tangents)
        pairs, fields = copies * every[1:, 1:], loc + _linear(law) + copies * every[1:, 0]
    return fields, pairs - pairs.diagonal().diag()


def many_body(law: RestrictedBoltzmann, sites: Tensor) -> Tensor:
    """Couplings of three or more spins in a machine of any size, float64 to rounding: ``(M, n)`` to ``(M,)``.

    Arguments:
        law: Visible spins, hidden spins, Bernoulli or binomial units.
        sites: The n different sites of each wanted coupling.

    Example:
        >>> from physgen.distributions import BernoulliRBM, conversions
        >>> d = BernoulliRBM(torch.ones(4, 1), torch.zeros(4), torch.tensor([-4.0]))
        >>> d = conversions.encoded(d, visible="spin")
        >>> exact = couplings(d)[[0b1110, 0b0111]].double()
        >>> torch.allclose(many_body(d, torch.tensor([[0, 1, 2], [1, 2, 3]])), exact, atol=1e-6)
        True
    """
    _check_spins(law)
    if law.batch_shape or sites.dim() != 2 or sites.shape[1] < 3:
        raise ValueError(
            "many_body() takes one machine and (M, n) sites, n >= 3; pair_couplings() has the rest"
        )
    if (sites.sort(-1).values.diff(dim=-1) == 0).any():
        raise ValueError("a coupling is of different sites, since the square of a spin is 1")
    inputs, copies = _inputs(law)
    rows = sites + 1
    if rows.shape[1] % 2:
        rows = torch.cat([torch.zeros_like(rows[:, :1]), rows], 1)
    total = inputs.new_zeros(len(rows))
    for w in inputs.mT:
        tangents, weights = _nodes(w)
        total += weights @ tangents[:, rows].prod(-1)
    return (-1) ** (rows.shape[1] // 2 - 1) * copies * total


def _check_spins(law: RestrictedBoltzmann) -> None:
    if not isinstance(law.visible_units, units.Spin):
        raise ValueError('couplings are those of spins; convert 0/1 units by encoded(law, visible="spin")')


def _inputs(law: RestrictedBoltzmann) -> tuple[Tensor, int]:
    """Biases and weights ``(1 + N, H)`` with which A is so many copies of log 2cosh, up to a linear part."""
    inputs = torch.cat([law.hidden_bias.unsqueeze(-2), law.weight]).double()
    hidden = law.hidden_units
    if isinstance(hidden, units.Spin):
        return inputs, 1
    if isinstance(hidden, units.Bernoulli | units.Binomial):  # log(1 + e^x) = log 2cosh(x/2) + x/2
        return inputs / 2, getattr(hidden, "trials", 1)
    raise ValueError(
        f"{type(hidden).__name__} hidden units have no such integral; couplings() takes {MAX_SITES} spins"
    )


def _linear(law: RestrictedBoltzmann) -> Tensor | float:
    """The fields of the linear part, which is half of the saturated input where a unit is 0 or more."""
    most = law.hidden_units.values[-1][0] + law.hidden_units.values[0][0]
    return law.weight.double().sum(-1) * most / 2


def _nodes(w: Tensor) -> tuple[Tensor, Tensor]:
    """For one unit and each frequency: tan(frequency w), and all the rest of the integrand, weighted."""
    step = 2 * math.pi / (w.abs().sum().item() + _DECAY)
    frequency = step * (torch.arange(math.ceil(1.2 * _DECAY / step), dtype=w.dtype) + 0.5)
    angles = frequency.unsqueeze(-1) * w
    weights = step * angles.cos().prod(-1) / (frequency * torch.sinh(math.pi / 2 * frequency))
    return angles.tan(), weights

r"""The same law as another machine: other values of its units, its layers exchanged, some units given.

An Ising model is a machine too. By the Hubbard-Stratonovich transformation each bond becomes one hidden spin
(:func:`from_bonds`), or all couplings at once become Gaussian hidden units (:func:`from_couplings`).
:mod:`physgen.distributions.couplings` goes the other way.
"""

import torch
from torch import Tensor

from . import units
from .families import machine
from .layer import Groups
from .rbm import RestrictedBoltzmann
from .units import Units

# from a kind to another: x = factor * x' + offset
_MAPS = {
    (units.Bernoulli, "spin"): (units.Spin, 0.5, 0.5),
    (units.Spin, "bernoulli"): (units.Bernoulli, 2.0, -1.0),
}


def encoded(
    law: RestrictedBoltzmann, visible: str | None = None, hidden: str | None = None
) -> RestrictedBoltzmann:
    r"""The same machine with ±1 for 0/1 units (``"spin"``) or the other way round (``"bernoulli"``).

    With :math:`v = a v' + d` and :math:`h = e h' + g` the parameters become
    :math:`W' = aWe,\ b' = a(b + Wg),\ c' = e(c + d^\top W)`. Units of another kind beside
    them, a label say, stay as they are.

    Example:
        >>> from physgen.distributions import SpinRBM
        >>> d = SpinRBM(torch.ones(2, 1), torch.zeros(2), torch.zeros(1))
        >>> encoded(d, visible="bernoulli", hidden="spin").weight
        tensor([[1.],
                [1.]])
    """
    (new_visible, a, d), (new_hidden, e, g) = (
        _recoding(layer, to) for layer, to in ((law.visible_units, visible), (law.hidden_units, hidden))
    )
    W, b, c = law.weight, law.loc, law.hidden_bias
    a, d, e, g = (x.to(W) for x in (a, d, e, g))
    b, c = a * (b + (W * g.unsqueeze(-2)).sum(-1)), e * (c + (d.unsqueeze(-1) * W).sum(-2))
    recoded = new_visible, new_hidden, a.unsqueeze(-1) * W * e, b, c
    if law.known_log_z is None:
        return machine(*recoded)
    shift = law.energy(d, g) - machine(*recoded).energy(0 * d, 0 * g)  # the same at any other point
    return machine(*recoded, log_partition=law.known_log_z + shift)


def swapped(law: RestrictedBoltzmann) -> RestrictedBoltzmann:
    """The machine with its layers exchanged: its p(v) is the p(h) of ``law``, and log Z is the same.

    Example:
        >>> from physgen.distributions import BernoulliRBM
        >>> swapped(BernoulliRBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))).event_shape
        torch.Size([2])
    """
    return machine(
        law.hidden_units,
        law.visible_units,
        law.weight.mT,
        law.hidden_bias,
        law.loc,
        log_partition=law.known_log_z,
    )


def given(law: RestrictedBoltzmann, part: int, value: Tensor) -> RestrictedBoltzmann:
    """The law of one part of a visible layer of two :class:`Groups`, given the other: pixels given a label.

    A machine again, one per row of ``value``: its hidden units feel the known part as a bias. So
    ``given(law, 0, pixels)`` over the states of a label has all its log-probabilities in closed form.

    Arguments:
        law: Its visible layer is ``Groups`` of two parts.
        part: 0 or 1, the part that is known.
        value: States of that part, ``(*, width)``; ``(*,)`` becomes the batch shape.
    """
    layer = law.visible_units
    if not isinstance(layer, Groups) or len(layer.parts) != 2:
        raise ValueError("given() needs a visible layer of two parts, Groups(pixels, label)")
    if value.shape[-1] != layer.widths[part]:
        raise ValueError(
            f"the known part has {layer.widths[part]} coordinates, got shape {tuple(value.shape)}"
        )
    if not layer.parts[part].valid(value).all():
        raise ValueError(f"the known part takes {layer.parts[part].takes}; got other values")
    weights, biases = law.weight.split(layer.widths, -2), law.loc.split(layer.widths, -1)
    shift = layer.parts[part].coupled(value) @ weights[part]
    other = 1 - part
    return machine(
        layer.parts[other], law.hidden_units, weights[other], biases[other], law.hidden_bias + shift
    )


def from_bonds(edges: Tensor, couplings: Tensor, fields: Tensor) -> RestrictedBoltzmann:
    r"""The Ising model :math:`p(s) \propto e^{\sum_e K_e s_i s_j + f \cdot s}` with one hidden spin per bond.

    .. math:: e^{K s_i s_j} = \tfrac12 e^{-|K|} \sum_{h = \pm 1} e^{w h (s_i + \mathrm{sign}(K) s_j)},
        \qquad \cosh 2w = e^{2|K|}

    Exact for either sign of K. :math:`\log Z` of the machine is that of the Ising model plus
    :math:`\sum_e (|K_e| + \log 2)`.

    Arguments:
        edges: Bonds, ``(E, 2)`` site numbers.
        couplings: :math:`K = \beta J`, ``(E,)``, dimensionless.
        fields: :math:`f = \beta h`, ``(N,)``, dimensionless.

    References:
        | Calculation of Partition Functions (Hubbard, 1959)

    Example:
        >>> chain = from_bonds(torch.tensor([[0, 1], [1, 2]]), torch.tensor([0.5, -0.5]), torch.zeros(3))
        >>> chain.log_prob(torch.tensor([1.0, 1, -1])).exp().item() > 0.25
        True
    """
    edges = torch.as_tensor(edges)
    if edges.dim() != 2 or edges.shape[1] != 2 or len(edges) != len(couplings):
        raise ValueError(f"edges need shape ({len(couplings)}, 2), one row a coupling, got {edges.shape}")
    if (edges[:, 0] == edges[:, 1]).any() or not ((edges >= 0) & (edges < len(fields))).all():
        raise ValueError(f"each bond joins two different sites of 0 to {len(fields) - 1}")
    strength = couplings.abs()
    w = (2 * strength + torch.log1p((-torch.expm1(-4 * strength)).sqrt())) / 2  # arcosh(e^2K) / 2
    weight, bond = fields.new_zeros(len(fields), len(edges)), torch.arange(len(edges))
    weight[edges[:, 0], bond] = w.to(fields)
    weight[edges[:, 1], bond] = (w * couplings.sign()).to(fields)
    layers = units.Spin(len(fields)), units.Spin(len(edges))
    return machine(*layers, weight, fields, fields.new_zeros(len(edges)))


def from_couplings(couplings: Tensor, fields: Tensor) -> RestrictedBoltzmann:
    r"""The Ising model :math:`p(s) \propto e^{\frac12 s^\top J s + f \cdot s}` with Gaussian hidden units.

    With :math:`W W^\top = J + \lambda` and the smallest :math:`\lambda` that leaves no negative eigenvalue;
    on spins :math:`\lambda` is a constant. :func:`swapped`, it is the Gaussian-binary machine whose hidden
    spins have the couplings J.

    Arguments:
        couplings: J, ``(N, N)``, symmetric; its diagonal is ignored.
        fields: f, ``(N,)``.

    References:
        | Hopfield networks and restricted Boltzmann machines (Barra et al., 2012)

    Example:
        >>> pair = from_couplings(torch.tensor([[0, 0.5], [0.5, 0]]), torch.zeros(2))
        >>> pair.weight.shape  # one pattern, (1, 1)
        torch.Size([2, 1])
    """
    if couplings.shape != (len(fields), len(fields)) or not torch.allclose(couplings, couplings.mT):
        raise ValueError(f"couplings need a symmetric matrix of {len(fields)} sites, got {couplings.shape}")
    values, vectors = torch.linalg.eigh(couplings - couplings.diagonal().diag())
    values = values - values[0]
    kept = values > 1e-12 * values[-1]
    kept[-1] = True
    W = vectors[:, kept] * values[kept].sqrt()
    return machine(units.Spin(len(W)), units.Gaussian(W.shape[1]), W, fields, W.new_zeros(W.shape[1]))


def _recoding(layer: Units, to: str | None) -> tuple[Units, Tensor, Tensor]:
    """The layer with its binary units recoded, and factor and offset of each coordinate."""
    if isinstance(layer, Groups):
        recodable = (units.Bernoulli, units.Spin)
        parts, *maps = zip(
            *(_recoding(x, to if isinstance(x, recodable) else None) for x in layer.parts), strict=True
        )
        return Groups(*parts), *(torch.cat(x) for x in maps)
    same = to is None or type(layer).__name__.lower() == to
    if not same and (type(layer), to) not in _MAPS:
        raise ValueError(
            f"only 'spin' and 'bernoulli' units become each other, not {type(layer).__name__} {to!r}"
        )
    new, factor, offset = (None, 1.0, 0.0) if same else _MAPS[type(layer), to]
    ones = torch.ones(layer.width, dtype=torch.float64)
    return new(layer.n) if new else layer, factor * ones, offset * ones

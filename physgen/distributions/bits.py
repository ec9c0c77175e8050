r"""Machines of two-valued units written in bits: every unit is low + (high - low) times 0 or 1."""

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from .units import Units

MAX_LOG = 640.0  # of a product that is still a number, with a margin: the largest is e^709


class Machine(Protocol):
    """What is rewritten; :class:`physgen.distributions.RestrictedBoltzmann` is one."""

    visible_units: Units
    hidden_units: Units
    weight: Tensor
    loc: Tensor
    hidden_bias: Tensor


class Bits(NamedTuple):
    r""":math:`\log f(x, y) = a + b \cdot x + c \cdot y + x^\top W y` of bits x and y, float64.

    Attributes:
        W: ``(D, H)``.
        b: ``(D,)``.
        c: ``(H,)``.
        constant: a.
    """

    W: Tensor
    b: Tensor
    c: Tensor
    constant: Tensor

    @property
    def swapped(self) -> "Bits":
        """The same with x and y exchanged."""
        return Bits(self.W.mT, self.c, self.b, self.constant)


def in_bits(machine: Machine) -> Bits | None:
    """One machine in bits; nothing for a batch, or where a unit has other than two values.

    Example:
        >>> import torch
        >>> from physgen.distributions import SpinRBM  # hidden units of 0 and 1
        >>> bits = in_bits(SpinRBM(torch.ones(2, 1), torch.zeros(2), torch.zeros(1)))
        >>> bits.W.flatten().tolist(), bits.c.tolist()
        ([2.0, 2.0], [-2.0])
    """
    layers = machine.visible_units, machine.hidden_units
    if machine.weight.dim() > 2 or not all(layer.binary for layer in layers):
        return None
    (a, k), (a_, k_) = ((low, high - low) for ((low,), (high,)) in (layer.values for layer in layers))
    W, b, c = (x.double() for x in (machine.weight, machine.loc, machine.hidden_bias))
    constant = a * b.sum() + a_ * c.sum() + a * a_ * W.sum()
    return Bits(k * k_ * W, k * (b + a_ * W.sum(1)), k_ * (c + a * W.sum(0)), constant)


def cuts(logs: np.ndarray, most: float = MAX_LOG) -> np.ndarray:
    """Ends of stretches over which factors of at most these logarithms have a product of e^most at most."""
    ends, total = [], 0.0
    for i, log in enumerate(logs):
        if total + log > most:
            ends.append(i)
            total = 0.0
        total += log
    return np.array([*ends, len(logs)])

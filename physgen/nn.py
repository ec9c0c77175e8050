r"""Blocks that at least two models share, and the seeds of everything with a generator of its own.

Spins are ±1 floats. A *field* :math:`\theta` is the natural parameter of one spin,
:math:`p(s) = e^{\theta s} / (2 \cosh \theta) = \sigma(2 \theta s)`.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid


def check_spins(spins: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The spins themselves, or one sentence on why they cannot be configurations on ``shape``."""
    n_sites = math.prod(shape)
    if spins.shape[-1:] != (n_sites,):
        raise ValueError(
            f"the model was built for shape {tuple(shape)}, so spins need shape (*, {n_sites}), got "
            f"{tuple(spins.shape)}; flatten the lattice axes, or build the model for the right shape"
        )
    if not (spins.abs() == 1).all():
        raise ValueError(
            f"spins are -1 and +1, got values such as {spins.unique()[:3].tolist()}; "
            "0/1 data becomes spins by 2 * x - 1"
        )
    return spins


def spin_log_prob(spins: Tensor, fields: Tensor) -> Tensor:
    r""":math:`\sum_i \log \sigma(2 \theta_i s_i)`: two ``(*, N)`` to ``(*,)``, nats."""
    return logsigmoid(2 * fields * spins).sum(-1)


def diverged(sign: str) -> FloatingPointError:
    """What every guard of a training raises: the sign that it saw, and what to do."""
    return FloatingPointError(f"{sign}: training has diverged; start again with a lower learning rate")


def private_seed(seed: int, *key: int) -> int:
    """A seed for one purpose, named by its key; no purpose repeats another's bits or ``manual_seed(seed)``'s.

    Keys in use: (0, epoch) and (1, batch) of batches, (2,) and (3,) of the chains of CD and PCD, (4,) of what
    an evaluation draws, (5,) of annealing, (6,) and (7,) of tempered chains and of those of a trajectory,
    (8,) of chains of all units, (20,) of a split, (21,) to (27,) of deep belief nets, (40,) and (41,)
    of walkers of particles and of spins, (50, batch) of what a model draws to
    learn from, (51,) and (52,) of importance weights and of neural proposals, (54,) to (57,) of chains and
    series, (58, k) and (59, batch) of the conditions and the draws of a conditional model, (60, k) of a curve
    of free energies.

    Example:
        >>> private_seed(0, 2) == private_seed(0, 2), private_seed(0, 2) == private_seed(0, 3)
        (True, False)
    """
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def home(model: Any) -> tuple[torch.device, torch.dtype]:
    """Where the parameters of a model are, and of which kind; CPU and float32 for one that has none."""
    parameters = getattr(model, "parameters", lambda: iter(()))
    first = next(iter(parameters()), torch.zeros(()))
    return first.device, first.dtype


def stream(model: Any, seed: int, *key: int) -> torch.Generator:
    """Random numbers for one purpose, see :func:`private_seed`, where the model draws.

    Example:
        >>> stream(torch.nn.Linear(2, 3), 0, 50).device
        device(type='cpu')
    """
    return torch.Generator(home(model)[0]).manual_seed(private_seed(seed, *key))


class MaskedLinear(nn.Linear):
    """A linear map without the connections where ``mask``, of shape ``(outputs, inputs)``, is false."""

    def __init__(self, mask: Tensor, *, bias: bool):
        super().__init__(mask.shape[1], mask.shape[0], bias=bias)
        self.register_buffer("mask", mask.float(), persistent=False)

    def masked(self) -> Tensor:
        """The weights, zero where the mask is."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.masked(), self.bias)


def periodic_conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution on the torus: same size out at stride 1, halved at stride 2.

    Example:
        >>> import torch
        >>> periodic_conv(1, 8, stride=2)(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 8, 4, 4])
    """
    return nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=(kernel - 1) // 2, padding_mode="circular"
    )


def check_shape(shape: tuple[int, ...], *, at_least: int = 1, divisor: int = 1, model: str) -> None:
    """Refuses in one sentence what is not a two-dimensional lattice of suitable sides."""
    if len(shape) != 2 or any(side < at_least or side % divisor for side in shape):
        multiple = f", multiples of {divisor}" if divisor > 1 else ""
        raise ValueError(
            f"{model} needs a two-dimensional lattice with sides of at least {at_least}{multiple}, got shape "
            f"{tuple(shape)}; take MADE for other lattices"
        )


def check_window(shape: tuple[int, ...], kernel: int, depth: int, *, model: str) -> None:
    """The same for causal windows of ``kernel`` columns and half as many rows, in ``depth`` layers."""
    if kernel < 3 or kernel % 2 == 0 or depth < 1:
        raise ValueError(f"kernel is odd and at least 3, depth at least 1, got {kernel} and {depth}")
    check_shape(shape, at_least=kernel // 2, model=model)

r"""What may be added to the losses of machines: weight decay, sparse hidden units, bounded weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .moments import Machine


class Penalised:
    r"""A loss plus penalties on the machine, in the same shape: called on a batch, with its state.

    .. math::
        \lambda_1 \sum_{ij} |W_{ij}| + \frac{\lambda_2}{2} \sum_{ij} W_{ij}^2
        + \lambda_s \sum_j \Big[\rho \log\frac{\rho}{\hat\rho_j} + (1 - \rho) \log\frac{1 - \rho}{1 -
        \hat\rho_j}\Big]

    with W the plain weights and :math:`\hat\rho_j` the mean of hidden unit j over the batch. Biases are free.

    Arguments:
        loss: Any loss of a batch.
        model: The machine that it trains.
        l1, l2: :math:`\lambda_1, \lambda_2`, nats.
        sparsity: :math:`\rho`, the wanted mean of hidden units of 0 and 1.
        strength: :math:`\lambda_s`, nats; of no effect without ``sparsity``.
        largest: Bound on the norm of the weights of each hidden unit; longer ones are shortened before each
            call.

    References:
        | A Practical Guide to Training Restricted Boltzmann Machines (Hinton, 2012)

    Example:
        >>> from physgen.energy import ExactLikelihood
        >>> from physgen.models.rbm import RBM
        >>> rbm, data = RBM((2, 2), hidden=3), torch.ones(5, 4)
        >>> loss = ExactLikelihood(rbm)
        >>> more = Penalised(loss, rbm, l2=2.0)(data) - loss(data)
        >>> torch.allclose(more, rbm.W.square().sum(), atol=1e-5)
        True
    """

    def __init__(
        self,
        loss: Callable[[Tensor], Tensor],
        model: Machine,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        sparsity: float | None = None,
        strength: float = 0.01,
        largest: float | None = None,
    ):
        if min(l1, l2, strength) < 0 or (largest is not None and not largest > 0):
            raise ValueError("penalties are not negative, and the largest norm is positive")
        if sparsity is not None:
            if not 0 < sparsity < 1:
                raise ValueError(f"sparsity is a mean between 0 and 1, got {sparsity}")
            if model.distribution().hidden_units.values != ((0.0,), (1.0,)):
                raise ValueError("a sparsity target needs hidden units of 0 and 1; leave it out for others")
        self.loss, self.model, self.l1, self.l2 = loss, model, l1, l2
        self.sparsity, self.strength, self.largest = sparsity, strength, largest

    def __call__(self, data: Tensor) -> Tensor:
        if self.largest is not None:
            with torch.no_grad():
                self.model.W.copy_(torch.renorm(self.model.W, 2, 1, self.largest))
        value = self.loss(data)
        if not (self.l1 or self.l2 or self.sparsity is not None):
            return value
        law = self.model.distribution()
        if self.l1:
            value = value + self.l1 * law.weight.abs().sum()
        if self.l2:
            value = value + 0.5 * self.l2 * law.weight.square().sum()
        if self.sparsity is not None:
            rho, mean = self.sparsity, law.hidden(data).mean.mean(0)
            excess = torch.xlogy(rho, rho / mean) + torch.xlogy(1 - rho, (1 - rho) / (1 - mean))
            value = value + self.strength * excess.sum()
        return value

    def state_dict(self) -> dict[str, Any]:
        return self.loss.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss.load_state_dict(state)

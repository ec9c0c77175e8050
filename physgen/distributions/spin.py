"""One Ising spin as a Pyro distribution, and the draws that the models share."""

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.nn.functional import logsigmoid

from .fused import draw_binary

Shape = Size | list[int] | tuple[int, ...]


class _SpinConstraint(constraints.Constraint):
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return value.abs() == 1


spin = _SpinConstraint()


class Spin(TorchDistribution):
    r"""One spin in a field: the Bernoulli law on :math:`\{-1, +1\}`.

    .. math:: p(s) = \frac{e^{\theta s}}{2 \cosh \theta}

    The mean is :math:`\tanh\theta`; the Bernoulli logit is :math:`2\theta`.

    Arguments:
        field: :math:`\theta = \beta h`, dimensionless, any shape; that shape is the batch shape.

    Example:
        >>> d = Spin(torch.zeros(5)).to_event(1)
        >>> d.event_shape, d.log_prob(torch.ones(5)).exp().item()
        (torch.Size([5]), 0.03125)
    """

    arg_constraints = {"field": constraints.real}
    support = spin
    has_enumerate_support = True

    def __init__(self, field: Tensor | float, *, validate_args: bool | None = None):
        self.field = torch.as_tensor(field)
        super().__init__(self.field.shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: "Spin | None" = None) -> "Spin":
        new = self._get_checked_instance(Spin, _instance)
        new.field = self.field.expand(Size(batch_shape))
        super(Spin, new).__init__(new.field.shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        return self.field.tanh()

    @property
    def variance(self) -> Tensor:
        return 1 - self.mean**2

    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            return draw_spins(self.field.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return logsigmoid(2 * self.field * value)

    def entropy(self) -> Tensor:
        return -(logsigmoid(2 * self.field) - self.field * (1 - self.mean))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = self.field.new_tensor([-1.0, 1.0]).reshape((2,) + (1,) * len(self.batch_shape))
        return values.expand((2,) + self.batch_shape) if expand else values


def draw_spins(field: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One ±1 draw per field, of the same shape; from torch's own generator where none is given.

    Example:
        >>> draw_spins(torch.tensor([-50.0, 50.0]))
        tensor([-1.,  1.])
    """
    return draw_binary(field, generator, slope=2.0, low=-1.0)

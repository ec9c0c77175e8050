r"""What one site can be: a spin, one of q symbols, or one of q levels of a quantity.

An alphabet says how a network reads a value, what the network gives for a site, and the probabilities that
these numbers stand for:

========  ==================  ======================  =======================  =====================
alphabet  values              reads                   gives                    probability
========  ==================  ======================  =======================  =====================
spins     -1, 1               the spin                a field :math:`\theta`   :math:`\sigma(2\theta s)`
symbols   0, ..., q - 1       one-hot, q numbers      q logits                 softmax
levels    0, ..., q - 1       the level, -1 to 1      q logits                 softmax
========  ==================  ======================  =======================  =====================

Potts states and characters are symbols, grey levels are levels.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .distributions import draw_spins
from .nn import check_spins, spin_log_prob


class Spins:
    """Values ±1; ``inputs`` numbers per site are read, ``outputs`` given."""

    inputs = outputs = 1

    def check(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The values as they are, if they are ±1 and ``(*, N)``; otherwise raises ``ValueError``."""
        return check_spins(values, shape)

    def read(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """``(*, N)`` to ``(*, N, inputs)``."""
        return values.to(dtype).unsqueeze(-1)

    def log_prob(self, values: Tensor, given: Tensor) -> Tensor:
        """``(*, N)`` values and what the network gave for each, ``(*, N)``, to ``(*,)`` nats."""
        return spin_log_prob(values, given)

    def conditionals(self, given: Tensor) -> Tensor:
        """Probability of +1, ``(*, N)``."""
        return torch.sigmoid(2 * given)

    def draw(self, given: Tensor, generator: torch.Generator | None) -> Tensor:
        """One value per site: ``(*, outputs)`` to ``(*,)``."""
        return draw_spins(given.squeeze(-1), generator)


class Symbols:
    """Integers 0 to q - 1 without an order, or with one, as ``levels``.

    Example:
        >>> three = Symbols(3, levels=True)
        >>> three.read(torch.tensor([0, 1, 2]), torch.float32).tolist()
        [[-1.0], [0.0], [1.0]]
        >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
        >>> round(float(three.log_prob(torch.tensor([0]), logits).exp()), 6)
        0.5
    """

    def __init__(self, q: int, *, levels: bool = False):
        self.q, self.levels = q, levels
        self.inputs, self.outputs = (1 if levels else q), q

    def check(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """As int64, if they are integers 0 to q - 1 and ``(*, N)``; otherwise raises ``ValueError``."""
        n_sites = math.prod(shape)
        if values.shape[-1:] != (n_sites,):
            raise ValueError(
                f"the model was built for shape {tuple(shape)}, so values need shape (*, {n_sites}), got "
                f"{tuple(values.shape)}"
            )
        if values.is_floating_point() or ((values < 0) | (values >= self.q)).any():
            raise ValueError(
                f"values are integers from 0 to {self.q - 1}, got {values.dtype} from {values.min():g} to "
                f"{values.max():g}"
            )
        return values.long()

    def read(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """``(*, N)`` to ``(*, N, inputs)``: levels from -1 to 1, or one-hot."""
        if self.levels:
            return (values.to(dtype) * (2 / (self.q - 1)) - 1).unsqueeze(-1)
        return one_hot(values, self.q).to(dtype)

    def log_prob(self, values: Tensor, given: Tensor) -> Tensor:
        """``(*, N)`` values and the logits given for each, ``(*, N, q)``, to ``(*,)`` nats."""
        return given.log_softmax(-1).gather(-1, values.unsqueeze(-1)).squeeze(-1).sum(-1)

    def conditionals(self, given: Tensor) -> Tensor:
        """Probabilities of all symbols, ``(*, N, q)``."""
        return given.softmax(-1)

    def draw(self, given: Tensor, generator: torch.Generator | None) -> Tensor:
        """One value per site: logits ``(*, q)`` to ``(*,)``."""
        weights = given.double().softmax(-1).reshape(-1, self.q)
        return torch.multinomial(weights, 1, generator=generator).reshape(given.shape[:-1])


def alphabet(symbols: int, *, levels: bool = False) -> Spins | Symbols:
    """Spins for 2, otherwise that many symbols or levels."""
    if symbols < 2:
        raise ValueError(f"a site needs at least 2 values, got symbols={symbols}")
    return Spins() if symbols == 2 else Symbols(symbols, levels=levels)

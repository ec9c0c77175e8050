r"""Classifiers beside generative models: logistic regression as the baseline, error rates with intervals.

References:
    | Probable Inference, the Law of Succession, and Statistical Inference (Wilson, 1927)
    | Note on the Sampling Error of the Difference Between Correlated Proportions (McNemar, 1947)
"""

import math
from dataclasses import dataclass

import torch
from scipy.special import bdtr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class ErrorRate:
    """``wrong`` of ``n`` cases; prints as a percentage with its 68 % interval.

    Example:
        >>> print(ErrorRate(45, 1000))
        4.5 % (3.9 to 5.2)
    """

    wrong: int
    n: int

    @property
    def rate(self) -> float:
        """Share of the rows that were told wrong."""
        return self.wrong / self.n

    def interval(self, z: float = 1.0) -> tuple[float, float]:
        r"""Wilson's: all p with :math:`|\hat p - p| \le z \sqrt{p (1 - p) / n}`; z = 1 covers 68 %."""
        centre = (self.wrong + z**2 / 2) / (self.n + z**2)
        half = z / (self.n + z**2) * math.sqrt(self.wrong * (self.n - self.wrong) / self.n + z**2 / 4)
        return centre - half, centre + half

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{100 * self.rate:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def p_value(better: Tensor, worse: Tensor) -> float:
    """McNemar's exact test that two classifiers err equally often, on the same cases, two-sided.

    Arguments:
        better, worse: Whether each was right, boolean ``(n,)``. Only cases that one alone got right count.

    Example:
        >>> right = torch.arange(20) < 18
        >>> round(p_value(right, torch.arange(20) < 12), 4)
        0.0312
    """
    first, second = int((better & ~worse).sum()), int((worse & ~better).sum())
    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5)))


@torch.enable_grad()
def logistic_regression(
    x: Tensor, labels: Tensor, classes: int, *, penalty: float = 1e-3, iterations: int = 100
) -> nn.Linear:
    r"""Minimises cross entropy :math:`+ \frac{penalty}{2} \|W\|^2`, convex, by L-BFGS from zero weights.

    Arguments:
        x: Features ``(n, width)``.
        labels: Whole numbers below ``classes``, ``(n,)``.
        classes: Outputs of the linear map that is returned, logits.
        penalty: Of the weights, not the biases, per case.
        iterations: At most.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]]).repeat(50, 1)
        >>> logistic_regression(x, (x[:, 0] > 0.5).long(), 2)(x).argmax(-1)[:4].tolist()
        [0, 1, 0, 1]
    """
    x = x.detach()
    net = nn.utils.skip_init(nn.Linear, x.shape[-1], classes, dtype=x.dtype)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(net(x), labels) + penalty / 2 * net.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return net.requires_grad_(False)


def chosen_regression(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], classes: int
) -> tuple[nn.Linear, float]:
    """The logistic regression whose penalty, 1e-5 to 1e-1, errs least on validation data, and the penalty."""
    best = None
    for penalty in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        net = logistic_regression(*train, classes, penalty=penalty)
        wrong = int((net(validation[0]).argmax(-1) != validation[1]).sum())
        if best is None or wrong < best[0]:
            best = wrong, net, penalty
    return best[1:]

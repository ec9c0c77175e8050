r"""The chain by 2 by 2 transfer matrices: any couplings, any fields, open or periodic, in logarithms.

Every entry of every product is a sum of positive terms, so nothing cancels, not even for a frustrated ring at
low temperature. Averages are derivatives of :math:`\log Z`, taken by automatic differentiation.
"""

import torch
from torch import Tensor

from ..model import check_beta


def chain_log_z(
    n_sites: int, beta: float, J: float | Tensor = 1.0, h: float | Tensor = 0.0, *, pbc: bool = True
) -> float:
    r""":math:`\log Z` in nats of a chain; for uniform couplings :math:`\log(\lambda_+^N + \lambda_-^N)`.

    Arguments:
        n_sites: Length N; a ring needs at least 3.
        beta: Inverse temperature.
        J: Coupling, a number or one per bond: bond i joins sites i and i + 1, the last bond of a
            ring closes it.
        h: Field, a number or one per site.
        pbc: Ring or open chain.

    References:
        | Beitrag zur Theorie des Ferromagnetismus (Ising, 1925)

    Example:
        >>> import math
        >>> math.isclose(chain_log_z(50, 0.7, pbc=False), math.log(2) + 49 * math.log(2 * math.cosh(0.7)))
        True
    """
    return float(_log_z(*_arguments(n_sites, beta, J, h, pbc), pbc))


def chain_energy(
    n_sites: int, beta: float, J: float | Tensor = 1.0, h: float | Tensor = 0.0, *, pbc: bool = True
) -> float:
    r"""Energy per site :math:`-\partial_\beta \log Z / N`, arguments as :func:`chain_log_z`.

    Example:
        >>> round(chain_energy(1000, 0.7), 6)  # -tanh(0.7)
        -0.604368
    """
    return -_temperature_derivatives(n_sites, beta, J, h, pbc)[0] / n_sites


def chain_specific_heat(
    n_sites: int, beta: float, J: float | Tensor = 1.0, h: float | Tensor = 0.0, *, pbc: bool = True
) -> float:
    r"""Specific heat per site :math:`\beta^2 \partial_\beta^2 \log Z / N`, arguments as :func:`chain_log_z`.

    Example:
        >>> round(chain_specific_heat(1000, 0.7), 6)  # 0.7^2 / cosh(0.7)^2
        0.311022
    """
    return beta**2 * _temperature_derivatives(n_sites, beta, J, h, pbc)[1] / n_sites


@torch.enable_grad()
def chain_magnetisation(
    n_sites: int, beta: float, J: float | Tensor = 1.0, h: float | Tensor = 0.0, *, pbc: bool = True
) -> float:
    r""":math:`\langle m \rangle = \partial \log Z / \partial(\beta h) / N`, arguments as :func:`chain_log_z`.

    Example:
        >>> import math
        >>> m = chain_magnetisation(1000, 0.7, h=0.1)
        >>> math.isclose(m, math.sinh(0.07) / math.hypot(math.sinh(0.07), math.exp(-1.4)))
        True
    """
    bonds, fields = _arguments(n_sites, beta, J, h, pbc)
    extra = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(_log_z(bonds, fields + extra, pbc), extra)
    return float(slope) / n_sites


@torch.enable_grad()
def _temperature_derivatives(
    n_sites: int, beta: float, J: float | Tensor, h: float | Tensor, pbc: bool
) -> tuple[float, float]:
    bonds, fields = _arguments(n_sites, 1.0, J, h, pbc)
    b = torch.tensor(check_beta(beta), dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(_log_z(b * bonds, b * fields, pbc), b, create_graph=True)
    (second,) = torch.autograd.grad(first, b)
    return float(first.detach()), float(second)


def _arguments(
    n_sites: int, beta: float, J: float | Tensor, h: float | Tensor, pbc: bool
) -> tuple[Tensor, Tensor]:
    """Bonds and fields times beta, each written out."""
    beta = check_beta(beta)
    if n_sites < (3 if pbc else 1):
        raise ValueError(f"a ring needs at least 3 sites and an open chain 1, got {n_sites}")
    expanded = []
    for name, value, count in (("J", J, n_sites if pbc else n_sites - 1), ("h", h, n_sites)):
        x = beta * torch.as_tensor(value, dtype=torch.float64, device="cpu")
        if x.ndim and x.shape != (count,):
            raise ValueError(
                f"{name} needs {count} values on this chain or one number, got shape {tuple(x.shape)}"
            )
        expanded.append(x.expand(count))
    return expanded[0], expanded[1]


def _log_z(bonds: Tensor, fields: Tensor, pbc: bool) -> Tensor:
    r"""Log of the trace (ring) or the sum of all entries (open) of :math:`\prod_i e^{K_i s s' + f_i s}`."""
    spin = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    if not pbc:
        if not len(bonds):
            return (fields * spin).logsumexp(-1)
        last = fields[-1] * spin
        fields = fields[:-1]
    steps = bonds[:, None, None] * spin[:, None] * spin + (fields[:, None] * spin)[..., None]
    while len(steps) > 1:  # neighbours are multiplied pairwise: log2(N) rounds
        single = steps[len(steps) // 2 * 2 :]
        left, right = steps[0 : len(steps) // 2 * 2 : 2], steps[1::2]
        products = (left.unsqueeze(-1) + right.unsqueeze(-3)).logsumexp(-2)
        steps = torch.cat([products, single])
    if pbc:
        return steps[0].diagonal().logsumexp(-1)
    return (steps[0] + last).flatten().logsumexp(-1)

r"""What to watch while a machine learns; the value of its loss and reconstruction errors say nothing.

- :func:`pseudo_likelihood` rises with learning, needs no Z, and compares machines of different sizes;
- :func:`free_energy_gap` grows when a machine remembers its training data;
- :class:`ChainHealth` tells whether persistent chains still move, and whether they differ.
"""

import torch
from torch import Tensor

from ising.stats import Estimate

from ..distributions import RestrictedBoltzmann
from .moments import rows_of


@torch.no_grad()
def pseudo_likelihood(
    law: RestrictedBoltzmann,
    data: Tensor,
    *,
    sites: int | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Mean of :math:`\log p(v_i | v_{\setminus i})` over units and configurations, nats per unit.

    .. math:: \log p(v_i | v_{\setminus i}) = -F(v) - \log \sum_x e^{-F(v_1 \dots v_i = x \dots v_n)}

    Exact for every kind of unit with finitely many values. With ``sites`` each configuration contributes that
    many units drawn at random: unbiased, and much faster for many units. The error is over configurations.

    Arguments:
        data: Configurations ``(*, D)``.
        sites: Units per configuration; default all of them.
        generator: Source of randomness; torch's global one if not given.

    References:
        | Statistical Analysis of Non-Lattice Data (Besag, 1975)

    Example:
        >>> from physgen.models.rbm import RBM
        >>> law = RBM((3, 3), hidden=4, spread=0.0).distribution()
        >>> round(pseudo_likelihood(law, 2.0 * torch.randint(0, 2, (50, 9)) - 1).mean, 4)  # -log 2
        -0.6931
    """
    units, v = law.visible_units, rows_of(law, data).to(law.weight)
    if not units.values:
        raise ValueError(
            "the pseudo-likelihood sums over the values of one unit, which must be finitely many"
        )
    n, values = units.n, torch.tensor(units.values).to(v)
    if sites is None:
        chosen = torch.arange(n, device=v.device).expand(len(v), n)
    else:
        chosen = torch.randint(n, (len(v), sites), generator=generator, device=v.device)
    base, total = law.hidden_field(v) - law.hidden_bias, v.new_zeros(len(v), dtype=torch.float64)
    own, weight = -_free_energy(law, v, base), law.weight.unflatten(0, (n, -1))
    rows = torch.arange(len(v), device=v.device)
    for site in chosen.T:
        grouped = v.unflatten(-1, (n, -1))
        change = values.unsqueeze(1) - grouped[rows, site]  # (values, rows, coordinates of a unit)
        shift = base + torch.einsum("qrk,rkh->qrh", change, weight[site])
        moved = grouped.repeat(len(values), 1, 1, 1)
        moved[:, rows, site] += change
        total += (own - (-_free_energy(law, moved.flatten(-2), shift)).logsumexp(0)).double()
    return _mean(total / chosen.shape[1])


@torch.no_grad()
def free_energy_gap(law: RestrictedBoltzmann, train: Tensor, unseen: Tensor) -> Estimate:
    """Mean free energy of unseen configurations minus that of training ones, nats, with its one-sigma error.

    It needs no Z. Zero within its error is healthy; a gap that grows while training goes on is overfitting.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> law, v = RBM((3, 3), hidden=4).distribution(), 2.0 * torch.randint(0, 2, (400, 9)) - 1
        >>> abs(free_energy_gap(law, v[:200], v[200:]).z(Estimate(0.0, 0.0))) < 4
        True
    """
    seen, new = (_mean(law.free_energy(rows_of(law, x).to(law.weight)).double()) for x in (train, unseen))
    return Estimate(new.mean - seen.mean, (new.error**2 + seen.error**2) ** 0.5)


class ChainHealth:
    r"""Compares persistent chains with what they were at the call before.

    Example:
        >>> health = ChainHealth()
        >>> _ = health(torch.tensor([[1.0, 1], [1, -1], [-1, 1], [1, 1]]))
        >>> health(torch.tensor([[1.0, 1], [1, -1], [-1, 1], [1, 1]]))
        {'distinct': 0.75, 'stuck': 1.0}
    """

    def __init__(self):
        self.before: Tensor | None = None

    def __call__(self, chains: Tensor) -> dict[str, float]:
        r"""``distinct``: the share of different chains; ``stuck``: the autocorrelation since the last call.

        The latter is :math:`\sum (v - \bar v)(v' - \bar v') / \sqrt{\sum (v - \bar v)^2 \sum (v' - \bar
        v')^2}`, 1 for chains that stand still and 0 for chains that forgot; absent at the first call.
        """
        found = {"distinct": len(chains.unique(dim=0)) / len(chains)}
        now = (chains - chains.mean(0)).double()
        if self.before is not None and self.before.shape == now.shape:
            scale = (now.square().sum() * self.before.square().sum()).sqrt()
            found["stuck"] = float((now * self.before).sum() / scale) if scale > 0 else 1.0
        self.before = now.clone()
        return found


def _free_energy(law: RestrictedBoltzmann, v: Tensor, shift: Tensor) -> Tensor:
    return law.visible_units.energy(v, law.loc) - law.hidden_units.log_sum(law.hidden_bias, shift)


def _mean(values: Tensor) -> Estimate:
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5))

r"""Fully visible belief network: every spin is a logistic regression on the spins before it.

.. math:: q(s) = \prod_i \sigma(2 \theta_i s_i), \qquad \theta_i = b_i + \sum_{j<i} D_{ij} s_j .

The simplest exact density: :math:`N(N-1)/2` weights, and the fastest to train and to draw from. Exact for
a chain with open ends; in two dimensions it lacks the interactions of more than two spins that summing over
the sites to come brings about.

References:
    | Connectionist learning of belief networks (Neal, 1992)
    | Does the wake-sleep algorithm produce good density estimators? (Frey, Hinton and Dayan, 1996)
"""

from torch import Tensor

from ..autoregressive import Next
from ..per_site import PerSite, Weights

__all__ = ["FVBN", "build"]


class FVBN(PerSite):
    r"""Arguments:
        shape: Sites along each axis, any number of axes.
        symmetric: Without biases :math:`\theta` is odd in s, so :math:`q(s) = q(-s)` exactly. Right for zero
            field, wrong for any other.
        symbols, levels: The alphabet, see :class:`~physgen.autoregressive.Autoregressive`.

    Example:
        >>> net = build((4, 4))
        >>> net.log_prob(net.sample(8)).shape
        torch.Size([8])
    """

    def __init__(
        self, shape: tuple[int, ...], symmetric: bool = False, symbols: int = 2, levels: bool = False
    ):
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels)

    def network(self, x: Tensor) -> Tensor:
        return x.new_zeros(())

    def cached(self, x: Tensor) -> Next:
        """Nothing beyond the direct term."""
        return lambda _: x.new_zeros(())

    @property
    def weights(self) -> Weights:
        direct = self.direct.weight
        none = direct.new_empty(self.n_sites, 0)
        return Weights(
            direct, none[..., None].expand(-1, -1, self.n_sites), none, self.direct.bias, self.direct.mask
        )


build = FVBN

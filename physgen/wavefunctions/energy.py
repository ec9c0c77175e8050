r"""Energy of a trial function, its gradient, and stochastic reconfiguration.

With :math:`O_k = \partial_k \log\Psi` and means over :math:`\Psi^2`,

.. math::
    \partial_k E = 2\big(\langle E_L O_k \rangle - \langle E_L \rangle \langle O_k \rangle\big), \qquad
    S_{kl} = \langle O_k O_l \rangle - \langle O_k \rangle \langle O_l \rangle .

Stochastic reconfiguration moves the parameters along :math:`-S^{-1} \partial E / 2`, one step of imaginary
time within the trial functions, a natural gradient. Where the trial function is exact the local energy is
constant: then every estimate of the energy is exact and every estimate of the gradient is zero.

References:
    | Green function Monte Carlo with stochastic reconfiguration (Sorella, 1998)
    | Solving the quantum many-body problem with artificial neural networks (Carleo and Troyer, 2017)
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

FLOOR = 1e-3  # of the variance of a derivative; those of machines are of order 1 where they matter


class Hamiltonian(Protocol):
    """Local energies of a wavefunction: ``(n, M)`` coordinates to ``(n,)``."""

    @property
    def unit(self) -> float: ...

    def local_energy(self, psi: Any, x: Tensor) -> Tensor: ...


class Moments(NamedTuple):
    r"""Of a set of walkers: the energy, and the centred and weighted rows that gradients are made of.

    Attributes:
        energy: Weighted mean of the local energy.
        variance: Of the local energy.
        rows: :math:`\sqrt{w}(O - \langle O \rangle)`, ``(n, parameters)``; ``rows.T @ rows`` is S.
        forces: :math:`\sqrt{w}(E_L - \langle E_L \rangle)`, ``(n,)``; gradient: ``2 * rows.T @ forces``.
    """

    energy: Tensor
    variance: Tensor
    rows: Tensor
    forces: Tensor


def moments(
    local_energy: Tensor, derivatives: Tensor, weights: Tensor | None = None, clip: float | None = None
) -> Moments:
    """Means over walkers, or over all states with their probabilities as ``weights``.

    Arguments:
        local_energy: ``(n,)``.
        derivatives: O, ``(n, parameters)``.
        weights: ``(n,)``, adding up to 1; equal ones if not given.
        clip: For the forces only, local energies further from their median than this many mean distances are
            pulled in: particles that meet without a cusp have local energies without bound, and a rare one
            would throw the parameters off. Biases the gradient a little and the energy not at all.
    """
    w = torch.full_like(local_energy, 1 / len(local_energy)) if weights is None else weights
    energy = w @ local_energy
    variance = w @ (local_energy - energy).square()
    held = local_energy
    if clip is not None:
        middle = held.median()
        reach = clip * (held - middle).abs().mean()
        held = held.clamp(middle - reach, middle + reach)
    root = w.sqrt()
    rows = root.unsqueeze(-1) * (derivatives - w @ derivatives)
    return Moments(energy, variance, rows, root * (held - w @ held))


def natural_direction(
    found: Moments, shift: float = 1e-2, longest: float | None = None, unit: float = 1.0
) -> Tensor:
    r""":math:`S^{-1} \partial E / 2`, regularised; ``(parameters,)``.

    Every parameter is measured in units of its own :math:`\sqrt{S_{kk}}`, so that S becomes a matrix of
    correlations, to which ``shift`` is added on the diagonal: directions that noise can imitate hardly move.
    A part ``shift`` of the mean :math:`S_{kk}` and a floor are added to each before: a saturated hidden unit,
    on which psi depends almost nowhere, would otherwise be sent to infinity. All three shrink with the
    standard deviation of the local energy, once below a unit, as does the noise that they are there for:
    near an exact trial function what is left to learn lies in directions that a fixed shift would hold.

    Arguments:
        found: Of walkers.
        shift: Relative, above 0.
        longest: Largest length :math:`\sqrt{\delta^T S \delta}`; longer directions are shortened to it. Times
            the rate it is the angle between psi before and after, so it keeps the walkers of the one typical
            of the other.
        unit: Of energy.

    References:
        | A method for the solution of certain non-linear problems in least squares (Levenberg, 1944); damping
          that follows the residual: Yamashita and Fukushima (2001)
    """
    noise = (found.variance.sqrt() / unit).clamp(1e-9, 1.0)
    shift, floor = shift * noise, FLOOR * noise
    spread = found.rows.square().sum(0)
    width = (spread + shift * spread.mean() + floor).sqrt()
    rows = found.rows / width
    S = rows.T @ rows
    S.diagonal().add_(shift)
    step = torch.cholesky_solve((rows.T @ found.forces).unsqueeze(-1), torch.linalg.cholesky(S)).squeeze(-1)
    if longest is not None:
        step = step * (longest / (rows @ step).norm().clamp(min=longest))
    return step / width


class EnergyLoss:
    r"""Surrogate whose gradient is that of the energy, or the direction of stochastic reconfiguration.

    Its value is the energy of the walkers. For :func:`physgen.train.gradient_step`: with ``natural``, ``SGD``
    of learning rate :math:`\eta` makes steps :math:`\eta` of imaginary time; without, take ``Adam``.

    Arguments:
        psi: The trial function.
        hamiltonian: For its local energy.
        natural: Stochastic reconfiguration; else the plain gradient.
        enumerate: The batch holds every configuration once, each is weighted by :math:`\Psi^2`, and all means
            are exact.
        shift, longest: As in :func:`natural_direction`.
        clip: As in :func:`moments`; without effect where all is enumerated.

    Example:
        >>> from physgen.train import fit, gradient_step
        >>> from physgen.wavefunctions import GaussianBinary, Trap, Walkers
        >>> psi = GaussianBinary(2, 1, hidden=1)
        >>> loss = EnergyLoss(psi, Trap(2, 1))
        >>> step = gradient_step(loss, torch.optim.SGD(psi.parameters(), lr=0.5))
        >>> abs(fit(step, Walkers(psi, 2, 200), steps=60).metrics["loss"] - 1) < 1e-4
        True
    """

    def __init__(
        self,
        psi: nn.Module,
        hamiltonian: Hamiltonian,
        *,
        natural: bool = True,
        enumerate: bool = False,
        shift: float = 1e-2,
        longest: float | None = None,
        clip: float | None = 5.0,
    ):
        if not shift > 0:
            raise ValueError(f"shift must be > 0, or S has no inverse, got {shift}")
        self.psi, self.hamiltonian, self.natural, self.enumerate = psi, hamiltonian, natural, enumerate
        self.shift, self.longest, self.clip = shift, longest, clip
        self.parameters = [p for p in psi.parameters() if p.requires_grad]

    def __call__(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            weights = torch.softmax(2 * self.psi.log_psi(x), 0) if self.enumerate else None
            found = moments(
                self.hamiltonian.local_energy(self.psi, x),
                self.psi.log_derivatives(x),
                weights,
                None if self.enumerate else self.clip,
            )
            direction = self._direction(found)
        return self._surrogate(direction, found)

    def _direction(self, found: Moments) -> Tensor:
        if not found.forces.isfinite().all():  # the step refuses it, in words
            return found.rows.new_full((found.rows.shape[1],), torch.nan)
        if self.natural:
            return natural_direction(found, self.shift, self.longest, self.hamiltonian.unit)
        return 2 * found.rows.T @ found.forces

    def _surrogate(self, direction: Tensor, found: Moments) -> tuple[Tensor, dict[str, Tensor]]:
        """A scalar with the energy as its value and ``direction`` as its gradient."""
        parts = direction.split([p.numel() for p in self.parameters])
        slope = torch.stack([p.flatten() @ d for p, d in zip(self.parameters, parts, strict=True)]).sum()
        return found.energy + slope - slope.detach(), {"energy": found.energy, "variance": found.variance}

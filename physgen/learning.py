r"""Learning of Boltzmann machines with couplings among hidden or among visible units.

The gradient of the log-likelihood is :math:`\langle -\partial E \rangle_{data} - \langle -\partial E
\rangle_{model}`. Where the hidden units cannot be summed over, the first average is taken under their
mean-field law, which makes it the gradient of a lower bound; the second comes from persistent chains, or from
the sum over all states.
"""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from .energy.chains import evenly, positive, same_shape
from .machine import Machine
from .nn import private_seed


class MeanFieldPCD:
    r"""Mean-field positive phase, persistent Gibbs chains of all units as negative phase.

    .. math:: \nabla \big[ \langle E(s, \mu(s)) \rangle_{data} - \langle E(s, h) \rangle_{chains} \big]

    A surrogate as the losses of :mod:`physgen.energy` are: only its gradient means something. For machines
    without couplings among the hidden units the positive phase is exact.

    Arguments:
        model: A machine.
        start: Configurations ``(*, N)`` to start from; ``chains`` evenly spaced rows are taken, and hidden
            units drawn given them.
        k: Gibbs sweeps per call.
        chains: Persistent chains.
        seed: Of the private generator.

    References:
        | Deep Boltzmann Machines (Salakhutdinov and Hinton, 2009)

    Example:
        >>> from physgen.models.boltzmann import Boltzmann
        >>> loss = MeanFieldPCD(Boltzmann((2, 2), hidden=3), start=torch.ones(10, 4), chains=20)
        >>> loss(torch.ones(10, 4)).backward(); loss.chains.shape
        torch.Size([20, 7])
    """

    def __init__(
        self, model: Machine, start: Tensor | np.ndarray, k: int = 5, *, chains: int = 512, seed: int = 0
    ):
        self.model, self.k = model, positive("k", k)
        rows = evenly(model, start, positive("chains", chains))
        self.generator = torch.Generator(rows.device).manual_seed(private_seed(seed, 8))
        self.chains = model.complete(rows, self.generator)

    def __call__(self, data: Tensor) -> Tensor:
        self.chains = self.model.gibbs(self.chains, self.k, self.generator)
        energies = self.model.energy(torch.cat([self.model.mean_field(data), self.chains]))
        return energies[: len(data)].mean() - energies[len(data) :].mean()

    def state_dict(self) -> dict[str, Tensor]:
        return {"chains": self.chains, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.chains = same_shape(state["chains"], self.chains)
        self.generator.set_state(state["generator"].cpu())


def negative_log_likelihood(model: Machine, data: Tensor, weights: Tensor | None = None) -> Tensor:
    r""":math:`\langle F \rangle_{data} + \log Z`, exact and with gradients, nats, for an ``enumerable``
    machine.

    Arguments:
        model: A machine whose free energy is tractable.
        data: Configurations ``(n, N)``.
        weights: Of the configurations, ``(n,)``, with sum 1; default all alike.
    """
    law = model.law(torch.float64)
    log_z, first, second = law.moments()
    # The gradient of log Z is the mean of s and of s s'; its value enters as a constant.
    change = ((law.field - law.field.detach()) * first).sum()
    change = change + ((law.J - law.J.detach()) * second).sum() / 2
    energies = model.free_energy(data).double()
    mean = energies.mean() if weights is None else energies @ weights.to(energies)
    return mean + log_z + change


def maximum_likelihood(
    model: Machine, data: Tensor | np.ndarray, *, tolerance: float = 1e-8, steps: int = 1000
) -> float:
    """Fits an ``enumerable`` machine exactly by L-BFGS; returns the negative log-likelihood, nats.

    Without hidden units the likelihood has one maximum, else one of several is found. Parameters become
    float64.

    Arguments:
        model: A machine whose sums are exact (about 20 units).
        data: Configurations ``(*, N)``.
        tolerance: Largest component of the gradient at the end.
        steps: Most iterations.

    Raises:
        FloatingPointError: If the search does not converge, as where a pair of data's spins never differs.

    Example:
        >>> from physgen.models.boltzmann import Boltzmann
        >>> machine = Boltzmann((2,))
        >>> data = torch.tensor([[1.0, 1], [1, 1], [-1, -1], [1, -1], [-1, 1], [-1, -1], [1, 1], [-1, -1]])
        >>> _ = maximum_likelihood(machine, data)
        >>> round(machine.couplings[0, 1].tanh().item(), 6)  # the mean of s1 s2
        0.5
    """
    model.double()
    rows = torch.as_tensor(data).reshape(-1, model.n_sites)
    rows, counts = rows.unique(dim=0, return_counts=True)
    rows, weights = rows.double(), counts.double() / counts.sum()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        torch.nn.utils.vector_to_parameters(torch.from_numpy(x).to(rows), parameters)
        value = negative_log_likelihood(model, rows, weights)
        gradient = torch.autograd.grad(value, parameters)
        return float(value.detach()), torch.cat([g.flatten() for g in gradient]).cpu().numpy()

    start = torch.nn.utils.parameters_to_vector(parameters).detach().cpu().numpy().copy()
    options = {"maxiter": steps, "gtol": tolerance, "ftol": 0.0, "maxcor": 20}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(found.x).to(rows), parameters)
    slope = float(np.abs(found.jac).max())
    if not slope < max(100 * tolerance, 1e-6):
        raise FloatingPointError(
            f"no maximum of the likelihood found: its slope is still {slope:.1e} after {found.nit} steps; "
            "data in which some spins never differ have none at finite couplings: take more data"
        )
    return float(found.fun)

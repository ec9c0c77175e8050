r"""Exact answers for Potts models: enumeration, the chain, and the critical point of the square lattice."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..model import check_beta

if TYPE_CHECKING:  # the model itself stands above this folder
    from ..potts import Potts

MAX_ROWS = 2**21  # of states held in memory


def potts_states(n_sites: int, q: int) -> Tensor:
    """All :math:`q^N` configurations, ``(q**N, N)`` int8, up to 2 million of them.

    Row k spells k in base q, most significant digit first.

    Example:
        >>> potts_states(2, 3)[:4].tolist()
        [[0, 0], [0, 1], [0, 2], [1, 0]]
    """
    if q**n_sites > MAX_ROWS:
        raise ValueError(
            f"enumeration holds up to {MAX_ROWS} states, got {q}**{n_sites}; take fewer sites, or simulate"
        )
    place = q ** torch.arange(n_sites - 1, -1, -1)
    return (torch.arange(q**n_sites).unsqueeze(-1) // place % q).to(torch.int8)


def potts_boltzmann(model: "Potts", beta: float) -> Tensor:
    """Probability of each row of :func:`potts_states`, ``(q**N,)`` float64.

    Example:
        >>> from ising import Potts, lattices
        >>> float(potts_boltzmann(Potts(lattices.chain(4), q=3), beta=0.5).sum().round(decimals=12))
        1.0
    """
    energy = model.energy(potts_states(model.lattice.n_sites, model.q))
    return (-check_beta(beta) * energy).softmax(0)


def potts_observables(model: "Potts", beta: float) -> dict[str, float]:
    r"""Exact thermal averages by enumeration, under the names of :class:`ising.potts.PottsRun`.

    Example:
        >>> from ising import Potts, lattices
        >>> round(potts_observables(Potts(lattices.square(3), q=3), beta=0.0)["energy"], 12)  # -2 / q
        -0.666666666667
    """
    states, p = potts_states(model.lattice.n_sites, model.q), potts_boltzmann(model, beta)
    n_sites, q = model.lattice.n_sites, model.q
    energy = model.energy(states)
    share = torch.stack([(states == k).double().mean(-1) for k in range(q)], dim=-1)
    m, m2 = (q * share.amax(-1) - 1) / (q - 1), (q * (share**2).sum(-1) - 1) / (q - 1)
    mean = float(p @ energy)
    mean_m, mean_m2 = float(p @ m), float(p @ m2)
    return {
        "energy": mean / n_sites,
        "abs_m": mean_m,
        "specific_heat": beta**2 * float(p @ (energy - mean) ** 2) / n_sites,
        "chi": beta * n_sites * float(p @ (m - mean_m) ** 2),
        "u4": 1 - (q - 1) / (q + 1) * float(p @ m2**2) / mean_m2**2 if mean_m2 else math.nan,
        "m2": mean_m2,
    }


def potts_chain_log_z(n_sites: int, q: int, beta: float, J: float = 1.0) -> float:
    r""":math:`\log Z` in nats of the ring, from the eigenvalues of its transfer matrix.

    .. math:: Z = (e^{\beta J} + q - 1)^N + (q - 1) (e^{\beta J} - 1)^N

    Example:
        >>> potts_chain_log_z(5, 3, beta=0.0) == 5 * math.log(3)
        True
    """
    K = check_beta(beta) * J
    largest = max(K, 0.0) + math.log(math.exp(min(K, 0.0)) + (q - 1) * math.exp(min(-K, 0.0)))
    ratio = math.expm1(-K) / -(1 + (q - 1) * math.exp(-K)) if K > 0 else math.expm1(K) / (math.exp(K) + q - 1)
    return n_sites * largest + math.log1p((q - 1) * ratio**n_sites)


def potts_critical_beta(q: int) -> float:
    r""":math:`\beta_c J = \ln(1 + \sqrt q)` of the infinite square lattice, the self-dual point.

    References:
        | Potts model at the critical temperature (Baxter, 1973)

    Example:
        >>> round(potts_critical_beta(3), 6)
        1.005053
    """
    return math.log1p(math.sqrt(q))


def potts_critical_energy(q: int, J: float = 1.0) -> float:
    r"""Energy per site :math:`-J (1 + 1/\sqrt q)` of the infinite square lattice at its transition.

    By self-duality. For q > 4, where the transition is of first order, it is half-way between the energies of
    the two coexisting phases.

    References:
        | Potts model at the critical temperature (Baxter, 1973)

    Example:
        >>> round(potts_critical_energy(4), 6)
        -1.5
    """
    return -J * (1 + 1 / math.sqrt(q))

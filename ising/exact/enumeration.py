"""Exact averages of any small model by summing over all its states, in blocks of bounded memory."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..model import Ising, check_beta

MAX_SITES = 27  # what may be summed over, block by block: memory does not grow with N
MAX_STATES = 20  # log2 of the rows that states() may hold in memory
_LOW_SITES, _BLOCK = 14, 2**20  # one block is a matrix: a few high parts times every low part of a state


def states(n_sites: int) -> Tensor:
    """All :math:`2^N` configurations, ``(2**N, N)`` float64, up to 20 sites.

    Row k spells k in binary, most significant bit first, with -1 for 0.

    Example:
        >>> states(2).tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    _check_sites(n_sites, MAX_STATES)
    return _spell(torch.arange(2**n_sites), n_sites)


def log_partition(model: Ising, beta: float) -> float:
    r""":math:`\log Z = \log \sum_s e^{-\beta E(s)}` in nats, up to ``MAX_SITES`` sites, to rounding.

    Example:
        >>> from ising import lattices
        >>> round(log_partition(Ising(lattices.square(3)), beta=0.0) / torch.log(torch.tensor(2.0)).item(), 6)
        9.0
    """
    _check_sites(model.lattice.n_sites, MAX_SITES)
    beta = check_beta(beta)
    sums = [float((-beta * energy).flatten().logsumexp(0)) for energy, _, _ in _blocks(model)]
    return float(torch.tensor(sums, dtype=torch.float64).logsumexp(0))


def boltzmann(model: Ising, beta: float) -> Tensor:
    """Probability of each row of :func:`states`, ``(2**N,)`` float64; up to 24 sites (128 MiB).

    Example:
        >>> from ising import lattices
        >>> float(boltzmann(Ising(lattices.chain(4)), beta=0.5).sum().round(decimals=12))
        1.0
    """
    _check_sites(model.lattice.n_sites, 24)
    beta = check_beta(beta)
    return torch.cat([(-beta * energy).flatten() for energy, _, _ in _blocks(model)]).softmax(0)


def enumerate_observables(model: Ising, beta: float) -> dict[str, float]:
    r"""Exact thermal averages, under the names of ``ising.observables``, up to ``MAX_SITES`` sites.

    ``energy`` :math:`\langle E \rangle / N`, ``abs_m`` :math:`\langle |m| \rangle`, ``specific_heat``
    :math:`\beta^2 (\langle E^2 \rangle - \langle E \rangle^2)/N`, ``chi``
    :math:`\beta N (\langle m^2 \rangle - \langle |m| \rangle^2)`, ``u4``
    :math:`1 - \langle m^4 \rangle / 3 \langle m^2 \rangle^2`, ``m`` and ``m2``. Energies are measured
    from where no state can go below, so that fluctuations stay accurate at low temperature.

    Example:
        >>> from ising import lattices
        >>> round(enumerate_observables(Ising(lattices.square(3)), beta=0.0)["m2"], 12)  # 1 / N
        0.111111111111
    """
    n_sites = model.lattice.n_sites
    _check_sites(n_sites, MAX_SITES)
    beta = check_beta(beta)
    floor = -float(model.bond_couplings.abs().sum() + model.site_fields.abs().sum())
    n_blocks = len(_first_rows(n_sites))
    log_sums, moments = torch.empty(n_blocks).double(), torch.empty(n_blocks, 6).double()
    for k, (energy, m_high, m_low) in enumerate(_blocks(model)):
        p, log_sums[k] = _normalised(-beta * energy)
        above = energy - floor
        m = (m_high.unsqueeze(-1) + m_low) / n_sites
        terms = (above, above * above, m.abs(), m, m**2, m**4)
        moments[k] = torch.stack([(p * x).sum() for x in terms])
    above, above2, abs_m, m, m2, m4 = (log_sums.softmax(0) @ moments).tolist()
    return {
        "energy": (floor + above) / n_sites,
        "specific_heat": beta**2 * (above2 - above**2) / n_sites,
    } | magnetic(beta, n_sites, m=m, abs_m=abs_m, m2=m2, m4=m4)


def magnetic(beta: float, n_sites: int, *, m: float, abs_m: float, m2: float, m4: float) -> dict[str, float]:
    """The observables that follow from the moments of m; u4 is nan where m is always 0."""
    return {
        "abs_m": abs_m,
        "chi": beta * n_sites * (m2 - abs_m**2),
        "u4": 1 - m4 / (3 * m2**2) if m2**2 > 0 else math.nan,
        "m": m,
        "m2": m2,
    }


def correlation(model: Ising, beta: float) -> Tensor:
    r"""Exact :math:`\langle s_i s_j \rangle` of all pairs, ``(N, N)`` float64, up to ``MAX_SITES`` sites.

    Example:
        >>> from ising import lattices
        >>> G = correlation(Ising(lattices.chain(4, pbc=False)), beta=0.5)
        >>> torch.allclose(G[0], torch.tensor(0.5).double().tanh() ** torch.arange(4))
        True
    """
    n_sites = model.lattice.n_sites
    _check_sites(n_sites, MAX_SITES)
    beta = check_beta(beta)
    low = states(min(n_sites, _LOW_SITES))
    rows = _first_rows(n_sites)
    log_sums, pairs = torch.empty(len(rows)).double(), torch.empty(len(rows), n_sites, n_sites).double()
    for k, (energy, _, _) in enumerate(_blocks(model)):
        p, log_sums[k] = _normalised(-beta * energy)
        high = _spell(rows[k] + torch.arange(len(p)), n_sites - low.shape[1])
        across = high.T @ p @ low
        upper = torch.cat([high.T @ (p.sum(1, keepdim=True) * high), across], dim=1)
        lower = torch.cat([across.T, low.T @ (p.sum(0).unsqueeze(-1) * low)], dim=1)
        pairs[k] = torch.cat([upper, lower])
    return torch.einsum("b,bij->ij", log_sums.softmax(0), pairs)


def _check_sites(n_sites: int, limit: int) -> None:
    if n_sites > limit:
        raise ValueError(
            f"enumeration is limited to {limit} sites here, got {n_sites} ({2.0**n_sites:.0e} states); "
            "use exact.kaufman_log_z for a square torus, exact.chain_log_z for a chain, else simulate"
        )


def _spell(index: Tensor, n_sites: int) -> Tensor:
    bits = index.unsqueeze(-1) >> torch.arange(n_sites - 1, -1, -1)
    return 2.0 * (bits & 1).double() - 1.0


def _normalised(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    log_sum = log_weight.flatten().logsumexp(0)
    return (log_weight - log_sum).exp(), log_sum


def _first_rows(n_sites: int) -> range:
    low_sites = min(n_sites, _LOW_SITES)
    return range(0, 2 ** (n_sites - low_sites), _BLOCK >> low_sites)


def _blocks(model: Ising) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    r"""Energies of all states in order, as matrices (high part, low part), and both parts' magnetisations.

    :math:`E(a, b) = E(a) + E(b) - a^T X b`: one matrix product per block, no sum over bonds per state.
    """
    model = model.to("cpu")
    n_sites = model.lattice.n_sites
    low_sites = min(n_sites, _LOW_SITES)
    cut = n_sites - low_sites
    J, h = torch.zeros(n_sites, n_sites, dtype=torch.float64), model.site_fields
    J.index_put_(tuple(model.lattice.edges.T), model.bond_couplings, accumulate=True)
    low = states(low_sites)
    low_energy = -((low @ J[cut:, cut:]) * low).sum(-1) - low @ h[cut:]
    between = (J[:cut, cut:] + J[cut:, :cut].T) @ low.T
    for first in _first_rows(n_sites):
        high = _spell(torch.arange(first, min(first + (_BLOCK >> low_sites), 2**cut)), cut)
        high_energy = -((high @ J[:cut, :cut]) * high).sum(-1) - high @ h[:cut]
        yield high_energy.unsqueeze(-1) + low_energy - high @ between, high.sum(-1), low.sum(-1)

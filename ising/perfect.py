r"""Perfect sampling: independent draws from exactly the Boltzmann law, with no burn-in to guess.

Coupling from the past, in the form that reads its random numbers once. Time is cut into blocks of equal
length. In each block a top configuration (all up) and a bottom one (all down) are swept with the same random
numbers. The heat bath of a ferromagnet keeps whatever started in between in between, so where top and bottom
end up equal, the block has led every start to one and the same end. A chain is carried from the end of such
a block through those that follow, by their random numbers, until the next one of that kind: what it is
*before* that block is one exact draw.

All of it is in the word "before": the configuration in which top and bottom first meet is biased, and so is
what the first lanes to finish bring. Draws are therefore numbered by when they begin, and all that began are
waited for.

References:
    | Exact sampling with coupled Markov chains (Propp and Wilson, 1996)
    | How to couple from the past using a read-once source of randomness (Wilson, 2000)
"""

import platform
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .kernels.coupling import Coupled
from .kernels.lanes import LANES
from .kernels.shishua import streams
from .model import Ising, check_beta
from .run import Run
from .simulate import check_counts, root_seed

PORTION = 2**15  # draws that are made one after another; others may be made at the same time
UPDATE = "coupling_from_the_past"


def sample(
    model: Ising, beta: float, n: int, *, seed: int = 0, threads: int = 1, max_sweeps: int = 50_000
) -> Run:
    """Draws n independent configurations from exactly the Boltzmann law.

    The time it takes grows with the correlation time of the heat bath: it is short in the disordered phase,
    :math:`L^{2.2}` at the critical point, and exponential below. A trial at the beginning finds out how long
    blocks should be; that affects the time and not the law.

    Arguments:
        model: A ferromagnet with uniform J and h and up to seven neighbours, or, without a field, an
            antiferromagnet on a bipartite lattice.
        beta: Inverse temperature, :math:`k_B = 1`.
        n: How many.
        seed: The same arguments give the same spins.
        threads: Used for more than 32 768 draws; the spins do not depend on it.
        max_sweeps: Sweeps after which the trial gives up.

    Returns:
        A run of n chains with one sample each; ``burn_in`` and ``thin`` are the length of a block.

    Raises:
        ValueError: If the model is none of these, or if top and bottom have not met in time in half of the
            chains of the trial.

    Example:
        >>> from ising.lattices import square
        >>> run = sample(Ising(square(4)), beta=0.2, n=1000, seed=1)
        >>> run.spins.shape, run.energy.sigmas_from(-0.4561) < 4.5
        ((1000, 1, 16), True)
    """
    check_counts(n=n, seed=seed, threads=threads, max_sweeps=max_sweeps)
    described, beta = model.describe(), check_beta(beta)
    _check_monotone(model)
    began = time.perf_counter()
    chains = min(LANES, 1 << (n - 1).bit_length())
    sequence = root_seed("perfect", described, beta, UPDATE, chains, "", seed)
    trial, *states = streams(sequence, 1 + -(-n // PORTION))
    first = Coupled(model, beta, chains, trial)
    block = _block_length(meeting_times(first, max_sweeps), min(n, PORTION))
    if block is None:
        raise ValueError(
            f"top and bottom have not met within {max_sweeps} sweeps at beta = {beta:g}; go away from the "
            "critical point or the ordered phase, raise max_sweeps, or take simulate(update='wolff')"
        )

    bits, energies, magnetisations = found = _empty(n, model.lattice.n_sites)

    def draw(state: np.ndarray, begin: int) -> None:
        part = slice(begin, begin + PORTION)
        draws(first.another(state), len(energies[part]), block, out=tuple(x[part] for x in found))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw, states, range(0, n, PORTION)))
    return Run(
        model=described,
        shape=tuple(model.lattice.shape),
        beta=beta,
        update=UPDATE,
        seed=int(seed),
        burn_in=block,
        thin=block,
        bits=bits[:, None],
        energies=energies[:, None],
        magnetisations=magnetisations[:, None],
        provenance={
            "kernel": "coupling",
            "seconds": round(time.perf_counter() - began, 3),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    )


def meeting_times(coupled: Coupled, max_sweeps: int) -> np.ndarray:
    """Sweeps after which top and bottom were seen to be equal, int64, ``(chains,)``; 0 where they were not.

    They are looked at less and less often. It ends when half of the chains have met and a longer block than
    the best so far cannot pay.

    Example:
        >>> from ising.lattices import square
        >>> coupled = Coupled(Ising(square(8)), 0.3, 512, streams(np.random.SeedSequence(1), 1)[0])
        >>> 10 < np.median(meeting_times(coupled, 1000)) < 20
        np.True_
    """
    times, now, best = np.zeros(coupled.chains, dtype=np.int64), 0, np.inf
    while now < max_sweeps and (now < best or 2 * np.count_nonzero(times) < len(times)):
        step = min(1 + now // 32, max_sweeps - now)
        coupled.sweep(step)
        now += step
        met = coupled.met()
        times[(times == 0) & met] = now
        if met.any():
            best = min(best, now * (len(met) + 1) / met.sum())
    return times


def draws(
    coupled: Coupled, n: int, block: int, out: tuple[np.ndarray, ...] | None = None
) -> tuple[np.ndarray, ...]:
    """The first n draws to begin, from blocks of so many sweeps.

    Returns:
        Packed configurations ``(n, ceil(N/8))``, energies and magnetisations ``(n,)``: ``out``, if given.
    """
    bits, energies, magnetisations = found = out or _empty(n, coupled.n_sites)
    number = np.full(coupled.chains, n)  # of the draw that each chain works at; n and more are not wanted
    begun = done = 0
    while done < n:
        before = coupled.rows()
        coupled.spread()
        coupled.sweep(block)
        met = coupled.met()
        chains = np.flatnonzero(met & (number < n))
        if len(chains):
            ready = number[chains]
            bits[ready] = coupled.bits(before)[chains]
            energies[ready], magnetisations[ready] = (x[chains] for x in coupled.measure(before))
            done += len(chains)
        number[met] = begun + np.arange(met.sum())
        begun += met.sum()
    return found


def _empty(n: int, n_sites: int) -> tuple[np.ndarray, ...]:
    return np.empty((n, -(-n_sites // 8)), dtype=np.uint8), np.empty(n), np.empty(n)


def _block_length(times: np.ndarray, n: int) -> int | None:
    """The block for which n draws take the fewest sweeps; None if most chains did not meet.

    The k-th of m times is expected to be enough for the share :math:`k / (m + 1)`. Every chain makes a block
    to begin with, as many per draw as it takes, and some more until the last one has met.
    """
    seen = np.sort(times[times > 0])
    if 2 * len(seen) < len(times):
        return None
    share = np.arange(1, len(seen) + 1) / (len(times) + 1)
    blocks = 1 + n / (len(times) * share) + np.log(min(n, len(times))) / -np.log1p(-share)
    return int(seen[np.argmin(seen * blocks)])


def _check_monotone(model: Ising) -> None:
    J, h = model.bond_couplings, model.site_fields
    if not ((J[:1] == J).all() and (h[:1] == h).all()):
        raise ValueError("perfect sampling needs the same J on all bonds and the same h on all sites")
    if len(J) and J[0] < 0 and (h[0] != 0 or len(model.lattice.colour_classes) > 2):
        raise ValueError(
            "an antiferromagnet can be sampled perfectly without a field on a bipartite lattice only: else "
            "top and bottom do not stay in order"
        )
    if int(model.lattice.degree.max()) > 7:
        raise ValueError("perfect sampling is made for up to seven neighbours")

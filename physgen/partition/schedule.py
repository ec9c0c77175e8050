r"""Where on a path the temperatures lie.

Log-weights of chains that anneal in K steps have the variance :math:`\sum_k \zeta(t_k)\,\Delta t_k^2`, with
:math:`\zeta` the variance of :math:`\partial_t \log f_t` times the updates over which it is remembered. At
given K the least is reached with :math:`\Delta t \propto \zeta^{-1/2}`: equal lengths in that metric. A pilot
of few chains measures it; its chains are not used again, so estimates stay unbiased.

References:
    | Thermodynamic Metrics and Optimal Paths (Sivak and Crooks, 2012)
"""

import math

import torch
from torch import Tensor

from .path import Path

PILOT_CHAINS, SHARE = 25, 0.2  # the pilot takes this share of the temperatures, and so little of the time
BLOCKS = 10  # stretches of the path with a metric of their own
FLOOR = 0.2  # of the mean speed: what a noisy pilot may not go below


@torch.no_grad()
def anneal(
    path: Path, state: object, times: Tensor, generator: torch.Generator | None, *, blocks: int = 1
) -> Tensor:
    """Log-weights ``(blocks, n)``, float64, that states collect on consecutive stretches of ``times``."""
    t = times.tolist()
    steps = len(t) - 1
    collected = [0.0] * blocks
    for k in range(steps):
        block = k * blocks // steps
        collected[block] = collected[block] + path.change(state, t[k], t[k + 1])
        if k + 1 < steps:
            state = path.move(state, t[k + 1], generator)
    return torch.stack(collected)


def spaced(path: Path, temperatures: int, generator: torch.Generator | None) -> Tensor:
    """Times from 0 to 1, float64 ``(temperatures + 1,)``; evenly where there are too few for a pilot.

    Example:
        >>> from physgen.distributions import SpinRBM
        >>> from physgen.partition import path_of
        >>> machine = SpinRBM(torch.ones(6, 2), torch.zeros(6), torch.zeros(2))
        >>> times = spaced(path_of(machine), 100, torch.Generator().manual_seed(0))
        >>> times.shape, times[0].item(), times[-1].item()
        (torch.Size([101]), 0.0, 1.0)
    """
    even = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64)
    steps = int(SHARE * temperatures)
    if steps < BLOCKS:
        return even
    steps -= steps % BLOCKS
    pilot = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    log_w = anneal(path, path.start(PILOT_CHAINS, generator), pilot, generator, blocks=BLOCKS)
    speed = log_w.var(-1).sqrt().cpu()
    if not (speed.sum() > 0 and math.isfinite(speed.sum())):
        return even
    speed = speed.clamp(min=FLOOR * float(speed.mean()))
    travelled = torch.cat([speed.new_zeros(1), speed.cumsum(0) / speed.sum()])
    return _interpolated(even, travelled, torch.linspace(0, 1, BLOCKS + 1, dtype=torch.float64))


def _interpolated(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The piecewise linear function through (x, y), x rising from 0 to 1."""
    piece = (torch.searchsorted(x, at, right=True) - 1).clamp(0, len(x) - 2)
    return torch.lerp(y[piece], y[piece + 1], (at - x[piece]) / (x[piece + 1] - x[piece])).clamp(0, 1)

"""What a model offers, brought to numpy: its samples, its log-density, its own log partition function.

Structural, not inherited: a model is used through whatever it has of ``log_prob``, ``free_energy``,
``free_energy_bound``, ``log_prob_bound``, ``sample_chains`` and ``sample``.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ising.stats import Estimate, tau_int

from . import likelihood
from .nn import home, private_seed

BATCH = 4096  # configurations given to a model at once
MODEL_CHAINS, PILOT, MAX_THIN = 64, 256, 100  # Markov chains of a model that samples by them
ANNEALED_CHAINS, ANNEALING_STEPS = 300, 1500  # each way, for the log Z of a model that cannot sum it
GRIDS = 96, 64  # points per latent variable; the difference tells the error
REPEATS, REPEAT_DRAWS = 8, 4  # importance samples where a bound is evaluated on all states


@contextmanager
def evaluation(model: nn.Module, seed: int) -> Iterator[None]:
    """No gradients, evaluation mode, and a global generator seeded here and put back afterwards."""
    device, training = home(model)[0], model.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(private_seed(seed, 4))
        model.eval()
        try:
            yield
        finally:
            model.train(training)


def draw(model: Any, samples: int, n_sites: int, energy: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Configurations ``(chains, n, N)`` int8; independent samples are one chain.

    Arguments:
        model: Draws by ``sample(n)``; by ``sample_chains`` where it has that and is not ``enumerable``.
        samples: How many, rounded up to whole chains.
        n_sites: What the caller expects, or the model is refused.
        energy: Of ``(*, N)`` spins: with |m| the slow quantity by which Markov chains are thinned.
    """
    if samples < 1:
        raise ValueError(f"a comparison needs at least one sample of the model, got samples = {samples}")
    if not (hasattr(model, "sample") or hasattr(model, "sample_chains")):
        raise ValueError(
            f"{type(model).__name__} cannot be compared: it has neither sample nor sample_chains"
        )
    if hasattr(model, "sample_chains") and not getattr(model, "enumerable", False):
        spins = _draw_chains(model, samples, energy)
    else:
        spins = torch.cat(
            [model.sample(min(BATCH, samples - i)) for i in range(0, samples, BATCH)]
        ).unsqueeze(0)
    if spins.shape[-1] != n_sites:
        raise ValueError(
            f"the model draws {spins.shape[-1]} sites, the target has {n_sites}; compare it on its lattice"
        )
    if not ((spins == 1) | (spins == -1)).all():
        raise ValueError("a model must draw spins of -1 and +1, got other values; map them in its sample()")
    return spins.to("cpu", torch.int8).numpy()


def _draw_chains(model: Any, samples: int, energy: Callable[[Tensor], Tensor]) -> Tensor:
    """Markov chains, thinned by twice the autocorrelation time of a pilot (at most ``MAX_THIN``)."""
    chains = min(MODEL_CHAINS, samples)
    pilot = model.sample_chains(chains, PILOT)
    series = energy(pilot.cpu()).numpy(), pilot.sum(-1).abs().cpu().numpy()
    thin = min(MAX_THIN, math.ceil(2 * max(tau_int(x) for x in series)))
    return model.sample_chains(chains, math.ceil(samples / chains), thin=thin, burn_in=0, start=pilot[:, -1])


def log_values(function: Callable[[Tensor], Tensor], model: Any, spins: np.ndarray) -> np.ndarray:
    """``function`` of ``(*, N)`` spins in batches, float64 nats ``(*,)``."""
    device, dtype = home(model)
    flat = torch.from_numpy(spins.reshape(-1, spins.shape[-1]))
    values = [function(batch.to(device, dtype)).double().cpu() for batch in flat.split(BATCH)]
    return torch.cat(values).numpy().reshape(spins.shape[:-1])


def log_density(model: Any) -> Callable[[Tensor], Tensor] | None:
    """Log q of the model, up to a constant if it only knows its free energy."""
    if hasattr(model, "log_prob"):
        return model.log_prob
    known = hasattr(model, "free_energy") and getattr(model, "tractable", True)
    return (lambda x: -model.free_energy(x)) if known else None


def only_bounded(model: Any) -> bool:
    """Whether the model knows its free energy by a bound only, as one with many coupled hidden units."""
    return log_density(model) is None and hasattr(model, "free_energy_bound")


def log_bounds(model: Any, spins: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, Estimate]:
    """Lower bounds on the log-density of ``(*, N)`` spins up to a log Z, and that log Z."""
    if hasattr(model, "log_prob_bound"):
        return log_values(lambda x: model.log_prob_bound(x, draws), model, spins), Estimate(0.0, 0.0)
    return log_values(lambda x: -model.free_energy_bound(x), model, spins), log_partition(model, seed)


def log_partition(model: Any, seed: int, spins: np.ndarray | None = None) -> Estimate:
    """By :func:`physgen.likelihood.log_partition`, with ``(*, N)`` spins that the model has drawn, if any."""
    samples = None
    if spins is not None:
        flat = torch.from_numpy(spins.reshape(-1, spins.shape[-1]))
        chosen = torch.linspace(0, len(flat) - 1, min(ANNEALED_CHAINS, len(flat))).long()
        samples = flat[chosen].to(*home(model))
    found = likelihood.log_partition(
        model, samples=samples, chains=ANNEALED_CHAINS, temperatures=ANNEALING_STEPS, seed=seed
    )
    return found.estimate


def marginals(model: nn.Module, states: np.ndarray, points: int) -> np.ndarray:
    """Log q of a model that integrates its latent variables on a grid, float64 nats."""
    return log_values(lambda x: model.log_marginal(x, points), model, states)


def repeated_bounds(model: Any, states: np.ndarray) -> np.ndarray:
    """Independent unbiased estimates of q, as logarithms ``(REPEATS, *)``, of ``(*, N)`` configurations."""
    return np.stack(
        [log_values(lambda x: model.log_prob_bound(x, REPEAT_DRAWS), model, states) for _ in range(REPEATS)]
    )

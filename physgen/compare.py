r"""Models against physics: the only file of physgen that imports the Hamiltonian side of ising.

p is the Boltzmann law :math:`e^{-\beta E}/Z` (or Monte Carlo samples of it), q the model. What a model offers
decides what can be said about it, and every number carries the name of how it was found:

=====================  ======================================================================================
the model has          divergence of the configurations, nats per site
=====================  ======================================================================================
``log_prob``           both directions: exact up to 16 sites, else averages over samples, with an exact log Z;
                       what the weights p/q tell besides (:mod:`physgen.weights`)
``free_energy``        the same; the model's own log Z is exact or annealed, with its error carried along
``free_energy_bound``  where the free energy is not tractable: an upper bound on KL(p‖q), log Z as above
``log_prob_bound``     an upper bound on KL(p‖q); up to 16 sites both directions, exact where the latent
                       integral can be done on a grid (``integrable``), else by importance sampling
``sample`` only        none; up to 16 sites KL(q‖p) from counts of all states
=====================  ======================================================================================

Histograms of energy and magnetisation are compared for every model, as is one half of the Monte Carlo chains
with the other: no comparison can resolve less than that. Chains that the model was not trained on, where they
are named, are all of Monte Carlo that it is compared with.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ising import exact
from ising.lattices import Lattice
from ising.model import Ising, check_beta, restore
from ising.observables import REGISTRY, Series, correlation_estimates
from ising.run import Run
from ising.stats import Estimate

from . import divergence, evaluate
from .comparison import NOISE_FLOOR, Comparison, Sample, table
from .divergence import FORWARD, REVERSE, Divergence
from .weights import Weights, weigh

__all__ = ["Comparison", "against_boltzmann", "against_samples", "exact_curves", "noise_floor", "table"]

ENUMERABLE = 16  # sites up to which a model is summed over all states
COUNTED_DRAWS = 2**17  # draws of an implicit model whose states are counted
BOUND_DRAWS = 64  # importance samples behind one value of log_prob_bound


def against_boltzmann(
    model: nn.Module,
    target: Ising,
    beta: float,
    *,
    samples: int = 4096,
    run: Run | None = None,
    name: str = "",
    log_z: Estimate | None = None,
    held_out: Sequence[int] | None = None,
    seed: int = 0,
    note: str = "",
) -> Comparison:
    r"""A model q against the Boltzmann law p of ``target``, and against Monte Carlo where a run is given.

    .. math::
        \mathrm{KL}(q \| p) = \mathbb{E}_q[\ln q + \beta E] + \ln Z , \qquad
        \mathrm{KL}(p \| q) = - \langle \beta E + \ln q \rangle_{MC} - \ln Z ,

    both given per site, with :math:`\ln Z` exact. How the numbers can mislead: KL(q‖p) is mode-seeking, so a
    model that knows only one sign of the magnetisation pays :math:`\ln 2` in all, next to nothing per site,
    and its weights look healthy; on the configurations that the model was trained on KL(p‖q) is too low and
    every distance from Monte Carlo too small.

    Arguments:
        model: Offers ``sample(n)`` or ``sample_chains``, and what it can of the table above.
        target: The Hamiltonian.
        beta: Inverse temperature.
        samples: Configurations drawn from the model, and taken from the run where a density is evaluated.
        run: Monte Carlo at the same beta.
        name: How tables and legends call the model.
        log_z: The model's own log partition function, where it has been estimated before.
        held_out: Chains of the run that the model was not trained on. They alone are then the Monte Carlo
            reference: for KL(p‖q) from samples, for distances, the joint test and histograms, all of which
            take the two sides for independent. Few chains mean wide errors, not wrong ones. The noise floor
            keeps the whole run, and so resolves more than the comparison does.
        seed: Of everything drawn here; the global generator is left as it was.
        note: What else a reader must know of the model; it heads the note of the comparison.

    Example:
        >>> from ising import Ising, lattices
        >>> from physgen import models
        >>> made = models.build("made", (4, 4), hidden=16)
        >>> result = against_boltzmann(made, Ising(lattices.square(4)), beta=0.3)
        >>> [(d.direction, d.kind) for d in result.divergences]
        [('KL(p‖q)', 'exact'), ('KL(q‖p)', 'exact')]
    """
    beta = check_beta(beta)
    _check_run(run, target, beta)
    unseen = None if run is None else _only(run, held_out)
    with evaluate.evaluation(model, seed):
        spins = evaluate.draw(model, samples, target.lattice.n_sites, target.energy)
        if target.lattice.n_sites <= ENUMERABLE and not evaluate.only_bounded(model):
            found, ess, missing = _by_enumeration(model, target, beta, seed)
        else:
            some = None if unseen is None else _subset(unseen.spins, samples)
            found, ess, missing = _by_sampling(model, target, beta, spins, some, log_z, seed)
        weights = _weights(
            model, target, beta, spins, None if unseen is None else _subset(unseen.spins, samples)
        )
    own = _measure(spins, target, beta)
    reference = None if unseen is None else _measured(unseen, target)
    return Comparison(
        name=name,
        target=target.describe(),
        beta=beta,
        shape=target.lattice.shape,
        divergences=(*found, *_histograms(own, reference)),
        ess=ess,
        model=own,
        monte_carlo=reference,
        symbols=_symbols(),
        exact=exact.known(target, beta),
        joint=None if reference is None else divergence.joint(_means(own), _means(reference)),
        noise_floor=None if run is None or run.chains < 2 else noise_floor(run),
        provenance={"comparison_seed": seed}
        | ({} if held_out is None else {"held_out": list(held_out)})
        | _provenance(run),
        note=" ".join(filter(None, (note, missing, weights.missing if weights else ""))),
        weights=weights,
    )


def against_samples(
    model: nn.Module,
    run: Run,
    *,
    samples: int = 4096,
    name: str = "",
    log_z: Estimate | None = None,
    held_out: Sequence[int] | None = None,
    seed: int = 0,
    note: str = "",
) -> Comparison:
    """:func:`against_boltzmann` with the Hamiltonian and the temperature that the run records."""
    return against_boltzmann(
        model,
        restore(**run.model),
        run.beta,
        samples=samples,
        run=run,
        name=name,
        log_z=log_z,
        held_out=held_out,
        seed=seed,
        note=note,
    )


def noise_floor(run: Run) -> Comparison:
    """The first half of the chains of a run as if it were a model of the second: what chance alone does."""
    chains = run.chains
    if chains < 2:
        raise ValueError(
            f"the noise floor sets one half of the chains against the other, so it needs 2, got {chains}; "
            "simulate more chains"
        )
    target = restore(**run.model)
    halves = (slice(0, chains // 2), slice(chains // 2, None))
    own, reference = (
        _measure(run.spins[half], target, run.beta, run.energies[half], run.magnetisations[half])
        for half in halves
    )
    return Comparison(
        name=NOISE_FLOOR,
        target=run.model,
        beta=run.beta,
        shape=tuple(run.shape),
        divergences=tuple(_histograms(own, reference)),
        ess=None,
        model=own,
        monte_carlo=reference,
        symbols=_symbols(),
        exact=exact.known(target, run.beta),
        joint=divergence.joint(_means(own), _means(reference)),
        provenance=_provenance(run),
    )


def exact_curves(comparison: Comparison, betas: np.ndarray) -> dict[str, np.ndarray]:
    """Exact observables of the comparison's Hamiltonian over ``betas``; nan where one is not known."""
    target = restore(**comparison.target)
    values = [exact.known(target, float(beta)) for beta in betas]
    names = {name for value in values for name in value}
    return {name: np.array([v.get(name, math.nan) for v in values]) for name in REGISTRY if name in names}


def _by_sampling(
    model: nn.Module,
    target: Ising,
    beta: float,
    spins: np.ndarray,
    reference: np.ndarray | None,
    model_log_z: Estimate | None,
    seed: int,
) -> tuple[list[Divergence], float | None, str]:
    """Divergences of the configurations, the effective sample size, and what could not be done."""
    n_sites, density, log_z = target.lattice.n_sites, evaluate.log_density(model), exact.log_z(target, beta)
    if density is None and not (hasattr(model, "log_prob_bound") or evaluate.only_bounded(model)):
        return [], None, "The model has no density: only histograms can be compared."
    if log_z is None:
        return [], None, "log Z of this Hamiltonian is not known exactly: no divergence per site is given."

    def log_p(x: np.ndarray) -> np.ndarray:
        return -beta * target.energy(torch.from_numpy(x)).numpy() - log_z

    if density is None:
        if reference is None:
            return [], None, "A bound on KL(p‖q) needs Monte Carlo configurations: pass run=."
        bound, own = evaluate.log_bounds(model, reference, BOUND_DRAWS, seed)
        gaps = log_p(reference) - bound + own.mean
        found = divergence.averaged(gaps, n_sites, FORWARD, kind="bound", log_z_error=own.error)
        return [found], None, ""
    if model_log_z is None:
        model_log_z = evaluate.log_partition(model, seed, spins)

    def gap(x: np.ndarray) -> np.ndarray:
        return log_p(x) - evaluate.log_values(density, model, x) + model_log_z.mean

    own = gap(spins)
    found = [divergence.averaged(-own, n_sites, REVERSE, log_z_error=model_log_z.error)]
    if reference is not None:
        found.insert(0, divergence.averaged(gap(reference), n_sites, FORWARD, log_z_error=model_log_z.error))
    return found, divergence.effective_sample_size(own), ""


def _weights(
    model: nn.Module, target: Ising, beta: float, spins: np.ndarray, reference: np.ndarray | None
) -> Weights | None:
    """Of a model that knows its own density, from independent draws ``(1, n, N)``."""
    if not hasattr(model, "log_prob") or len(spins) > 1:
        return None

    def log_q(x: np.ndarray) -> np.ndarray:
        return evaluate.log_values(model.log_prob, model, x)

    def log_p(x: np.ndarray) -> np.ndarray:
        return -beta * target.energy(torch.from_numpy(x)).numpy()

    own, n_sites = log_q(spins)[0], target.lattice.n_sites
    m = abs(spins[0].sum(-1, dtype=np.float64)) / n_sites
    energy = target.energy(torch.from_numpy(spins[0])).numpy() / n_sites
    return weigh(
        log_p(spins)[0] - own,
        own,
        {"e": energy, "|m|": m, "m²": m * m},
        None if reference is None else log_p(reference) - log_q(reference),
        log_z=exact.log_z(target, beta),
        n_sites=n_sites,
    )


def _by_enumeration(
    model: nn.Module, target: Ising, beta: float, seed: int
) -> tuple[list[Divergence], float | None, str]:
    n_sites = target.lattice.n_sites
    states, log_p = _all_states(target, beta)
    if (density := evaluate.log_density(model)) is not None:
        log_q = evaluate.log_values(density, model, states)
        if not hasattr(model, "log_prob"):
            log_q = log_q - np.logaddexp.reduce(log_q)
        found = divergence.enumerated(log_p, log_q, n_sites)
        return list(found), _ess(log_p, log_q), ""
    if getattr(model, "integrable", False):
        fine, coarse = (evaluate.marginals(model, states, points) for points in evaluate.GRIDS)
        return list(divergence.enumerated_on_grids(log_p, fine, coarse, n_sites)), _ess(log_p, fine), ""
    if hasattr(model, "log_prob_bound"):
        log_q = evaluate.repeated_bounds(model, states)
        return list(divergence.enumerated_from_repeats(log_p, log_q, n_sites)), None, ""
    found = divergence.counted(
        _index(evaluate.draw(model, COUNTED_DRAWS, n_sites, target.energy)), log_p, n_sites
    )
    exact_draws = np.random.default_rng(seed).choice(len(log_p), (1, COUNTED_DRAWS), p=np.exp(log_p))
    floor = divergence.counted(exact_draws, log_p, n_sites)
    note = f"KL(q‖p) is counted from {COUNTED_DRAWS} draws; as many draws of p itself give {floor.estimate}."
    return [found], None, note


def _ess(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """The effective sample size of infinitely many draws, from the exact laws."""
    return float(np.exp(-np.logaddexp.reduce(2 * log_p - log_q)))


def _all_states(target: Ising, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Every configuration ``(2**N, N)`` int8 and its log-probability."""
    states = exact.states(target.lattice.n_sites)
    log_weights = -beta * target.energy(states)
    return states.to(torch.int8).numpy(), (log_weights - log_weights.logsumexp(0)).numpy()


def _index(spins: np.ndarray) -> np.ndarray:
    """The row of each configuration in :func:`ising.exact.states`."""
    return ((spins > 0) @ (1 << np.arange(spins.shape[-1] - 1, -1, -1, dtype=np.int64))).astype(np.int64)


def _only(run: Run, held_out: Sequence[int] | None) -> Run:
    """The run reduced to some of its chains."""
    if held_out is None:
        return run
    if len(held_out) == 0 or min(held_out) < 0 or max(held_out) >= run.chains:
        raise ValueError(
            f"held_out must name some of the {run.chains} chains of the run by number, got {held_out}"
        )
    kept = list(held_out)
    return replace(
        run, bits=run.bits[kept], energies=run.energies[kept], magnetisations=run.magnetisations[kept]
    )


def _subset(spins: np.ndarray, samples: int) -> np.ndarray:
    """About ``samples`` configurations: thinned in time down to 32 a chain, then fewer chains."""
    chains, n, _ = spins.shape
    stride = min(math.ceil(chains * n / samples), max(1, n // 32))
    thinned = spins[:, ::stride]
    return thinned[: max(1, math.ceil(samples / thinned.shape[1]))]


def _measure(
    spins: np.ndarray,
    target: Ising,
    beta: float,
    energies: np.ndarray | None = None,
    magnetisations: np.ndarray | None = None,
) -> Sample:
    if energies is None or magnetisations is None:
        energies = target.energy(torch.from_numpy(spins)).numpy()
        magnetisations = spins.sum(-1, dtype=np.float64)
    series = Series(energies, magnetisations, target.lattice.n_sites, beta)
    flat = spins.reshape(-1, spins.shape[-1])
    spread = np.linspace(0, len(flat) - 1, min(8, len(flat))).astype(int)
    return Sample(
        energies=energies / target.lattice.n_sites,
        magnetisations=magnetisations / target.lattice.n_sites,
        observables={name: observable(series) for name, observable in REGISTRY.items()},
        correlation=_correlation(spins, target.lattice),
        pictures=flat[spread].reshape(-1, *target.lattice.shape),
    )


def _measured(run: Run, target: Ising) -> Sample:
    return _measure(run.spins, target, run.beta, run.energies, run.magnetisations)


def _correlation(spins: np.ndarray, lattice: Lattice) -> tuple[Estimate, ...]:
    return tuple(correlation_estimates(spins, lattice.shape)) if all(lattice.pbc) else ()


def _histograms(own: Sample, reference: Sample | None) -> list[Divergence]:
    if reference is None:
        return []
    ours, theirs = _means(own), _means(reference)
    return [divergence.histogram(ours[name], theirs[name], name) for name in ("e", "m")]


def _means(sample: Sample) -> dict[str, np.ndarray]:
    """Series ``(chains, n)`` whose means the joint test compares."""
    e, m = sample.energies, sample.magnetisations
    return {"e": e, "e²": e * e, "|m|": abs(m), "m²": m * m, "m": m}


def _symbols() -> dict[str, str]:
    return {name: observable.symbol for name, observable in REGISTRY.items()}  # type: ignore[attr-defined]


def _check_run(run: Run | None, target: Ising, beta: float) -> None:
    if run is None:
        return
    if not math.isclose(run.beta, beta, rel_tol=1e-9):
        raise ValueError(
            f"the run is at beta = {run.beta:g} but the comparison at {beta:g}; take the run at that beta"
        )
    if run.model != target.describe():
        raise ValueError(
            f"the run is of {run.model} but the target is {target.describe()}; take the matching run"
        )


def _provenance(run: Run | None) -> dict[str, object]:
    return {} if run is None else {"update": run.update, "seed": run.seed} | dict(run.provenance)

"""Cluster estimators against enumeration, and against the estimators that use the spins.

False alarms: 4.5 standard errors for each of about 60 estimates, on fixed seeds: 1 in 2000 new sets of seeds.
"""

import math

import numpy as np
import pytest
import torch

from ising import exact, improved, kernels, lattices, observables, stats
from ising.model import Ising

SHORT = {"sweeps": 2000, "burn_in": 100, "chains": 16, "seed": 1}
COUPLINGS = torch.randn(32, generator=torch.Generator().manual_seed(2))
MODELS = {
    "ferromagnet": Ising(lattices.square(4)),
    "antiferromagnet": Ising(lattices.square(4), J=-1.0),
    "frustrated": Ising(lattices.triangular(4), J=-1.0),
    "glass": Ising(lattices.square(4), J=COUPLINGS),
}


def exactly(model: Ising, beta: float, observable) -> np.ndarray:
    """The mean of a function of all ``(2**N, N)`` states."""
    return exact.boltzmann(model, beta).numpy() @ observable(exact.states(model.lattice.n_sites).numpy())


@pytest.mark.parametrize("beta", [0.1, 0.4])
@pytest.mark.parametrize("update", improved.SAMPLERS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_susceptibility_is_that_of_enumeration(model, update, beta):
    chi = improved.susceptibility(model, beta=beta, update=update, **SHORT)
    expected = exactly(model, beta, lambda s: beta / 16 * s.sum(-1) ** 2.0)
    assert chi.sigmas_from(expected) < 4.5
    assert chi.sigmas_from(1.1 * expected) > 4.5


@pytest.mark.parametrize("beta", [0.1, 0.4])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_correlation_is_that_of_enumeration(model, beta):
    found = improved.correlation(model, beta=beta, **SHORT)
    expected = exactly(model, beta, lambda s: observables.correlation(s, model.lattice.shape))
    assert found[0].mean == 1.0
    assert all(g.sigmas_from(value) < 4.5 for g, value in zip(found[1:], expected[1:], strict=True))
    assert found[1].error < 3e-3


def test_a_wrong_temperature_would_be_seen():
    model, beta = MODELS["ferromagnet"], 0.4
    g = improved.correlation(model, beta=beta, **SHORT)[1]
    wrong = exactly(model, 1.03 * beta, lambda s: observables.correlation(s, model.lattice.shape))[1]
    assert g.sigmas_from(wrong) > 4.5


def test_the_correlation_of_unequal_sides_averages_both_axes():
    model = Ising(lattices.rectangular(3, 5))
    found = improved.correlation(model, beta=0.3, **SHORT)
    expected = exactly(model, 0.3, lambda s: observables.correlation(s, (3, 5)))
    assert found[1].sigmas_from(expected[1]) < 4.5


@pytest.mark.parametrize("update", improved.SAMPLERS)
def test_the_error_is_smaller_than_that_of_the_spins_in_the_disordered_phase(update):
    """From the same updates; for Wolff at the same number of flipped spins."""
    model, beta = Ising(lattices.square(32)), 0.3
    build = improved.SAMPLERS[update]
    sampler = build(model, update, beta, np.ones((16, 1024), dtype=np.int8), np.random.SeedSequence(1))
    sampler.sweep(1000)
    plain, clusters, each = [], [], 1 if update == "swendsen_wang" else 20
    for _ in range(500):
        clusters.append(sampler.squares(each))
        plain.append(sampler.measure()[1] ** 2)
    better = stats.mean(np.concatenate(clusters, axis=1))
    worse = stats.mean(np.stack(plain, axis=-1))
    assert abs(better.z(worse)) < 4.5
    assert better.error < 0.4 * worse.error


def test_the_correlation_stays_precise_far_away():
    model, beta = Ising(lattices.square(32)), 0.3
    settings = {"sweeps": 500, "burn_in": 100, "chains": 16, "seed": 1}
    sampler = kernels.SwendsenWang(
        model, "swendsen_wang", beta, np.ones((16, 1024), dtype=np.int8), np.random.SeedSequence(2)
    )
    sampler.sweep(100)
    spins = [sampler.spins() for _ in range(500) if sampler.sweep(1)]
    plain = observables.correlation_estimates(np.stack(spins, axis=1), (32, 32))
    better = improved.correlation(model, beta=beta, **settings)
    assert all(abs(a.z(b)) < 4.5 for a, b in zip(better[1:], plain[1:], strict=True))
    assert better[10].error < 0.3 * plain[10].error
    assert better[10].mean > 5 * better[10].error  # seen, where the plain one is not
    assert plain[10].mean < 5 * plain[10].error


def test_threads_and_the_burn_in_of_the_pilot_do_not_matter():
    model = Ising(lattices.square(4))
    estimates = [improved.susceptibility(model, beta=0.3, seed=4, threads=n) for n in (1, 3)]
    assert estimates[0] == estimates[1]
    expected = exactly(model, 0.3, lambda s: 0.3 / 16 * s.sum(-1) ** 2.0)
    assert estimates[0].sigmas_from(expected) < 4.5
    assert math.isfinite(estimates[0].error)
    assert estimates[0].error > 0


def test_what_has_no_cluster_estimator_is_refused():
    square = lattices.square(4)
    with pytest.raises(ValueError, match="without a field only"):
        improved.susceptibility(Ising(square, h=0.1), beta=0.3)
    with pytest.raises(
        ValueError, match="no clusters in the update 'metropolis'; choose one of swendsen_wang"
    ):
        improved.susceptibility(Ising(square), beta=0.3, update="metropolis")
    with pytest.raises(ValueError, match="needs pbc=True"):
        improved.correlation(Ising(lattices.square(4, pbc=(True, False))), beta=0.3)
    with pytest.raises(ValueError, match="sweeps must be a whole number"):
        improved.correlation(Ising(square), beta=0.3, sweeps=0)

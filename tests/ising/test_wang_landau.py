"""Densities of states against enumeration, Beale and Kaufman, and their error bars.

The measure of accuracy is the largest |ln g − ln g_exact| / ln g_exact over all levels, with g normalised by
its two ground states. Limits in standard errors allow for errors that come from few walkers, by Student's t;
false alarms are below 1e-5 per test, on fixed seeds.
"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, t

from ising import exact, lattices, wang_landau
from ising.levels import Grid
from ising.model import Ising
from ising.wang_landau import DensityOfStates, density_of_states, stages

QUICK = {"walkers": 16, "sweeps": 20_000, "ln_f": 1e-3}
GLASS = torch.Generator().manual_seed(4)
SIGNS = 1.0 - 2.0 * (torch.rand(32, generator=GLASS) < 0.4)
MODELS = {
    "ferromagnet": Ising(lattices.square(4)),
    "field": Ising(lattices.square(4), h=0.5),
    "odd antiferromagnet": Ising(lattices.square(3), J=-0.7),
    "triangular": Ising(lattices.triangular(3), J=-1.0),
    "signs": Ising(lattices.square(4), J=0.3 * SIGNS),
    "open honeycomb": Ising(lattices.honeycomb(4, pbc=False), J=2.0, h=-3.0),
    "only fields": Ising(lattices.chain(5), J=0.0, h=[1.0, 1.0, 2.0, 2.0, -3.0]),
    "chain": Ising(lattices.chain(9)),
}


def counted(model: Ising) -> tuple[np.ndarray, np.ndarray]:
    """Energies and ln g by enumeration."""
    energies = model.energy(exact.states(model.lattice.n_sites)).round(decimals=9)
    levels, counts = energies.unique(return_counts=True)
    return levels.numpy(), counts.double().log().numpy()


def beale(L: int) -> tuple[np.ndarray, np.ndarray]:
    energies, counts = exact.beale_density_of_states(L, L)
    return np.array(energies, dtype=float), np.array([math.log(c) for c in counts])


def inaccuracy(found: DensityOfStates, energies: np.ndarray, ln_g: np.ndarray) -> float:
    np.testing.assert_allclose(found.energies, energies, atol=1e-9)
    return float((np.abs(found.anchored(2).ln_g - ln_g) / ln_g).max())


def agrees(found: DensityOfStates, energies: np.ndarray, ln_g: np.ndarray) -> bool:
    """All levels, in standard errors; 1e-6 for all of them together."""
    assert found.energies == pytest.approx(energies, abs=1e-9)
    limit = t.isf(0.5e-6 / len(ln_g), len(found.left_out) - 1)
    return bool((np.abs(found.ln_g - ln_g) < limit * found.error + 1e-9).all())


@pytest.mark.parametrize("name", MODELS)
def test_every_level_of_a_small_system(name):
    model = MODELS[name]
    found = density_of_states(model, **QUICK)
    assert agrees(found, *counted(model))
    assert np.exp(found.ln_g).sum() == pytest.approx(2.0**model.lattice.n_sites)
    assert found.error.max() < 0.1


def test_error_bars_are_as_large_as_the_errors():
    """Of 40 seeds: the sum of squared pulls of three far levels is inside of its band on both sides."""
    model, few = MODELS["odd antiferromagnet"], {"walkers": 32, "sweeps": 1_000, "ln_f": 1e-2}
    energies, ln_g = counted(model)
    pulls = []
    for seed in range(40):
        found = density_of_states(model, **few, seed=seed)
        np.testing.assert_allclose(found.energies, energies)
        pulls.append(((found.ln_g - ln_g) / found.error)[[0, len(energies) // 2, -1]])
    for sums in (np.array(pulls) ** 2).sum(0):
        assert chi2.ppf(1e-5, 40) < sums < 1.2 * chi2.isf(1e-5, 40)  # Student's t, not normal


def test_square_8_against_beale_and_kaufman():
    found = density_of_states(Ising(lattices.square(8)), sweeps=40_000, ln_f=1e-4, threads=2)
    assert inaccuracy(found, *beale(8)) < 0.005
    assert agrees(found, *beale(8))
    limit = t.isf(1e-6, 15)
    for beta in (0.1, 0.3, 0.44, 0.6):
        assert found.log_z(beta).sigmas_from(exact.kaufman_log_z(8, 8, beta)) < limit
        assert found.energy(beta).sigmas_from(exact.kaufman_energy(8, 8, beta)) < limit
        heat = found.specific_heat(beta)
        assert heat.sigmas_from(exact.kaufman_specific_heat(8, 8, beta)) < limit
        assert heat.error < 0.05 * heat.mean
    levels, p = exact.energy_distribution(8, 8, beta=0.44)
    assert np.abs(found.distribution(0.44) - p[np.isin(levels, found.energies)]).sum() < 0.02


@pytest.mark.slow
def test_square_16_within_half_a_percent_of_beale():
    """The default settings; about two minutes of CPU."""
    found = density_of_states(Ising(lattices.square(16)), threads=2)
    assert inaccuracy(found, *beale(16)) < 0.005
    assert agrees(found, *beale(16))
    for beta in (0.3, 0.44, 0.6):
        assert found.log_z(beta).sigmas_from(exact.kaufman_log_z(16, 16, beta)) < 6
        assert found.energy(beta).sigmas_from(exact.kaufman_energy(16, 16, beta)) < 6


# planted bugs


def test_weights_that_go_on_changing_while_they_are_measured(monkeypatch):
    """An increment that is not set to zero for the measurement makes any weights look right."""
    model, enter = MODELS["ferromagnet"], wang_landau.Walk.enter

    def leaky(walk, name):
        enter(walk, name)
        walk.state["ln_f"][:] = np.maximum(walk.state["ln_f"], 0.01)

    monkeypatch.setattr(wang_landau.Walk, "enter", leaky)
    assert not agrees(density_of_states(model, **QUICK), *counted(model))


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_weights_that_are_wrong_by_two_percent(monkeypatch, factor):
    """What the result says was the weight is not what the walk used."""
    model = MODELS["ferromagnet"]
    result = wang_landau.Walk.result

    def wrong(walk):
        walk.state["ln_g"] *= factor
        return result(walk)

    monkeypatch.setattr(wang_landau.Walk, "result", wrong)
    assert not agrees(density_of_states(model, **QUICK), *counted(model))


def test_a_symmetry_that_the_model_does_not_have(monkeypatch):
    model = MODELS["triangular"]

    class Folded(Grid):
        def __init__(self, model):
            super().__init__(model)
            self.bin_of = np.minimum(self.bin_of, self.bin_of[::-1])

    monkeypatch.setattr(wang_landau, "Grid", Folded)
    with pytest.raises(AssertionError):
        assert agrees(density_of_states(model, **QUICK), *counted(model))


# the walk


def test_the_increment_follows_the_clock():
    """Flips per level times the increment is 1 at the end of the learning; before, it only ever falls."""
    model, target = MODELS["ferromagnet"], 1e-4
    seen = [s for s in stages(model, walkers=4, sweeps=100, ln_f=target) if s.name == "learn"]
    increments = [s.ln_f for s in seen]
    assert increments == sorted(increments, reverse=True)
    last = seen[-1].state
    assert last["on_clock"].all()
    bins = last["seen"][0].sum()
    np.testing.assert_allclose(last["ln_f"], bins / (last["rounds"][0] * 16), rtol=1e-12)
    assert last["ln_f"].max() <= target


def test_visits_are_flat_and_counted_once():
    *_, last = stages(MODELS["field"], **QUICK)
    visits = last.state["visits"]
    assert (visits.sum(1) == last.state["rounds"][0] * max(16, visits.shape[1])).all()
    level = visits[:, last.state["seen"][0]].sum(0) / visits.sum() * last.state["seen"][0].sum()
    assert 0.7 < level.min() < level.max() < 1.4


def test_energies_of_the_walkers_are_those_of_their_spins():
    *_, last = stages(MODELS["open honeycomb"], **QUICK)
    grid = Grid(MODELS["open honeycomb"])
    expected = MODELS["open honeycomb"].energy(torch.from_numpy(last.state["spins"]))
    np.testing.assert_allclose(grid.energies[last.state["level"]], expected, rtol=1e-12)


def test_stopping_and_threads_do_not_change_a_byte():
    settings = {"walkers": 5, "sweeps": 3_000, "ln_f": 1e-2, "seed": 3}
    model = MODELS["ferromagnet"]
    whole = list(stages(model, **settings))
    assert list(dict.fromkeys(s.name for s in whole)) == ["explore", "learn", "settle", "measure"]
    assert [s.result is None for s in whole] == [True] * (len(whole) - 1) + [False]
    for first in whole[:-1:3]:
        *_, last = stages(model, **settings, resume=first)
        np.testing.assert_array_equal(last.result.ln_g, whole[-1].result.ln_g)
        np.testing.assert_array_equal(last.result.left_out, whole[-1].result.left_out)
    threaded = density_of_states(model, **settings, threads=3)
    np.testing.assert_array_equal(threaded.left_out, whole[-1].result.left_out)
    other = density_of_states(model, **settings | {"seed": 4})
    assert (other.ln_g != threaded.ln_g).any()
    with pytest.raises(ValueError, match="cannot resume"):
        stages(model, **settings | {"seed": 4}, resume=whole[0])


def test_a_level_that_is_found_late_starts_the_walk_anew():
    """A walk that is told it had explored, though it does not know the ground states."""
    model, settings = MODELS["ferromagnet"], {"walkers": 4, "sweeps": 3_000, "ln_f": 1e-2}
    explored = next(s for s in stages(model, **settings) if s.name == "explore" and s.fraction == 1)
    assert next(stages(model, **settings, resume=explored)).name == "learn"
    explored.state["seen"][:, 0] = False
    afterwards = list(stages(model, **settings, resume=explored))
    assert list(dict.fromkeys(s.name for s in afterwards)) == ["explore", "learn", "settle", "measure"]
    assert agrees(afterwards[-1].result, *counted(model))


@pytest.mark.parametrize(
    ("model", "settings", "named"),
    [
        (Ising(lattices.square(4), h=math.pi), {}, "no grid"),
        (Ising(lattices.square(4), J=torch.linspace(-1, 1, 32).exp()), {}, "no grid"),
        (Ising(lattices.square(4), J=0.0), {}, "all energies are zero"),
        (Ising(lattices.chain(2_000), h=1e-3), {}, "too many"),
        (MODELS["chain"], {"walkers": 1}, "at least 2 walkers"),
        (MODELS["chain"], {"ln_f": 1.0}, "between 0 and 1"),
        (MODELS["chain"], {"sweeps": 0}, "sweeps"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(model, settings, named):
    with pytest.raises(ValueError, match=named):
        density_of_states(model, **settings)


def test_a_measurement_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="take more sweeps"):
        density_of_states(Ising(lattices.square(8)), walkers=2, sweeps=1, ln_f=0.5)


def test_a_walk_that_does_not_get_everywhere_gives_up(monkeypatch):
    monkeypatch.setattr(wang_landau, "PATIENCE", 1)
    with pytest.raises(ValueError, match="too rugged"):
        density_of_states(Ising(lattices.square(8)), **QUICK)


def test_normalisation_by_the_ground_states():
    found = density_of_states(MODELS["chain"], **QUICK)
    anchored = found.anchored(2)
    assert anchored.ln_g[0] == pytest.approx(math.log(2))
    assert anchored.error[0] < 1e-12 < found.error[0]
    assert anchored.energy(0.5).mean == pytest.approx(found.energy(0.5).mean, rel=1e-12)
    difference = anchored.log_z(0.5).mean - found.log_z(0.5).mean
    assert difference == pytest.approx(anchored.ln_g[0] - found.ln_g[0])
    with pytest.raises(ValueError, match=r"4 ground states have ln g = .* and the walk found"):
        found.anchored(4)

"""Numbers that the workflows work out themselves, against ones worked out by hand."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ising import Estimate, Ising, exact, lattices
from ising.wang_landau import DensityOfStates
from physgen import models
from physgen.inverse import Couplings
from workflows import (
    _training,
    compare,
    density_of_states,
    diagnose,
    gaussian_rbm,
    hopfield_memory,
    info,
    inverse_ising,
    neural_sampler,
    phase_diagram,
    rbm_wavefunction,
    simulate,
    spin_glass,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "square4.h5"
    options = {"L": (4,), "beta": (0.3, 0.2), "samples": 20, "chains": 10, "burn_in": 20, "thin": 4}
    simulate.main(config=simulate.Config(**options, out=path, quiet=True))
    return path


def test_errors_are_those_between_chains_or_networks():
    values = np.random.default_rng(0).normal(size=(5, 7)) + np.arange(5)[:, None]
    mean, error = values.mean(), values.mean(1).std(ddof=1) / math.sqrt(5)
    by_chain = gaussian_rbm.chain_mean(torch.from_numpy(values))
    by_network = hopfield_memory.mean_and_error(values)
    for found in (by_chain, by_network):
        assert (found.mean, found.error) == (pytest.approx(mean), pytest.approx(error))
    each = gaussian_rbm.chain_mean(torch.from_numpy(values.ravel()))
    assert each.error == pytest.approx(values.std(ddof=1) / math.sqrt(35))


def test_a_machine_of_the_field_is_tested_on_chains_that_it_has_not_seen(monkeypatch):
    """The fields of each chain are its number."""
    fields, seen = torch.arange(10.0).double()[:, None, None].expand(10, 40, 9).clone(), {}

    class Seen(Exception):
        pass

    def likelihood(_, rows, *__):
        seen["test"] = set(rows.unique().tolist())
        raise Seen

    monkeypatch.setattr(gaussian_rbm, "hybrid_monte_carlo", lambda *_: (fields, 0.9))
    monkeypatch.setattr(
        gaussian_rbm, "trained", lambda _, rows, *__: seen.update(train=set(rows.unique().tolist()))
    )
    monkeypatch.setattr(gaussian_rbm, "likelihood", likelihood)
    config = gaussian_rbm.Config(L=3, chains=10, samples=40, batch=20)
    with pytest.raises(Seen):
        gaussian_rbm.interacting(config, gaussian_rbm.Phi4((3, 3), 0.5), torch.Generator())
    assert (len(seen["train"]), len(seen["test"]), seen["train"] & seen["test"]) == (8, 2, set())


def test_inferred_couplings_are_assessed_by_their_errors():
    J = np.triu(np.ones((4, 4)), 1)
    off = np.zeros((4, 4))
    off[np.triu_indices(4, 1)] = [0.1, -0.1, 0.3, 0.15, -0.19, 0.5]  # with errors 0.2: four within one
    J, off = J + J.T, off + off.T
    found = Couplings(J + off, np.array([0, 0.3, -0.4, 0]), np.full((4, 4), 0.2), np.full(4, 0.1), "exact")
    assessed = inverse_ising.assess(found, J, np.zeros(4))
    assert assessed["within_one_error"] == pytest.approx(4 / 6)
    assert assessed["largest_field_difference"] == pytest.approx(0.4)
    assert assessed["bonds_found"] == assessed["bonds"] == 6
    assert assessed["relative_error"] == pytest.approx(np.linalg.norm(off) / np.linalg.norm(J))


def test_a_diagnosis_counts_in_sweeps(data, tmp_path, monkeypatch):
    spacings = []
    for name in ("autocorrelation", "equilibration"):
        monkeypatch.setattr(diagnose.curves, name, lambda *args: spacings.append(args[-1]))
    diagnose.main(config=diagnose.Config(data, out=tmp_path / "a.png"))
    assert spacings == [4] * 6  # thin, of three panels at two temperatures


def test_the_exact_density_of_states_is_that_of_the_sign_of_J():
    """On the odd torus the antiferromagnet is frustrated, so the sign matters."""
    model = Ising(lattices.square(3), J=-2.0)
    energies, counts = model.energy(exact.states(9)).unique(return_counts=True)
    found = density_of_states.exact_ln_g(model, SimpleNamespace(energies=energies.numpy()))
    np.testing.assert_allclose(found, counts.double().log().numpy())


def test_the_density_of_states_is_normalised_as_asked(tmp_path, monkeypatch):
    g = DensityOfStates(
        np.array([-32.0, -24.0]), np.array([5.0, 7.0]), np.array([[5.0, 7.0], [5.1, 7.0]]), 16
    )
    monkeypatch.setattr(density_of_states, "walk", lambda *_: g)
    density_of_states.main(config=density_of_states.Config(L=(4,), ground_states=2, out=tmp_path / "g.csv"))
    found = np.loadtxt(tmp_path / "g.csv", delimiter=",", skiprows=1)[:, 1]
    np.testing.assert_allclose(found, math.log(2) + np.array([0.0, 2.0]))


def test_distances_have_a_density_and_walkers_do_not_adapt_while_they_are_averaged():
    r = np.random.default_rng(0).exponential(size=(50, 200))
    found = rbm_wavefunction.histogram(r)
    width = found["r"][1] - found["r"][0]
    assert sum(found["P"]) * width == pytest.approx(0.999, abs=1e-3)
    assert found["P"][0] == pytest.approx(1, rel=0.2)
    assert rbm_wavefunction.about(Estimate(-1.1, 0.1), -1.0)["relative_error"] == pytest.approx(-0.1)

    class Walkers:
        adapting = True

        def __next__(self):
            return torch.full((3, 2), float(self.adapting))

    config = rbm_wavefunction.Config(samples=4, quiet=True)
    assert not rbm_wavefunction.draws(config, Walkers()).any()


def test_training_and_held_out_chains(data, tmp_path, monkeypatch):
    """The first eight of ten chains are trained on; comparisons take those of the last two."""
    path, run = compare.matching_run({"model": Ising(lattices.square(4)).describe(), "beta": 0.2}, (data,))
    assert (path, run.beta) == (data, 0.2)
    config = _training.Training(data=data, beta=0.2)
    parts = _training.load(config)
    spins = torch.from_numpy(run.spins)
    assert torch.equal(parts.train.to(torch.int8), spins[:8].flatten(0, 1))
    assert torch.equal(parts.validation.to(torch.int8), spins[8:9].flatten(0, 1))
    (tmp_path / "config.json").write_text('{"model": {}, "beta": 0.2, "finished": true}')
    model = SimpleNamespace(recipe={"name": "made"})
    monkeypatch.setattr(compare.checkpoint, "load_model", lambda _: model)
    monkeypatch.setattr(compare, "matching_run", lambda *_: (data, run))
    monkeypatch.setattr(compare.compare, "against_samples", lambda *_, **options: options["held_out"])
    assert compare.compare_one(tmp_path, compare.Config()) == [8, 9]


@pytest.mark.parametrize(("h", "flips"), [(0.0, True), (0.1, False)])
def test_what_a_training_knows_of_the_hamiltonian(h, flips):
    model = Ising(lattices.square(4), J=-1.0, h=h)
    known = _training.Data(torch.ones(10, 16), torch.ones(2, 16), 0.3, model)
    config = _training.Training(steps=1000, average=0.3, batch=5)
    assert ("flip" in _training.batches_of(known, config).symmetries) == flips
    couplings = _training.couplings(known)
    assert couplings.sum() == pytest.approx(-0.3 * 2 * 32)
    assert couplings.count_nonzero() == 2 * 32
    assert _training.schedule(config)["average_from"] == 700


def test_a_phase_diagram_says_how_far_off_it_is():
    found = SimpleNamespace(
        values={"T_c": Estimate(2.3, 0.01)},
        statistical={"T_c": 0.008},
        systematic={"T_c": 0.006},
        p_values={"T_c": 0.25},
        crossings={(4, 8): Estimate(2.29, 0.02)},
    )
    row = phase_diagram.lines(found, {"T_c": 2.27})[1].split()
    assert row[:4] == ["T_c", "2.300(10)", "8.0e-03", "6.0e-03"]
    assert row[5:] == ["+1.322", "%", "+3.0", "0.25"]


def test_power_laws_are_drawn_with_the_exponents_of_what_they_show(monkeypatch):
    """nu = 0.8, so that 1/nu = 1.25, with error 0.01 / 0.8^2."""
    values = {"T_c": (2.3, 0.1), "nu": (0.8, 0.01), "beta/nu": (0.125, 0.002), "gamma/nu": (1.75, 0.003)}
    drawn = [Estimate(1.0, 0.1), Estimate(2.0, 0.1)]
    found = SimpleNamespace(
        values={name: Estimate(*value) for name, value in values.items()},
        at_critical=dict.fromkeys(("1/nu", "-beta/nu", "gamma/nu"), drawn),
    )
    seen = {}

    class Seen(Exception):
        pass

    def power_laws(_, __, rows):
        seen.update({name: (slope.mean, slope.error) for name, (_, slope) in rows.items()})
        raise Seen

    monkeypatch.setattr(phase_diagram.curves, "reweighted", lambda *_: None)
    monkeypatch.setattr(phase_diagram.curves, "power_laws", power_laws)
    monkeypatch.setattr(phase_diagram.Figure, "savefig", lambda *_, **__: None)
    with pytest.raises(Seen):
        phase_diagram.draw(Path(), {}, found)
    expected = [(1.25, 0.015625), (-0.125, 0.002), (1.75, 0.003)]
    assert list(seen.values()) == [pytest.approx(pair) for pair in expected]


def test_the_first_tenth_of_neural_chains_is_left_out(monkeypatch, tmp_path):
    """All up in the first of ten samples, energy -2 per site, and later chequered, energy +2."""
    target = Ising(lattices.square(4))
    chequered = target.lattice.staggering.expand(2, 10, 16).clone()
    chequered[:, 0] = 1
    made = neural_sampler.importance.Chains(chequered, 0.5)
    monkeypatch.setattr(neural_sampler.importance, "metropolis", lambda *_, **__: made)
    config = neural_sampler.Config(L=(4,), beta=0.1, samples=200, chains=2, clusters=False, out=tmp_path)
    found = neural_sampler.results(config, models.build("fvbn", (4, 4)), target, 0.1)[0]
    assert found["observables"]["energy"]["metropolis"]["mean"] == pytest.approx(2.0)


def test_a_glass_is_summed_up(monkeypatch):
    """Two chains of four samples, whose overlap is 0 at first and then 1/2."""
    q = np.array([[0, 0, 0.5, 0.5]] * 2)
    a, b = (
        SimpleNamespace(energies=np.full((2, 4), E), spins=np.ones((2, 4, 16), np.int8)) for E in (-16, -8)
    )
    ladder = SimpleNamespace(
        runs=[a], partners=[b], overlaps=[q], exchange_rates=np.ones(0), round_trip_time=9.0
    )
    monkeypatch.setattr(spin_glass.tempering, "simulate", lambda *_, **__: ladder)
    glass = Ising(lattices.square(4))
    found = spin_glass.simulate(spin_glass.Config(), glass, [1.0])
    assert found.energy[0].mean == -0.75
    assert (found.q2[0], found.drift[0], found.link[0]) == (0.125, 0.25, 1.0)
    assert found.histogram[0, [4, 8, 12]].tolist() == [0.25, 0.5, 0.25]


def test_the_identity_of_gaussian_couplings_is_that_of_the_link_overlap():
    """U = -beta B (1 - q_l) per site, B = 2: nothing is left where it holds in every sample."""
    lattice, betas = lattices.square(4), [1.0, 0.5]
    samples = []
    for link in ([0.5, 0.3], [0.6, 0.4], [0.4, 0.1]):
        energy = [Estimate(-2 * beta * (1 - q), 0.1) for beta, q in zip(betas, link, strict=True)]
        none = np.zeros(2)
        samples.append(
            spin_glass.Sample(energy, none, none, np.array(link), np.ones((2, 17)) / 17, np.ones(1), 9.0)
        )
    found = spin_glass.averaged(samples, betas, lattice, "gaussian")["equilibrium"]["identity"]
    assert np.abs(found).max() < 1e-6


def test_info_marks_a_run_that_is_short_for_its_slower_observable():
    about = {
        "name": "/runs/0003",
        "update": "wolff",
        "chains": 2,
        "burn_in": 0,
        "thin": 1,
        "seed": 1,
        "beta": 0.5,
    }
    for samples, mark in ((60, "*"), (400, "")):
        estimates = {"energy": Estimate(-1.0, 0.1, 1.0), "abs_m": Estimate(0.5, 0.1, 7.0)}
        assert f"7.00{mark}" in info._row(about | estimates | {"samples": samples})

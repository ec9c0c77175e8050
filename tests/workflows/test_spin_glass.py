"""The spin glass workflow against enumeration.

|z| < 4.5 is a false alarm of 7e-6, 36 of them on fixed seeds.
"""

import functools
import json

import numpy as np
import pytest

from ising import exact, glasses, lattices
from ising.stats import Estimate
from workflows import spin_glass

QUICK = {"L": (4,), "disorder": (3, 4, 5), "chains": 16, "burn_in": 100, "thin": 2, "quiet": True}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By glass, what the workflow wrote."""
    results = {}
    for glass, samples in (("bimodal", 200), ("gaussian", 60)):
        out = tmp_path_factory.mktemp(glass)
        config = spin_glass.Config(
            **QUICK, glass=glass, samples=samples, temperatures=(0.4, 0.7, 1.0, 1.5, 2.2, 3.0), out=out
        )
        spin_glass.main(config=config)
        results[glass] = json.loads((out / "results.json").read_text())
        assert (out / "spin_glass.png").read_bytes().startswith(b"\x89PNG")
    return results


@pytest.mark.parametrize("glass", ["bimodal", "gaussian"])
def test_energies_at_every_temperature_are_the_enumerated_ones(found, glass):
    result = found[glass]
    for seed, energies in zip(QUICK["disorder"], result["samples"], strict=True):
        model = getattr(glasses, glass)(lattices.square(4), seed)
        for T, energy in zip(result["temperatures"], energies, strict=True):
            assert Estimate(**energy).sigmas_from(exact.known(model, 1 / T)["energy"]) < 4.5
    means = np.mean([[e["mean"] for e in energies] for energies in result["samples"]], axis=0)
    np.testing.assert_allclose(result["energy_per_site"]["mean"], means)


def test_the_overlap_distribution_is_that_of_the_squares(found):
    """On 16 sites every overlap has a bin of width 1/8."""
    for result in found.values():
        q, P = np.array(result["overlap_distribution"]["q"]), result["overlap_distribution"]["P"]
        mean = np.array(P["mean"])
        np.testing.assert_allclose(q, np.arange(-8, 9) / 8)
        np.testing.assert_allclose(mean, mean[:, ::-1])
        np.testing.assert_allclose(mean.sum(1) / 8, 1)
        np.testing.assert_allclose(mean @ q**2 / 8, result["q2"]["mean"])
        assert np.all(np.diff(result["q2"]["mean"]) < 0)
        assert np.shape(P["error"]) == (6, 17)


def test_wider_bins_are_symmetric_and_densities():
    for N in (99, 144):
        shares = np.random.default_rng(1).random(N + 1)
        q, P = spin_glass.binned(shares + shares[::-1])
        assert 30 < len(q) <= spin_glass.BINS
        np.testing.assert_allclose(q, -q[::-1], atol=1e-12)
        np.testing.assert_allclose(P, P[::-1])
        flat = np.full(N + 1, 1 / (N + 1))
        np.testing.assert_allclose(spin_glass.binned(flat)[1], N / (2 * (N + 1)))


def test_few_samples_are_not_taken_for_a_drift():
    """Of normal values 4.6 % are beyond two sigmas, however few there are; of Student's t of 2, 18 %."""
    values = np.random.default_rng(1).normal(size=(3, 10_000))
    assert 0.04 < (np.abs(spin_glass.sigmas(values)) > 2).mean() < 0.053


def test_gaussian_couplings_are_checked_by_their_identity(found):
    assert found["bimodal"]["equilibrium"].keys() == {"drift"}
    checks = found["gaussian"]["equilibrium"]
    assert checks.keys() == {"drift", "identity"}
    assert np.shape(list(checks.values())) == (2, 6)


def test_the_ladder_is_chosen_where_none_is_given():
    config = spin_glass.Config(**QUICK, between=(0.5, 2.0))
    betas = spin_glass.ladder_of(config, lattices.square(4))
    assert (betas[0], betas[-1]) == (2.0, 0.5)
    assert (np.diff(betas) < 0).all()


def test_a_stopped_command_goes_on_with_the_samples_that_are_missing(tmp_path, monkeypatch):
    options = QUICK | {"samples": 20, "temperatures": (0.5, 1.0)}
    whole, parts = (spin_glass.Config(**options, out=tmp_path / name) for name in ("whole", "parts"))
    spin_glass.main(config=whole)
    made = []

    def simulate(config, glass, betas, stop=2):
        if len(made) == stop:
            raise KeyboardInterrupt
        made.append(glass)
        return original(config, glass, betas)

    original = spin_glass.simulate
    monkeypatch.setattr(spin_glass, "simulate", simulate)
    with pytest.raises(KeyboardInterrupt, match="the same command continues"):
        spin_glass.main(config=parts)
    monkeypatch.setattr(spin_glass, "simulate", functools.partial(simulate, stop=None))
    spin_glass.main(config=parts)
    assert len(made) == len(QUICK["disorder"])
    one, other = (json.loads((config.out / "results.json").read_text()) for config in (whole, parts))
    one["config"]["out"] = other["config"]["out"]
    assert one == other
    assert {path.name for path in parts.out.iterdir()} == {"results.json", "spin_glass.png"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disorder": (1,)}, "--disorder needs at least two different seeds"),
        ({"disorder": (1, 1)}, "--disorder needs at least two different seeds"),
        ({"temperatures": (1.0,)}, "--temperatures needs at least two different ones"),
        ({"houdayer": 0}, "--houdayer must be a whole number >= 1, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        spin_glass.Config(**options)

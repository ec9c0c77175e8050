"""Runs as labelled arrays, and ArviZ's own diagnostics on them against ours."""

import json
import sys

import numpy as np
import pytest
import xarray
from arviz_stats.base import array_stats
from scipy.signal import lfilter

from ising import Ising, Run, lattices, simulate, stats
from ising.export import inference_data

MODEL = Ising(lattices.rectangular(4, 6))


@pytest.fixture(scope="module")
def run():
    return simulate(MODEL, beta=0.3, samples=7, burn_in=20, thin=3, chains=5, seed=2**70)


def test_the_first_sample_is_one_thinning_after_the_burn_in():
    """As two runs show whose samples meet after 26 sweeps."""
    options = {"beta": 0.3, "chains": 5, "seed": 1, "samples": 2}
    early, late = (
        simulate(MODEL, **options, burn_in=burn_in, thin=thin) for burn_in, thin in ((20, 3), (0, 26))
    )
    np.testing.assert_array_equal(early.bits[:, 1], late.bits[:, 0])
    sweeps = [inference_data(run)["posterior"]["sweep"].values for run in (early, late)]
    assert sweeps[0][1] == sweeps[1][0] == 26


def test_every_value_has_its_place(run):
    tree = inference_data(run)
    posterior = tree["posterior"]
    assert dict(posterior.sizes) == {"chain": 5, "draw": 7, "x": 4, "y": 6}
    assert posterior["sweep"].values.tolist() == [23, 26, 29, 32, 35, 38, 41]
    np.testing.assert_array_equal(posterior["spins"].values.reshape(5, 7, 24), run.spins)
    np.testing.assert_array_equal(posterior["spins"].sum(["x", "y"]), posterior["magnetisation"])
    np.testing.assert_array_equal(posterior["e"] * 24, run.energies)
    np.testing.assert_array_equal(posterior["abs_m"], np.abs(run.magnetisations) / 24)
    assert {name: posterior[name].attrs["units"] for name in ("energy", "m")} == {"energy": "J", "m": "1"}
    assert json.loads(tree.attrs["model"]) == run.model
    assert json.loads(tree.attrs["provenance"]) == run.provenance
    assert (tree.attrs["beta"], tree.attrs["seed"]) == (0.3, str(2**70))
    assert "spins" not in inference_data(run, spins=False)["posterior"]


def test_netcdf_round_trip(run, tmp_path):
    tree = inference_data(run)
    tree.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xarray.open_datatree(tmp_path / "run.nc", engine="h5netcdf") as back:
        xarray.testing.assert_equal(back["posterior"].to_dataset(), tree["posterior"].to_dataset())
        assert back["posterior"]["spins"].dtype == np.int8
        assert json.loads(back.attrs["model"]) == run.model


def correlated(shift=0.0):
    """A run whose energies are AR(1) series with tau = 4.5; the last chain is shifted."""
    rng = np.random.default_rng(0)
    energies = lfilter([1], [1, -0.8], rng.normal(size=(8, 2000)))
    energies[-1] += shift
    bits = np.zeros((8, 2000, 3), dtype=np.uint8)
    head = {"model": MODEL.describe(), "shape": (4, 6), "beta": 0.3, "update": "none", "seed": 0}
    return Run(
        **head, burn_in=0, thin=1, bits=bits, energies=energies, magnetisations=energies, provenance={}
    )


def test_arviz_finds_our_effective_sample_size():
    """Its initial-sequence window and ours differ by a few per cent of noise."""
    run = correlated()
    values = inference_data(run, spins=False)["posterior"]["energy"].values
    ours = values.size / (2 * stats.tau_int(run.energies))
    assert array_stats.ess(values, method="mean") == pytest.approx(ours, rel=0.1)
    assert ours == pytest.approx(values.size / 9, rel=0.15)
    error = stats.mean(run.energies).error
    assert array_stats.mcse(values, method="mean") == pytest.approx(error, rel=0.06)


def test_arviz_rhat_tells_a_chain_apart():
    assert array_stats.rhat(inference_data(correlated())["posterior"]["energy"].values) < 1.01
    assert array_stats.rhat(inference_data(correlated(shift=3.0))["posterior"]["energy"].values) > 1.05


def test_a_missing_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"physgen\[stats\]"):
        inference_data(run)

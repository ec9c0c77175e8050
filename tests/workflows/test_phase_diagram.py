"""What `physgen phase_diagram` promises: exact critical points and exponents, resumed runs, refusals.

The slow tests ask each result to lie within 4 standard errors of the exact value (false alarm 6e-5 each; the
corrections to scaling left are below one) and within the stated share of it.
"""

import csv
import json

import numpy as np
import pytest

from ising import exact, store
from workflows import phase_diagram
from workflows.phase_diagram import Config

SMALL = Config.SMOKE | {"samples": 100, "resamples": 60}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phase")
    phase_diagram.main(config=Config(**SMALL, out=folder))
    return folder


def test_results_tables_and_pictures(folder):
    about = json.loads((folder / "results.json").read_text())
    found, known = about["results"], about["known"]
    for name in known:
        assert abs(found[name]["mean"] - known[name]) < 4.5 * found[name]["error"], name
        parts = found[name]["statistical_error"], found[name]["systematic_error"]
        assert found[name]["error"] == pytest.approx(np.hypot(*parts)), name
        assert min(parts) > 0, name
    assert [c["sizes"] for c in about["u4_crossings"]] == [[4, 8], [8, 12]]
    for name in ("curves.csv", "points.csv"):
        rows = list(csv.DictReader((folder / name).read_text().splitlines()))
        assert {row["L"] for row in rows} == {"4", "8", "12"}
        for row in rows:
            C = exact.kaufman_specific_heat(int(row["L"]), int(row["L"]), 1 / float(row["T"]))
            assert abs(float(row["specific_heat"]) - C) < 4.5 * float(row["specific_heat_error"])
    assert {path.stem for path in folder.glob("*.png")} == {"observables", "scaling", "collapse"}


def simulated(folder, **options):
    """The simulations of `main`, without the analysis."""
    config = Config(**SMALL | options, out=folder)
    for L in config.L:
        phase_diagram.simulate_missing(config, L, phase_diagram.temperatures(config, L, inverse_nu=1.0))
    return {path.name: path.read_bytes() for path in folder.glob("*.h5")}


def test_a_second_run_does_only_what_is_missing(folder):
    before = {path.name: path.read_bytes() for path in folder.glob("*.h5")}
    assert simulated(folder) == before
    assert simulated(folder, points=5).keys() == before.keys()
    for name in before:
        assert len(store.betas(folder / name)) == 5
        assert len({run.energies.sum() for run in store.runs(folder / name)}) == 5
    for other in ({"samples": 30}, {"update": "swendsen_wang"}):
        with pytest.raises(ValueError, match="choose another --out"):
            simulated(folder, **other)


def test_wrong_options_are_refused(tmp_path):
    for options, named in (
        ({"L": (8, 16)}, "three sizes"),
        ({"lattice": "chain"}, "--lattice"),
        ({"width": -1.0}, "--width"),
        ({"points": 1}, "--points"),
        ({"around": 0.0}, "--around"),
        ({"around": -1.0}, "--around"),
    ):
        with pytest.raises(ValueError, match=named):
            Config(**options, out=tmp_path)
    with pytest.raises(ValueError, match="T = 0"):
        phase_diagram.main(config=Config(**SMALL | {"width": 5.0}, out=tmp_path))
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lattice", "L"),
    [
        ("square", (8, 12, 16, 24, 32, 48, 64)),
        ("triangular", (8, 12, 16, 24, 32)),
        ("cubic", (6, 8, 12, 16)),
    ],
)
def test_critical_points_and_exponents(lattice, L, tmp_path):
    phase_diagram.main(config=Config(lattice=lattice, L=L, out=tmp_path, seed=2, quiet=True))
    about = json.loads((tmp_path / "results.json").read_text())
    share = {"T_c": 0.001, "nu": 0.02, "beta/nu": 0.02, "gamma/nu": 0.02}
    for name, exactly in about["known"].items():
        found = about["results"][name]
        off = abs(found["mean"] - exactly)
        assert off < 4 * found["error"], name
        if lattice == "square":
            assert off < share[name] * exactly, name
        assert found["p_value"] > 1e-4, name
        assert np.isfinite(found["error"]), name

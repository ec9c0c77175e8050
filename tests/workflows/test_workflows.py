"""Every workflow runs end to end in seconds on its SMOKE settings; a new one is found by itself."""

import dataclasses
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from ising import Estimate, store
from workflows import simulate

NAMES = sorted(p.stem for p in Path(simulate.__file__).parent.glob("[a-z]*.py"))
TRAINERS = [name for name in NAMES if name.startswith("train_")]
OWN = ["phase_diagram", "spin_glass"]  # run in test files of their own
OTHERS = [name for name in NAMES if name not in TRAINERS + OWN]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "square4.h5"
    options = {"L": (4,), "beta": (0.3,), "samples": 20, "chains": 16, "burn_in": 20, "thin": 4}
    simulate.main(config=simulate.Config(**options, out=path, quiet=True))
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    module = importlib.import_module("workflows.train_autoregressive")
    module.main(config=module.Config(**module.Config.SMOKE, data=data, out=folder / "made"))
    return folder


@pytest.mark.parametrize("name", TRAINERS)
def test_training(name, data, tmp_path):
    module = importlib.import_module(f"workflows.{name}")
    module.main(config=module.Config(**module.Config.SMOKE, data=data, out=tmp_path / "model"))
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    assert about["finished"]
    assert about["beta"] == 0.3
    records = [json.loads(line) for line in (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4]
    if name == "train_rbm":
        assert all(-0.8 < record["log_likelihood"] < -0.4 for record in records)  # nats per site
        assert all(record["gap"] != 0 for record in records)  # of two different sets


@pytest.mark.filterwarnings("ignore::ising.stats.ChainTooShort")  # the demo is
@pytest.mark.parametrize("name", OTHERS)
def test_other(name, data, trained, tmp_path, capsys):
    module = importlib.import_module(f"workflows.{name}")
    options = {
        "simulate": {"out": tmp_path / "a.h5"},
        "info": {"file": data},
        "export": {"file": data, "out": tmp_path / "a.npz"},
        "compare": {"runs": trained, "data": (data,), "report": tmp_path / "report.html", "workers": 2},
        "demo": {"out": tmp_path, "workers": 1},
        "diagnose": {"file": data, "out": tmp_path / "a.png"},
        "density_of_states": {"out": tmp_path / "g.csv"},
        "sweep": {"out": tmp_path / "sweep"},
        "rbm_wavefunction": {"out": tmp_path},
        "gaussian_rbm": {"out": tmp_path},
        "torlai_melko": {"out": tmp_path},
        "hopfield_memory": {"out": tmp_path},
        "inverse_ising": {"data": data, "out": tmp_path},
        "neural_sampler": {"out": tmp_path},
        "free_energy": {"out": tmp_path},
        "wavenet_chain": {"out": tmp_path},
        "characters": {"text": Path(__file__), "out": tmp_path},
    }[name]
    module.main(config=module.Config(**getattr(module.Config, "SMOKE", {}), **options))
    shown = capsys.readouterr().out
    match name:
        case "simulate":
            assert store.betas(tmp_path / "a.h5") == [0.3]
        case "info":
            assert "square 4 x 4" in shown
        case "export":
            assert (tmp_path / "a.npz").exists()
        case "diagnose":
            assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        case "density_of_states":
            energies, ln_g, errors = np.loadtxt(tmp_path / "g.csv", delimiter=",", skiprows=1, unpack=True)
            assert energies[:3].tolist() == [-32.0, -24.0, -20.0]
            assert np.exp(ln_g).sum() == pytest.approx(2**16)
            assert (errors > 0).all()
            assert (tmp_path / "g.png").exists()
        case "compare":
            assert "MADE" in shown
            assert "MADE" in (tmp_path / "report.html").read_text()
        case "sweep":
            assert store.betas(tmp_path / "sweep" / "square-L4.h5") == [0.3, 0.4]
        case "gaussian_rbm":
            kl = json.loads((tmp_path / "results.json").read_text())["free"]["kl_from_the_free_field"]
            assert 0 < kl["8"] < kl["1"]
            results = json.loads((tmp_path / "results.json").read_text())
            assert results["free"]["expected_kl_of_a_full_covariance"] == 9 * 10 / (4 * 200)
            law = results["mixture"]
            assert law["kl"][0] == pytest.approx(law["true_law"][0] - law["log_likelihood"][0], abs=1e-4)
            entropy = math.log(3) + math.log(2 * math.pi * math.e * 0.5**2)  # but for a little overlap
            assert abs(law["true_law"][0] + entropy) < 0.02 + 4.5 * law["true_law"][1]
            assert all((tmp_path / f"{figure}.png").exists() for figure in ("mixture", "phi4", "free"))
        case "torlai_melko":
            cells = json.loads((tmp_path / "results.json").read_text())["cells"]
            assert [(cell["temperature"], cell["hidden"]) for cell in cells] == [
                (2, 1),
                (2, 2),
                (3, 1),
                (3, 2),
            ]
            assert len(list((tmp_path / "cells").iterdir())) == 4
            for cell in cells:
                known = cell["exact"]["energy"]
                assert Estimate(*cell["monte_carlo"]["energy"]).sigmas_from(known) < 4.5
                assert f"{100 * (cell['machine']['energy'][0] - known) / known:+7.1f}%" in shown
            assert (tmp_path / "hidden.png").exists()
        case "neural_sampler":
            found = json.loads((tmp_path / "results.json").read_text())
            free = found["beta_f"]
            above = free["variational"]["mean"] - free["exact"]
            assert 0 < above < 0.5
            assert found["reverse_kl"]["mean"] == pytest.approx(above)
            for value in found["observables"].values():
                assert Estimate(**value["weights"]).sigmas_from(value["exact"]) < 4.5
            assert (tmp_path / "neural_sampler.png").exists()
        case "free_energy":
            points = json.loads((tmp_path / "results.json").read_text())["points"]
            assert [round(point["temperature"], 3) for point in points] == [2.0, 2.667, 3.333]
            for point in points:  # |z| < 4.5: 2e-5 for each of three quantities, fixed seed
                assert all(abs(point[name]["z"]) < 4.5 for name in ("free_energy", "energy", "specific_heat"))
                bound, error = point["variational"]["mean"], point["variational"]["error"]
                assert 0 < (bound - point["free_energy"]["exact"] + 4.5 * error) < 0.5
            assert (tmp_path / "free_energy.png").read_bytes().startswith(b"\x89PNG")
        case "wavenet_chain":
            found = json.loads((tmp_path / "results.json").read_text())
            assert [cell["receptive_field"] for cell in found["chains"]] == [1, 1, 4]
            assert found["series"]["generated"]["tau"][0] > 0.5
            assert (tmp_path / "wavenet_chain.png").read_bytes().startswith(b"\x89PNG")
        case "characters":
            found = json.loads((tmp_path / "results.json").read_text())
            assert found["sentences"]["the spins"]["log_prob"] < 0
            assert (tmp_path / "characters.png").read_bytes().startswith(b"\x89PNG")
        case "rbm_wavefunction":
            found = json.loads((tmp_path / "results.json").read_text())
            assert found["exact"] == 3.0
            assert 2.9 < found["energy"]["mean"] < 3.6
            mean = {name: part["mean"] for name, part in found["parts"].items()}
            virial = 2 * mean["kinetic"] - 2 * mean["harmonic"] + mean["repulsion"]
            assert mean["virial"] == pytest.approx(virial)
            assert (tmp_path / "wavefunction.png").read_bytes().startswith(b"\x89PNG")
        case "hopfield_memory":
            assert "curves of N = 60, 300 " in shown
            assert json.loads((tmp_path / "results.json").read_text())["crossings"].keys() == {"60, 300"}
            assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")
        case "inverse_ising":
            result = json.loads((tmp_path / "results.json").read_text())
            assert result["bonds"] == 32
            assert result["relative_error"] < 1
            bonds = [
                J for J, true in zip(*(result["pairs"][x] for x in ("J", "J_true")), strict=True) if true
            ]
            assert 0.6 < np.mean(bonds) < 1.4  # J = 1 from 320 configurations; times beta it would be 0.3
            assert (tmp_path / "inverse_ising.png").read_bytes().startswith(b"\x89PNG")
        case "demo":
            page = (tmp_path / "report.html").read_text()
            for model in ("MADE", "RBM", "VAE", "DCGAN", "Monte Carlo, half vs half"):
                assert model in page
            for title in ("4 × 4", "T = 2.269"):
                assert title in page


def test_every_command_has_a_test_and_a_docstring_with_an_example():
    for name in NAMES:
        doc = importlib.import_module(f"workflows.{name}").__doc__ or ""
        assert "Example:" in doc, name
        assert all(len(line) <= 80 for line in doc.splitlines()[1:]), name


def test_configurations_survive_from_simulation_to_training(data):
    """What a model is fed is what the simulator drew: energies recomputed from the labels' spins."""
    from ising.model import restore

    model = restore(**next(store.runs(data)).model)
    part = store.Configurations(data, split="train")
    assert (model.energy(part.spins) == part.energy).all()
    assert (part.spins.sum(-1) == part.magnetisation).all()


def test_a_smoke_setting_is_an_option():
    for name in NAMES:
        config = importlib.import_module(f"workflows.{name}").Config
        fields = {field.name for field in dataclasses.fields(config)}
        assert set(getattr(config, "SMOKE", {})) <= fields, name

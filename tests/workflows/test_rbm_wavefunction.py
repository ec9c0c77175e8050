"""The command: resumed bits, Ctrl-C, refusals, and what it writes."""

import json

import pytest

from workflows import rbm_wavefunction
from workflows.rbm_wavefunction import Config, main

SMALL = Config.SMOKE | {"steps": 6, "every": 3, "samples": 10, "walkers": 40}
CHAIN = SMALL | {"system": "chain", "sites": 5}


def results(folder):
    found = json.loads((folder / "results.json").read_text())
    return {name: found[name] for name in found if name not in ("config", "provenance")}


@pytest.mark.parametrize("options", [SMALL | {"jastrow": True}, CHAIN], ids=["trap", "chain"])
def test_ctrl_c_says_what_is_safe_and_resume_gives_the_same_bits(options, tmp_path, monkeypatch, capsys):
    main(config=Config(**options, out=tmp_path / "whole"))
    shown = capsys.readouterr().out
    assert "exact" in shown

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(rbm_wavefunction, "averages", stop)
    with pytest.raises(KeyboardInterrupt, match=r"safe in .* continue with"):
        main(config=Config(**options, out=tmp_path / "parts"))
    monkeypatch.undo()
    main(config=Config(**options, out=tmp_path / "parts", resume=True))
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_an_enumerated_chain_is_exact(tmp_path):
    options = CHAIN | {"sampler": "enumerate", "steps": 60, "hidden": 2}
    main(config=Config(**options, out=tmp_path))
    found = results(tmp_path)
    assert -1e-12 < found["relative_error"] < 2e-3
    assert found["energy"]["error"] == 0.0
    assert found["correlation"][1]["mean"] == pytest.approx(found["exact_correlation"][1], abs=0.02)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sites": 8}, "--sites is an option of --system chain"),
        ({"system": "chain", "jastrow": True}, "--jastrow is an option of --system trap"),
        ({"sampler": "enumerate"}, "does not fit"),
        ({"system": "chain", "sampler": "langevin"}, "does not fit"),
        ({"jastrow": True, "repulsion": False}, "repel each other"),
        ({"lr": 0.0}, "--lr"),
        ({"average": 1.0}, "--average"),
        ({"walkers": 1}, "at least 2"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Config(**options)

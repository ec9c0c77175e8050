"""Deep belief nets end to end: phases as labels, digits from files, a stop at any checkpoint."""

import json
import warnings

import numpy as np
import pytest
import torch

from ising import Ising, lattices, simulate, store
from physgen import checkpoint
from physgen.ais import UnevenWeights
from tests.physgen.test_digits import idx
from workflows import compare, train_dbn

SMALL = {"hidden": (6, 16), "steps": 3, "updown": 3, "finetune": 3, "every": 2, "batch": 16, "quiet": True}


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    path = tmp_path_factory.mktemp("phases") / "square4.h5"
    for T in (1.5, 3.5):
        run = simulate(
            Ising(lattices.square(4)), beta=1 / T, samples=20, chains=20, burn_in=20, thin=2, seed=1
        )
        store.append(path, run)
    return path


def records(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("trainer", ["cd", "pcd"])
def test_stop_and_resume_give_the_same_bits_in_every_stage(phases, tmp_path, monkeypatch, trainer):
    """Ctrl-C at one checkpoint of each stage, before it is written: what was done since is done again."""
    monkeypatch.setattr(train_dbn._dbn_plots, "draw", lambda *_: None)
    options = SMALL | {"data": phases, "trainer": trainer, "chains": 8}
    train_dbn.main(config=train_dbn.Config(**options, out=tmp_path / "whole"))
    save, interrupts = checkpoint.save, {4, 8, 10}

    def interrupted(*args, at):
        if at in interrupts:
            interrupts.remove(at)
            raise KeyboardInterrupt
        return save(*args, at=at)

    monkeypatch.setattr(checkpoint, "save", interrupted)
    for again in (False, True, True):
        with pytest.raises(KeyboardInterrupt, match="physgen"):
            train_dbn.main(config=train_dbn.Config(**options, out=tmp_path / "parts", resume=again))
    monkeypatch.setattr(checkpoint, "save", save)
    train_dbn.main(config=train_dbn.Config(**options, out=tmp_path / "parts", resume=True))
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    one, two = (checkpoint.load_model(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    first, second = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts")
    )
    assert first == second


def test_phases_are_told_apart_and_comparison_leaves_them_out(phases, tmp_path, capsys):
    """T = 1.5 and 3.5: few errors on 80 unseen configurations, where chance makes 40 and this seed 10."""
    options = SMALL | {"steps": 100, "updown": 50, "finetune": 100, "every": 1000, "lr": 0.2}
    options["finetune_lr"] = 0.03
    train_dbn.main(config=train_dbn.Config(**options, data=phases, out=tmp_path / "phases"))
    shown = capsys.readouterr().out
    test = json.loads((tmp_path / "phases" / "results.json").read_text())["test"]
    assert test["DBN after fine-tuning"]["wrong"] <= 20
    assert "640 for train, 80 for validation, 80 for test" in shown
    assert all(name in shown for name in ("logistic regression, RBM features", "fine-tuning cost"))
    for figure in ("bound", "phases_updown", "confusion_finetuning", "samples_updown"):
        assert (tmp_path / "phases" / f"{figure}.png").exists()
    with pytest.raises(ValueError, match="holds no trained model"):
        compare.main(
            config=compare.Config(runs=tmp_path, data=(phases,), report=tmp_path / "a.html", quiet=True)
        )


def test_digits_from_files(tmp_path, monkeypatch):
    monkeypatch.setattr(train_dbn._dbn_plots, "draw", lambda *_: None)
    random = np.random.default_rng(0)
    for name, n in (("train", 80), ("t10k", 20)):
        images, labels = random.integers(0, 256, (n, 28, 28)), np.arange(n) % 10
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(images.astype(np.uint8)))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnevenWeights)
        train_dbn.main(config=train_dbn.Config(**SMALL, digits=tmp_path, out=tmp_path / "run"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["rows"] == {"train": 70, "validation": 10, "test": 20}
    low, high = results["test"]["DBN after up-down"]["interval_95"]
    assert 0 <= low < results["test"]["DBN after up-down"]["rate"] < high <= 1
    moved = results["changed_by_finetuning"]["weights"]
    assert moved.keys() == {"recognition.0.weight", "machines.1.W"}
    assert all(0 < change["relative_change"] < 1 for change in moved.values())


def test_refuses_in_words(phases, tmp_path):
    with pytest.raises(ValueError, match="exclude each other"):
        train_dbn.Config(data=phases, digits=tmp_path)
    with pytest.raises(ValueError, match="at least one layer"):
        train_dbn.Config(hidden=())
    with pytest.raises(ValueError, match="holds neither train-images"):
        train_dbn.main(config=train_dbn.Config(**SMALL, digits=tmp_path, out=tmp_path / "run"))

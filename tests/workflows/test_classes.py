"""Digits given their class: told apart by Bayes, scored as the mixture, drawn."""

import json
import math

import numpy as np
import pytest
import torch

from tests.physgen.test_digits import idx
from workflows import _classes, train_autoregressive

SMALL = {"model": "gated_pixelcnn", "steps": 4, "every": 2, "batch": 4, "width": 4, "depth": 1, "levels": 4,
         "by_class": True, "quiet": True}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Digits whose class is the row of their only white pixel; in every tenth it is another row."""
    for name, n in (("train", 200), ("t10k", 40)):
        images, labels = np.zeros((n, 28, 28), np.uint8), np.arange(n) % 10
        rows = np.where(np.arange(n) // 10 % 10 == 3, (labels + 1) % 10, labels)
        images[np.arange(n), rows, 14] = 255
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))
    return tmp_path


def test_classes_are_told_apart_and_drawn(folder, capsys):
    config = train_autoregressive.Config(**SMALL, digits=folder, out=folder / "run")
    train_autoregressive.main(config=config)
    found = json.loads((folder / "run" / "results.json").read_text())
    assert found["model"]["wrong"]["mean"] == pytest.approx(0.25)  # of 40 digits, 10 have a row of another
    table = np.array(found["model"]["confusion"])
    assert table.sum() == 40
    assert (np.diag(table) == 3).all()
    assert found["model"]["given the class"]["mean"] < 0.05
    assert "% of 40 test digits" in capsys.readouterr().out
    for name in ("drawn", "confusion"):
        assert (folder / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    records = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["validation_loss"] > 0 for line in records)


def test_scores():
    """Two classes of 784 pixels: bits per pixel of the own class, of the mixture, and the errors."""
    log_q = torch.tensor([[-784.0, -1568.0], [-784.0, -784.0 * 3]]) * math.log(2)
    found = _classes.score(log_q, torch.tensor([0, 1]))
    assert found["given the class"]["mean"] == pytest.approx((1 + 3) / 2)
    assert found["of the mixture"]["mean"] == pytest.approx((1 + 2 + 1 / 784) / 2)
    assert found["wrong"]["mean"] == 0.5
    assert found["confusion"] == [[1, 0], [1, 0]]


def test_classes_need_digits():
    with pytest.raises(ValueError, match="--digits"):
        train_autoregressive.Config(by_class=True)

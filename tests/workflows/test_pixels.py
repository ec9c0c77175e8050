"""Autoregressive models of digits, from the files to bits per pixel."""

import json
import math
import re

import numpy as np
import pytest
import torch

from tests.physgen.test_digits import idx
from workflows import _pixels, train_autoregressive

SMALL = {"steps": 2, "every": 2, "batch": 8, "width": 4, "depth": 1, "levels": 4, "quiet": True}


@pytest.fixture
def folder(tmp_path):
    """Digits whose pixels are black, but for one of four levels in the middle."""
    random = np.random.default_rng(0)
    for name, n in (("train", 80), ("t10k", 20)):
        images, labels = np.zeros((n, 28, 28), np.uint8), np.arange(n) % 10
        images[:, 14, 14] = 64 * random.integers(0, 4, n)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))
    return tmp_path


@pytest.mark.parametrize("model", ["pixelcnn", "gated_pixelcnn"])
def test_bits_per_pixel_of_unseen_digits(model, folder, capsys):
    config = train_autoregressive.Config(**SMALL, model=model, digits=folder, out=folder / "run")
    train_autoregressive.main(config=config)
    results = json.loads((folder / "run" / "results.json").read_text())
    line = capsys.readouterr().out
    assert re.fullmatch(rf"{model}: 0\.\d+\(\d+\) bits per pixel of 20 test digits in 4 grey .*\n", line)
    alone = results["pixels alone"]
    smoothed = -math.log2(70.1 / 70.4)  # of the pixels that are always black
    known = (783 * smoothed + 2) / 784  # and 2 bits of the one that is not
    assert abs(alone["mean"] - known) < 6 * alone["error"] + 0.3 / 784
    assert results["model"]["mean"] < 3 * known
    again = json.loads((folder / "run" / "config.json").read_text())
    assert again["model"] == {"data": "digits", "source": str(folder), "split": [70, 10, 20], "levels": 4}


def test_levels_have_equal_width(folder):
    config = train_autoregressive.Config(**SMALL, model="pixelcnn", digits=folder, out=folder / "run")
    assert _pixels.load(config).train.unique().tolist() == [0, 1, 2, 3]


def test_bits():
    found = _pixels.bits(torch.tensor([0.5, 0.25]).log())
    assert (found.mean, found.error) == pytest.approx((1.5, 0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "odd"}, "other than frontier, fvbn"),
        ({"model": "made", "order": "snake"}, "raster"),
        ({"model": "made", "beta": 0.4}, "no temperature"),
        ({"model": "made", "levels": 2}, "from 3 to 256"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        train_autoregressive.Config(digits="sample", **options)

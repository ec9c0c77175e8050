"""Train an autoregressive model, whose likelihood is exact, by maximum likelihood.

The loss is the negative log-likelihood in nats per spin; less the entropy of
the data it is the forward Kullback-Leibler divergence.

Example:

  physgen train_autoregressive --data data/square16.h5 --temperature 2.269
  physgen train_autoregressive --model pixelcnn --data data/square16.h5 \\
    --temperature 2.269 --out runs/pixelcnn
"""

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from physgen import models, orders
from physgen.train import gradient_step
from workflows import _training

TAKEN_BY = {  # options that some models take
    "hidden": ("odd", "nade", "made"),
    "width": ("pixelcnn", "row_lstm", "diagonal_bilstm", "transformer"),
    "depth": ("made", "pixelcnn", "row_lstm", "diagonal_bilstm", "transformer"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_autoregressive``."""

    model: Literal[
        "fvbn", "odd", "nade", "made", "pixelcnn", "row_lstm", "diagonal_bilstm", "transformer"
    ] = "made"
    """Linear, odd net, hidden units shared by all sites, masked dense net, masked convolutions, memory cells
    of rows and of diagonals, attention."""
    hidden: int | None = None
    """Hidden units: of the layer for made and nade (default 256), of each site for odd (default 1)."""
    width: int | None = None
    """Features of each site, default 32; not for fvbn, odd, nade and made."""
    depth: int | None = None
    """Layers; not for fvbn, odd and nade."""
    order: Literal[tuple(orders.REGISTRY)] = "raster"  # type: ignore[valid-type]
    """Order of the sites."""
    out: Path = Path("runs/made")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""

    SMOKE = {"steps": 4, "every": 2, "batch": 16, "quiet": True}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, takers in TAKEN_BY.items():
            if getattr(self, name) is not None and self.model not in takers:
                raise ValueError(
                    f"--{name} is an option of {', '.join(takers)}; leave it out for {self.model}"
                )


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    hyper = {name: value for name in TAKEN_BY if (value := getattr(config, name)) is not None}
    net = models.build(config.model, data.shape, order=config.order, symmetric=data.even, **hyper)
    net = net.to(data.train.device)
    step = gradient_step(
        net.loss, torch.optim.Adam(net.parameters(), lr=config.lr), clip=1.0, **_training.schedule(config)
    )
    _training.run(net, step, data, config, validation=net.loss)

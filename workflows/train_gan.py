"""Train a deep convolutional generative adversarial network with periodic padding.

There is no likelihood: watch the critic's mean output on real and on generated
configurations, and the spread of the magnetisation (its collapse is mode
collapse); physgen compare measures the observables.

Example:

  physgen train_gan --data data/square16.h5 --temperature 2.269 --out runs/dcgan
"""

import dataclasses
from pathlib import Path

import torch

from physgen import models
from physgen.train import adversarial_step, decay, gradient_step
from workflows import _training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_gan``."""

    latent: int = 64
    """Dimensions of the generator's Gaussian noise."""
    critic_steps: int = 1
    """Critic steps per generator step."""
    out: Path = Path("runs/dcgan")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""

    SMOKE = {"steps": 4, "every": 2, "batch": 16, "quiet": True}


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    gan = models.build("dcgan", data.shape, latent=config.latent, symmetric=data.even)
    gan.to(data.train.device)
    adam = {"lr": config.lr, "betas": (0.5, 0.9)}
    generator = gradient_step(
        gan.generator_loss,
        torch.optim.Adam(gan.generator.parameters(), **adam),
        **_training.schedule(config),
    )
    critic = gradient_step(
        gan.critic_loss, torch.optim.Adam(gan.critic.parameters(), **adam), schedule=decay(config.steps)
    )
    _training.run(gan, adversarial_step(generator, critic, critic_steps=config.critic_steps), data, config)

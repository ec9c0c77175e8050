"""Train a deep convolutional generative adversarial network with periodic padding.

There is no likelihood: watch the generator's loss, the distance between data
and samples that the critic still finds (0 at best), and the spread of the
absolute magnetisation against that of the data (its collapse is mode
collapse); physgen compare measures the observables.

Example:

  physgen train_gan --data data/square16.h5 --temperature 2.269 --out runs/dcgan
"""

import dataclasses
from pathlib import Path

import torch

from physgen import models
from physgen.train import adversarial_step, gradient_step
from workflows import _training

BETAS = (0.5, 0.9)  # little momentum, or generator and critic chase each other in circles


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_gan``."""

    latent: int = 32
    """Global latent variables of the generator."""
    critic_steps: int = 1
    """Critic steps per generator step; --steps counts those of the critic."""
    batch: int = 64
    """Configurations per step."""
    lr: float = 1e-3
    """Learning rate of the generator at the start; it decays to 2 % as a half cosine."""
    critic_lr: float = 1e-3
    """Learning rate of the critic at the start; it decays alike."""
    out: Path = Path("runs/dcgan")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""

    SMOKE = {"steps": 4, "every": 2, "batch": 16, "quiet": True}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_steps > self.steps:
            raise ValueError(
                f"the generator learns once in --critic-steps {self.critic_steps}, so never in --steps "
                f"{self.steps}; lower --critic-steps"
            )


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    if not all(data.hamiltonian.lattice.pbc):
        raise ValueError("a DCGAN pads its convolutions periodically; simulate with --boundary periodic")
    gan = models.build("dcgan", data.shape, latent=config.latent, symmetric=data.even)
    gan.to(data.train.device)
    generator = gradient_step(
        gan.generator_loss,
        torch.optim.Adam(gan.generator.parameters(), config.lr, betas=BETAS),
        **_training.schedule(config, config.steps // config.critic_steps),
    )
    critic = gradient_step(
        gan.critic_loss,
        torch.optim.Adam(gan.critic.parameters(), config.critic_lr, betas=BETAS),
        schedule=_training.schedule(config)["schedule"],
    )
    _training.run(gan, adversarial_step(generator, critic, critic_steps=config.critic_steps), data, config)

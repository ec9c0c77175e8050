"""Train a general or a deep Boltzmann machine.

One number of hidden units gives a general machine: all visible units coupled
with each other, and, with --lateral, all hidden ones too. Two or more numbers
give a deep machine of so many hidden layers. --hidden 0 is fully visible, an
Ising model with couplings of all pairs.

Where hidden units are coupled the positive phase is mean field and a bound is
climbed instead of the likelihood; the negative phase is persistent chains. A
fully visible machine can be trained by its pseudo-likelihood instead, without
chains. The record shows the free-energy gap between validation and training
data (growing = overfitting).

Example:

  physgen train_boltzmann --data data/square16.h5 --temperature 2.269 \\
    --hidden 32 --lateral
  physgen train_boltzmann --data data/square16.h5 --temperature 2.269 \\
    --hidden 64 32 --out runs/deep
  physgen train_boltzmann --data data/square16.h5 --temperature 2.269 \\
    --hidden 0 --learner pseudo --out runs/ising
"""

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from physgen import models
from physgen.learning import MeanFieldPCD
from physgen.train import gradient_step
from workflows import _training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_boltzmann``."""

    hidden: tuple[int, ...] = (16,)
    """Hidden units, or one number per hidden layer of a deep machine; 0 for none."""
    lateral: bool = False
    """Couple the hidden units of a general machine with each other."""
    learner: Literal["chains", "pseudo"] = "chains"
    """Persistent chains, or the pseudo-likelihood (fully visible machines only)."""
    k: int = 4
    """Gibbs sweeps of the persistent chains per gradient step."""
    chains: int = 256
    """Persistent chains; they start from the data."""
    batch: int = 256
    """Configurations per step."""
    lr: float = 5e-3
    """Learning rate at the start; it decays as a half cosine."""
    out: Path = Path("runs/boltzmann")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""

    SMOKE = {"hidden": (4, 2), "chains": 20, "steps": 4, "every": 2, "batch": 16, "quiet": True}

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.hidden, default=-1) < 0 or (len(self.hidden) > 1 and 0 in self.hidden):
            raise ValueError(
                f"--hidden takes one number of units, 0 for none, or one >= 1 per layer, got "
                f"{' '.join(map(str, self.hidden)) or 'nothing'}"
            )
        if self.lateral and (len(self.hidden) > 1 or self.hidden[0] < 2):
            raise ValueError("--lateral couples the hidden units of one layer; give --hidden one number >= 2")
        if self.learner == "pseudo" and any(self.hidden):
            raise ValueError("--learner pseudo is for fully visible machines; add --hidden 0")


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    if len(config.hidden) > 1:
        machine = models.build("deep_boltzmann", data.shape, hidden=list(config.hidden), symmetric=data.even)
    else:
        hidden = sum(config.hidden)
        machine = models.build(
            "boltzmann", data.shape, hidden=hidden, lateral=config.lateral, symmetric=data.even
        )
    machine = machine.to(data.train.device).centre(data.train)
    # No momentum: with it, persistent chains and weights swing around each other.
    adam = torch.optim.Adam(
        [p for p in machine.parameters() if p.requires_grad], config.lr, betas=(0.0, 0.999)
    )
    if config.learner == "pseudo":
        loss = machine.loss
    else:
        loss = MeanFieldPCD(machine, start=data.train, k=config.k, chains=config.chains, seed=config.seed)
    reference = data.train[: len(data.validation)]
    free_energy = machine.free_energy if machine.tractable else machine.free_energy_bound

    def gap(unseen: torch.Tensor) -> torch.Tensor:
        return free_energy(unseen).mean() - free_energy(reference).mean()

    step = gradient_step(loss, adam, **_training.schedule(config))
    _training.run(machine, step, data, config, validation=gap)

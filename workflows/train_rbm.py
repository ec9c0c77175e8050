"""Train a restricted Boltzmann machine by persistent contrastive divergence.

The record shows the free-energy gap between validation and training data
(growing = overfitting); the likelihood itself is estimated afterwards by
physgen compare.

Example:

  physgen train_rbm --data data/square16.h5 --temperature 2.269 --hidden 128
  physgen train_rbm --data data/square16.h5 --temperature 2.269 --tied \\
    --hidden 2 --lr 4e-3 --out runs/tied
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
    """Hidden units; with --tied, hidden units per site."""
    tied: bool = False
    """Repeat each hidden unit at every site of the torus: a law invariant under translations."""
    k: int = 4
    """Gibbs sweeps of the persistent chains per gradient step."""
    chains: int = 256
    """Persistent chains; they start from the data."""
    batch: int = 256
    """Configurations per step."""
    lr: float = 1e-2
    """Learning rate at the start; it decays as a half cosine. Tied machines need 4e-3."""
    out: Path = Path("runs/rbm")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""

    SMOKE = {"hidden": 4, "chains": 20, "steps": 4, "every": 2, "batch": 16, "quiet": True}


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    if config.tied and "translation" not in data.hamiltonian.lattice.symmetries:
        raise ValueError("--tied needs a lattice that is the same at every site; leave it out here")
    rbm = models.build("rbm", data.shape, hidden=config.hidden, tied=config.tied, symmetric=data.even).to(
        data.train.device
    )
    rbm.centre(data.train)
    # No momentum: with it, persistent chains and weights swing around each other.
    adam = torch.optim.Adam([p for p in rbm.parameters() if p.requires_grad], config.lr, betas=(0.0, 0.999))
    loss = PersistentCD(rbm, start=data.train, k=config.k, chains=config.chains, seed=config.seed)
    reference = data.train[: len(data.validation)]

    def gap(unseen: torch.Tensor) -> torch.Tensor:
        return rbm.free_energy(unseen).mean() - rbm.free_energy(reference).mean()

    step = gradient_step(loss, adam, **_training.schedule(config))
    _training.run(rbm, step, data, config, validation=gap)

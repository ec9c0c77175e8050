"""Runs and files that the tests of the store share."""

from pathlib import Path

import numpy as np
import torch

from ising import Ising, Run, lattices, store

MODEL = Ising(lattices.rectangular(3, 4), h=0.25)
SETTINGS = {"update": "metropolis", "chains": 6, "samples": 9, "burn_in": 3, "thin": 1, "seed": 4}


def make_run(
    beta: float = 0.44, seed: int = 1, chains: int = 10, samples: int = 7, model: Ising = MODEL
) -> Run:
    """Random spins with true energies: the store does not ask how they were drawn."""
    spins = np.random.default_rng(seed).choice(
        np.array([-1, 1], np.int8), (chains, samples, model.lattice.n_sites)
    )
    return Run(
        model=model.describe(),
        shape=model.lattice.shape,
        beta=beta,
        update="metropolis",
        seed=seed,
        burn_in=10,
        thin=2,
        spins=spins,
        energies=model.energy(torch.from_numpy(spins)).numpy(),
        magnetisations=spins.sum(-1).astype(float),
        provenance={"kernel": "none", "seconds": 0.5},
    )


def same(a: Run, b: Run) -> bool:
    """Whether two runs agree in every field, and every array in type and every bit."""
    fields = vars(a).keys()
    arrays = ("bits", "energies", "magnetisations")
    plain = all(getattr(a, name) == getattr(b, name) for name in fields - set(arrays))
    return plain and all(
        getattr(a, name).dtype == getattr(b, name).dtype
        and np.array_equal(getattr(a, name), getattr(b, name))
        for name in arrays
    )


def two_runs(folder: Path) -> Path:
    """A file with a run at beta = 0.44 and one at 0.3."""
    path = folder / "runs.h5"
    for beta in (0.44, 0.3):
        store.append(path, make_run(beta))
    return path

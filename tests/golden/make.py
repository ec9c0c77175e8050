"""Makes a golden file of the current format: ``python tests/golden/make.py OUT``.

The files of older formats are kept as they were written, for every later version must read them.
"""

import sys

import numpy as np
import torch

from ising import Ising, Run, lattices, store


def golden_runs() -> list[Run]:
    """Two small runs of a random-bond model in a field; the spins are random, the energies are theirs."""
    lattice = lattices.rectangular(3, 4)
    rng = np.random.default_rng(20260101)
    couplings = torch.from_numpy(rng.choice([-1.0, 1.0], len(lattice.edges)))
    model = Ising(lattice, J=couplings, h=0.25)
    runs = []
    for beta in (0.44, 0.3):
        spins = rng.choice(np.array([-1, 1], np.int8), (5, 6, 12))
        runs.append(
            Run(
                model=model.describe(),
                shape=lattice.shape,
                beta=beta,
                update="metropolis",
                seed=7,
                burn_in=10,
                thin=2,
                spins=spins,
                energies=model.energy(torch.from_numpy(spins)).numpy(),
                magnetisations=spins.sum(-1).astype(float),
                provenance={"made_by": "tests/golden/make.py"},
            )
        )
    return runs


if __name__ == "__main__":
    for run in golden_runs():
        store.append(sys.argv[1], run)

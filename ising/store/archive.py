"""What a user does with a file of runs: add to it, read it, list it."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..observables import REGISTRY, Series
from ..run import Run
from . import sealed
from .layout import Block, Entry, Head, parsing, read_entries, read_header, write_run
from .sealed import StoreError

KIND, VERSION = "ising-runs", 1
LIBVER = ("v110", "v110")  # checksummed metadata, and still readable by HDF5 1.10


@dataclass(frozen=True)
class Addition:
    """A run on its way to a file: its head, ``(chains, samples)`` and its numbers in blocks of samples."""

    head: Head
    size: tuple[int, int]
    blocks: Iterable[Block]


def append(path: str | Path, run: Run) -> str:
    """Adds a run, making the file if there is none, and returns the name of its group.

    When this returns the run is on the disk; killed before, the old file is untouched. The file is written
    anew each time, so many runs are better gathered in a :class:`~ising.store.Journal`.

    Raises:
        StoreError: If the file holds another Hamiltonian or is not a store. Nothing is changed then.
    """
    return add(Path(path), [_addition(run)])[0]


def add(path: Path, additions: list[Addition]) -> list[str]:
    """Publishes the file with further runs by one rename; returns the names of their groups.

    A run whose key is in the file already is left out.
    """
    sealed.make_folder(path.parent)
    with sealed.replaced(path, KIND, VERSION) as new:
        mode, options, present = "w", {"userblock_size": sealed.HEADER}, set()
        if path.exists():
            mode, options, present = "r+", {}, keys(path)
            with sealed.opened(path, KIND, VERSION) as old:
                sealed.copy(old, new)
        with h5py.File(new, mode, libver=LIBVER, **options) as file:
            return [_add(file, path, addition) for addition in additions if addition.head.key not in present]


def keys(path: Path) -> set[str]:
    """The keys of the runs that came through a journal."""
    with entries(path) as found:
        return {entry.head.key for entry in found} - {""}


def runs(path: str | Path, *, beta: float | None = None) -> Iterator[Run]:
    """The runs in the order written: all, or those at one inverse temperature (to one part in 10⁹).

    Raises:
        StoreError: If the file is missing, damaged or not a store, or has no run at ``beta``.
    """
    with entries(path, beta=beta) as found:
        for entry in found:
            with parsing(Path(path)):
                bits, energies, magnetisations = (dataset[()] for dataset in entry.datasets())
            head = {name: value for name, value in vars(entry.head).items() if name != "key"}
            yield Run(
                **head,
                bits=bits,
                energies=energies,
                magnetisations=magnetisations,
            )


def betas(path: str | Path) -> list[float]:
    """The inverse temperatures of the file, increasing, each once."""
    with entries(path) as found:
        return sorted({entry.head.beta for entry in found})


def hamiltonian(path: str | Path) -> dict[str, object]:
    """The arguments of :func:`ising.model.restore` that all runs of the file share."""
    with entries(path) as found:
        return found[0].head.model


def digest(path: str | Path) -> str:
    """SHA-256 over the settings and numbers of all runs, in any order; times and versions do not count."""
    with entries(path) as found:
        contents = sorted(entry.content_sha256 for entry in found)
    return hashlib.sha256("".join(contents).encode()).hexdigest()


def summary(path: str | Path) -> dict:
    """What the file holds: the Hamiltonian and each run's settings, size, e and :math:`|m|` with errors."""
    path = Path(path)
    rows = []
    with entries(path) as found:
        for entry in found:
            head = entry.head
            with parsing(path):
                series = Series(entry.energy[()], entry.magnetisation[()], head.n_sites, head.beta)
            estimates = {name: REGISTRY[name](series) for name in ("energy", "abs_m")}
            settings = {name: getattr(head, name) for name in ("beta", "update", "seed", "burn_in", "thin")}
            sizes = {"chains": entry.chains, "samples": entry.samples, "content_sha256": entry.content_sha256}
            rows.append({"name": entry.name, **settings, **sizes, **estimates, "provenance": head.provenance})
        head = found[0].head
    about = {
        "path": str(path),
        "bytes": path.stat().st_size,
        "format": f"{KIND} {VERSION}",
        "digest": digest(path),
    }
    return about | {"model": head.model, "shape": head.shape, "runs": rows}


@contextmanager
def entries(path: str | Path, *, beta: float | None = None) -> Iterator[list[Entry]]:
    """The checked runs of a file, open while the block lasts."""
    path = Path(path)
    with sealed.opened(path, KIND, VERSION) as source:
        with parsing(path):
            file = h5py.File(source, "r")
        with file:
            with parsing(path):
                found = read_entries(file, KIND, VERSION, budget=source.size())
            chosen = [e for e in found if beta is None or math.isclose(e.head.beta, beta, rel_tol=1e-9)]
            if not chosen:
                present = ", ".join(f"{value:.12g}" for value in sorted({e.head.beta for e in found}))
                raise StoreError(f"{path} has no run at beta = {beta:.12g}; choose one of {present}")
            yield chosen


def _addition(run: Run) -> Addition:
    """A run as the layout takes it, refused in a sentence if its arrays do not fit together."""
    bits, width = run.bits, -(-run.n_sites // 8)
    if bits.dtype != np.uint8 or bits.ndim != 3 or bits.shape[2] != width or 0 in bits.shape:
        raise StoreError(
            f"bits must be uint8 of a shape (chains, samples, {width}), no side 0, got {bits.dtype} of the "
            f"shape {bits.shape}"
        )
    if run.n_sites % 8 and (bits[..., -1] & 0xFF >> run.n_sites % 8).any():
        raise StoreError("bits past the last site must be 0; make the run from spins instead")
    for name, array in (("energies", run.energies), ("magnetisations", run.magnetisations)):
        if array.shape != bits.shape[:2]:
            raise StoreError(f"{name} must have the shape {bits.shape[:2]}, got {array.shape}")
    fields = {name: getattr(run, name) for name in Head.__dataclass_fields__ if name != "key"}
    numbers = (np.asarray(array, dtype="<f8") for array in (run.energies, run.magnetisations))
    return Addition(Head(**fields), bits.shape[:2], [(bits, *numbers)])


def _add(file: h5py.File, path: Path, addition: Addition) -> str:
    head = addition.head
    if "model" not in file:
        file.attrs.update({"format": np.bytes_(KIND), "version": VERSION, "shape": head.shape})
        file["model"] = np.bytes_(json.dumps(head.model, sort_keys=True))
        file.create_group("runs")
    model, shape = read_header(file)
    before, now = model | {"shape": list(shape)}, head.model | {"shape": list(head.shape)}
    for name, there, here in _differences(before, now):
        raise StoreError(
            f"{path} holds another Hamiltonian: {name} is {there} in the file and {here} in this run; "
            "write to another file"
        )
    group = file["runs"].create_group(f"{len(file['runs']):04d}")
    write_run(group, head, addition.size, addition.blocks)
    return group.name


def _differences(there: dict, here: dict) -> Iterator[tuple[str, str, str]]:
    for name in sorted(there | here):
        texts = [json.dumps(side.get(name)) for side in (there, here)]
        if texts[0] != texts[1]:
            yield name, *(text if len(text) <= 60 else f"{text[:57]}..." for text in texts)

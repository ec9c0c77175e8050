"""The HDF5 layout of format version 1: writing a run into a group, and reading one that nobody vouches for.

Reading follows hard links only and accepts only datasets of the expected type, shape and filters, whose bytes
are really in the file: the layout knows no compression, so a file cannot hold more numbers than it has bytes.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .. import lattices
from .sealed import StoreError

CHUNK = 1 << 19  # bytes of a chunk, about
BLOCK = 1 << 24  # bytes of the chunks that are written together, of all chains
LARGEST = np.finfo(np.float64).max.item()
ATTRIBUTES = {"beta": "f", "update": "S", "seed": "S", "burn_in": "iu", "thin": "iu", "content_sha256": "S"}

Block = tuple[np.ndarray, np.ndarray, np.ndarray]  # packed spins, energies, magnetisations along time


@dataclass(frozen=True)
class Head:
    """All of a run but its numbers. ``key`` names the settings of a journalled run, else it is empty."""

    model: dict[str, object]
    shape: tuple[int, ...]
    beta: float
    update: str
    seed: int
    burn_in: int
    thin: int
    provenance: dict[str, str | float | int]
    key: str = ""

    @property
    def n_sites(self) -> int:
        """Number of sites N."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Entry:
    """One run of an open file; its datasets are checked but not read."""

    name: str
    head: Head
    content_sha256: str
    spins: h5py.Dataset
    energy: h5py.Dataset
    magnetisation: h5py.Dataset

    @property
    def number(self) -> int:
        """Position of the run in the file."""
        return int(self.name.rpartition("/")[2])

    @property
    def chains(self) -> int:
        """Number of chains."""
        return self.energy.shape[0]

    @property
    def samples(self) -> int:
        """Samples per chain."""
        return self.energy.shape[1]

    def datasets(self) -> tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]:
        """Bits, energies and magnetisations."""
        return self.spins, self.energy, self.magnetisation


def content(head: Head, blocks: Iterable[Block]) -> str:
    """SHA-256 over settings and numbers, sample by sample: however these are cut in blocks."""
    physics = (head.model, head.shape, head.beta, head.update, head.seed, head.burn_in, head.thin)
    hashes = [hashlib.sha256() for _ in range(3)]
    shape = None
    for block in blocks:
        for hashed, array in zip(hashes, block, strict=True):
            hashed.update(
                np.ascontiguousarray(array.swapaxes(0, 1)).astype(array.dtype.newbyteorder("<"), copy=False)
            )
        shape = block[0].shape[0]
    text = json.dumps([*physics, shape, *(hashed.hexdigest() for hashed in hashes)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_run(group: h5py.Group, head: Head, size: tuple[int, int], blocks: Iterable[Block]) -> None:
    """Fills an empty group with ``size = (chains, samples)`` configurations, given in blocks of samples."""
    width = -(-head.n_sites // 8)
    span = _equal_parts(size[1], max(1, BLOCK // (size[0] * width)))  # samples in a chunk
    shapes = (*size, width), size, size
    names, types = ("spins", "energy", "magnetisation"), ("u1", "<f8", "<f8")
    datasets = [
        group.create_dataset(
            n, s, t, chunks=_chunk(s, span, np.dtype(t).itemsize), fletcher32=True, track_times=False
        )
        for n, s, t in zip(names, shapes, types, strict=True)
    ]

    def written() -> Iterator[Block]:
        first = 0
        for block in _recut(blocks, span):
            last = first + block[0].shape[1]
            for dataset, array in zip(datasets, block, strict=True):
                dataset[:, first:last] = array
            yield block
            first = last

    digest = content(head, written())
    group["provenance"] = np.bytes_(json.dumps(head.provenance))
    text = {"update": head.update, "seed": str(head.seed), "key": head.key, "content_sha256": digest}
    group.attrs.update({name: np.bytes_(value) for name, value in text.items() if value})
    group.attrs.update({name: getattr(head, name) for name in ("beta", "burn_in", "thin")})


def _chunk(shape: tuple[int, ...], span: int, itemsize: int) -> tuple[int, ...]:
    """A chunk of about half a megabyte: whole configurations, ``span`` samples of as many chains as fit."""
    width = math.prod(shape[2:]) * itemsize
    return (_equal_parts(shape[0], CHUNK // (width * span)), span, *shape[2:])


def _recut(blocks: Iterable[Block], span: int) -> Iterator[Block]:
    """The same numbers in blocks of ``span`` samples, so that every chunk is written once and whole."""
    parts: list[Block] = []
    held = 0
    for block in blocks:
        while block[0].shape[1] > 0:
            missing = span - held
            parts.append(tuple(array[:, :missing] for array in block))
            held += parts[-1][0].shape[1]
            block = tuple(array[:, missing:] for array in block)
            if held == span:
                yield tuple(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
                parts, held = [], 0
    if parts:
        yield tuple(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))


def _equal_parts(length: int, most: int) -> int:
    """The length of equal parts, none longer than ``most``, so that the last chunk is not mostly empty."""
    return -(-length // -(-length // max(1, most)))


def read_header(file: h5py.File) -> tuple[dict[str, object], tuple[int, ...]]:
    """Model and shape, from the root."""
    model = _json(file, "model")
    if "shape" not in file.attrs:
        raise ValueError("the attribute shape is missing")
    shape = file.attrs.get_id("shape")
    if _dtype(shape, "shape").kind not in "iu" or len(shape.shape or ()) != 1 or not 1 <= shape.shape[0] <= 8:
        raise ValueError("shape is not a short list of whole numbers")
    sides = tuple(int(side) for side in file.attrs["shape"])
    if min(sides) < 1:
        raise ValueError(f"the sides of the lattice must be >= 1, got {sides}")
    return model, sides


def read_entries(file: h5py.File, kind: str, version: int, budget: int) -> list[Entry]:
    """Every run, in the order written, after checking that all together fit into ``budget`` bytes.

    Raises:
        ValueError: Where the content is not as specified; OSError or RuntimeError where h5py cannot read it.
    """
    found = _attribute(file, "format", "S"), _attribute(file, "version", "iu")
    if found != (kind, version):
        raise ValueError(f"format and version inside are {found}, {(kind, version)} outside")
    model, shape = read_header(file)
    runs = _member(file, "runs", h5py.Group)
    entries = []
    for name in runs:
        if not re.fullmatch(r"\d{4,9}", name):
            raise ValueError(f"/runs/{name[:40]} is not the number of a run")
        entry = _entry(_member(runs, name, h5py.Group), model, shape)
        budget -= sum(dataset.size * dataset.dtype.itemsize for dataset in entry.datasets())
        if budget < 0:
            raise ValueError("it declares more numbers than it has bytes")
        entries.append(entry)
    if not entries:
        raise ValueError("it holds no runs")
    _check_model(model, shape)  # by now there are bytes for every site
    return sorted(entries, key=lambda entry: entry.number)


def _check_model(model: dict[str, object], shape: tuple[int, ...]) -> None:
    """Refuses what :func:`ising.model.restore` cannot take, or would make another shape of.

    Every lattice is drawn with its sides as the shape, one side being repeated along all axes. A lattice is
    built only to count the bonds where each has its own coupling.
    """
    if model.keys() != {"lattice", "size", "pbc", "J", "h"}:
        raise ValueError(f"the model has the entries {', '.join(sorted(model))[:80]}")
    name, size, pbc = model["lattice"], model["size"], model["pbc"]
    if not isinstance(name, str) or name not in lattices.REGISTRY:
        raise ValueError(f"the lattice {str(name)[:40]!r} is not one that this version knows")
    if not isinstance(size, list) or any(type(side) is not int for side in size):
        raise ValueError("the size of the lattice is not a list of whole numbers")
    if shape not in (tuple(size), tuple(size) * len(shape)):
        raise ValueError(f"a lattice of size {str(size)[:60]} does not have the shape {shape}")
    if not isinstance(pbc, list) or [type(axis) for axis in pbc] != [bool] * len(shape):
        raise ValueError("pbc is not a list of one true or false per axis")
    per_bond = isinstance(model["J"], list)
    bonds = len(lattices.build(name, tuple(size), tuple(pbc)).edges) if per_bond else 0
    for entry, count in (("J", bonds), ("h", math.prod(shape))):
        values = value if isinstance(value := model[entry], list) else [value]
        fits = len(values) == (count if isinstance(value, list) else 1)
        if not fits or not all(type(x) in (int, float) and abs(x) <= LARGEST for x in values):
            raise ValueError(f"{entry} is neither a finite number nor a list of one per bond or site")


def _entry(group: h5py.Group, model: dict[str, object], shape: tuple[int, ...]) -> Entry:
    values = {name: _attribute(group, name, kinds) for name, kinds in ATTRIBUTES.items()}
    values |= {
        "seed": int(values["seed"]),
        "key": _attribute(group, "key", "S") if "key" in group.attrs else "",
    }
    content_sha256 = values.pop("content_sha256")
    head = Head(model=model, shape=shape, provenance=_json(group, "provenance"), **values)
    if not (math.isfinite(head.beta) and head.beta >= 0 and head.burn_in >= 0 and head.thin >= 1):
        raise ValueError(f"{group.name} has beta, burn_in or thin out of range")
    energy = _numbers(group, "energy", "<f8")
    if len(energy.shape) != 2 or min(energy.shape) < 1:
        raise ValueError(f"{energy.name} must have the shape (chains, samples), got {energy.shape}")
    magnetisation, spins = _numbers(group, "magnetisation", "<f8"), _numbers(group, "spins", "u1")
    expected = energy.shape, (*energy.shape, -(-head.n_sites // 8))
    if (magnetisation.shape, spins.shape) != expected:
        raise ValueError(
            f"the shapes in {group.name} are {magnetisation.shape}, {spins.shape}, not {expected}"
        )
    return Entry(group.name, head, content_sha256, spins, energy, magnetisation)


def _member(group: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    """A child reached by a hard link, of the kind asked for."""
    link = group.get(name, getlink=True)
    where = f"{group.name.rstrip('/')}/{name}"
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{where} is {'missing' if link is None else 'a link to somewhere else'}")
    try:
        found = group[name]
    except KeyError as error:  # so h5py calls an object that it cannot open
        raise ValueError(f"{where} cannot be opened") from error
    if not isinstance(found, kind):
        raise ValueError(f"{where} is not a {kind.__name__.lower()}")
    return found


def _dtype(found: h5py.Dataset | h5py.h5a.AttrID, where: str) -> np.dtype:
    """The type of the numbers; HDF5 knows some that numpy lacks."""
    try:
        return found.dtype
    except TypeError as error:
        raise ValueError(f"{where} has a type that numpy lacks") from error


def _numbers(group: h5py.Group, name: str, dtype: str) -> h5py.Dataset:
    """A dataset whose numbers are in this file, unread."""
    data = _member(group, name, h5py.Dataset)
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    plain = filters == [h5py.h5z.FILTER_FLETCHER32] and data.chunks and not (data.is_virtual or data.external)
    if not plain:
        raise ValueError(f"{data.name} is not stored in this file as plain checksummed chunks")
    if _dtype(data, data.name) != np.dtype(dtype):
        raise ValueError(f"{data.name} must be {dtype}, got {data.dtype}")
    declared, held = max(data.size, math.prod(data.chunks)) * data.dtype.itemsize, data.id.get_storage_size()
    if held < declared:
        raise ValueError(f"{data.name} declares {declared} bytes and holds {held}")
    return data


def _attribute(group: h5py.Group, name: str, kinds: str) -> Any:
    if name not in group.attrs:
        raise ValueError(f"{group.name} lacks the attribute {name}")
    found = group.attrs.get_id(name)
    scalar = found.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
    if not scalar or _dtype(found, name).kind not in kinds:
        raise ValueError(f"the attribute {name} of {group.name} has the wrong type")
    value = group.attrs[name]
    return value.decode("ascii") if isinstance(value, bytes) else value.item()


def _json(group: h5py.Group, name: str) -> dict:
    """A dictionary kept as the text of a scalar dataset: an attribute ends at 64 kB, a glass needs more."""
    data = _member(group, name, h5py.Dataset)
    fixed = (
        _dtype(data, data.name).kind == "S" and data.shape == () and not (data.is_virtual or data.external)
    )
    if not fixed or data.dtype.itemsize > data.id.get_storage_size():
        raise ValueError(f"{data.name} is not a text inside this file")
    try:
        value = json.loads(data[()])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{data.name} is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError(f"{data.name} is not a JSON object")
    return value


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turns what is raised on malformed content, here or in h5py, into one sentence about the file.

    A TypeError or a KeyError would be a mistake of this library, and passes.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path} is not a valid file of runs, do not use it: {reason}") from error

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

import h5py
import numpy as np

from .sealed import StoreError

CHUNK = 1 << 19  # bytes of a chunk, about
ATTRIBUTES = {
    "beta": "f",
    "update": "S",
    "seed": "S",
    "burn_in": "iu",
    "thin": "iu",
    "key": "S",
    "content_sha256": "S",
}

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
        return self.energy.shape[0]

    @property
    def samples(self) -> int:
        return self.energy.shape[1]

    def datasets(self) -> tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]:
        return self.spins, self.energy, self.magnetisation


def pack(spins: np.ndarray) -> np.ndarray:
    """Spins ±1 ``(*, N)`` to bits ``(*, ceil(N/8))``, up is 1, the first site the highest bit.

    Example:
        >>> pack(np.array([1, -1, -1, -1, -1, -1, -1, 1, 1])).tolist()
        [129, 128]
    """
    return np.packbits(spins > 0, axis=-1)


def unpack(bits: np.ndarray, n_sites: int) -> np.ndarray:
    """The inverse of :func:`pack`: int8 spins."""
    spins = np.unpackbits(bits, axis=-1, count=n_sites).view(np.int8)
    spins *= 2
    spins -= 1
    return spins


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
    shapes = (*size, -(-head.n_sites // 8)), size, size
    names, types = ("spins", "energy", "magnetisation"), ("u1", "<f8", "<f8")
    datasets = [
        group.create_dataset(
            n, s, t, chunks=_chunks(s, np.dtype(t).itemsize), fletcher32=True, track_times=False
        )
        for n, s, t in zip(names, shapes, types, strict=True)
    ]

    def written() -> Iterator[Block]:
        first = 0
        for block in blocks:
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


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of about half a megabyte: whole configurations, whole time series, then several chains."""
    width = math.prod(shape[2:]) * itemsize
    samples = _equal_parts(shape[1], CHUNK // width)
    return (_equal_parts(shape[0], CHUNK // (width * samples)), samples, *shape[2:])


def _equal_parts(length: int, most: int) -> int:
    """The length of equal parts, none longer than ``most``, so that the last chunk is not mostly empty."""
    return -(-length // -(-length // max(1, most)))


def read_header(file: h5py.File, path: Path) -> tuple[dict[str, object], tuple[int, ...]]:
    """Model and shape, from the root."""
    model = _json(file, "model", path)
    shape = file.attrs.get_id("shape")
    if shape.dtype.kind not in "iu" or len(shape.shape) != 1 or not 1 <= shape.shape[0] <= 8:
        raise StoreError(f"{path}: shape is not a short list of whole numbers; the file is not a valid store")
    sides = tuple(int(side) for side in file.attrs["shape"])
    if min(sides) < 1:
        raise StoreError(
            f"{path}: the sides of the lattice must be >= 1, got {sides}; the file is not a valid store"
        )
    return model, sides


def read_entries(file: h5py.File, path: Path, budget: int) -> list[Entry]:
    """Every run, in the order written, after checking that all together fit into ``budget`` bytes."""
    model, shape = read_header(file, path)
    runs = _member(file, "runs", h5py.Group, path)
    entries = []
    for name in sorted(runs):
        if not re.fullmatch(r"\d{4,9}", name):
            raise StoreError(f"{path}: /runs/{name[:40]} is not a run; the file is not a valid store")
        entry = _entry(_member(runs, name, h5py.Group, path), model, shape, path)
        budget -= sum(dataset.size * dataset.dtype.itemsize for dataset in entry.datasets())
        if budget < 0:
            raise StoreError(
                f"{path} declares more numbers than it has bytes; it is not a valid store, do not trust it"
            )
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry.number)


def _entry(group: h5py.Group, model: dict[str, object], shape: tuple[int, ...], path: Path) -> Entry:
    values = {name: _attribute(group, name, kinds, path) for name, kinds in ATTRIBUTES.items()}
    content_sha256 = values.pop("content_sha256")
    provenance = _json(group, "provenance", path)
    values["seed"] = int(values["seed"])
    head = Head(model=model, shape=shape, provenance=provenance, **values)
    if not (math.isfinite(head.beta) and head.beta >= 0 and head.burn_in >= 0 and head.thin >= 1):
        raise StoreError(
            f"{path}: {group.name} has beta, burn_in or thin out of range; the file is not a valid store"
        )
    energy = _numbers(group, "energy", "<f8", None, path)
    magnetisation = _numbers(group, "magnetisation", "<f8", energy.shape, path)
    spins = _numbers(group, "spins", "u1", (*energy.shape, -(-head.n_sites // 8)), path)
    return Entry(group.name, head, content_sha256, spins, energy, magnetisation)


def _member(group: h5py.Group, name: str, kind: type, path: Path) -> h5py.Group | h5py.Dataset:
    """A child reached by a hard link, of the kind asked for."""
    link = group.get(name, getlink=True)
    where = f"{group.name.rstrip('/')}/{name}"
    if not isinstance(link, h5py.HardLink):
        found = "missing" if link is None else "a link to somewhere else"
        raise StoreError(f"{path}: {where} is {found}; the file is not a valid store, do not trust it")
    if group.get(name, getclass=True) is not kind:
        raise StoreError(f"{path}: {where} is not a {kind.__name__.lower()}; the file is not a valid store")
    return group[name]


def _numbers(
    group: h5py.Group, name: str, dtype: str, shape: tuple[int, ...] | None, path: Path
) -> h5py.Dataset:
    dataset = _member(group, name, h5py.Dataset, path)
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if (
        dataset.is_virtual
        or dataset.external
        or filters != [h5py.h5z.FILTER_FLETCHER32]
        or dataset.chunks is None
    ):
        raise StoreError(
            f"{path}: {dataset.name} is not stored in this file as plain checksummed chunks; "
            "it is not a valid store, do not trust it"
        )
    two_axes = len(dataset.shape) == 2 and min(dataset.shape) >= 1
    if dataset.dtype != np.dtype(dtype) or (dataset.shape != shape if shape else not two_axes):
        raise StoreError(
            f"{path}: {dataset.name} must be {dtype} of shape {shape or '(chains, samples)'}, "
            f"got {dataset.dtype} {dataset.shape}; the file is not a valid store"
        )
    declared = max(dataset.size, math.prod(dataset.chunks)) * dataset.dtype.itemsize
    if dataset.id.get_storage_size() < declared:
        raise StoreError(
            f"{path}: {dataset.name} declares {declared} bytes and holds {dataset.id.get_storage_size()}; "
            "the file is not a valid store"
        )
    return dataset


def _attribute(group: h5py.Group, name: str, kinds: str, path: Path) -> str | int | float:
    if name not in group.attrs:
        if name == "key":
            return ""
        raise StoreError(f"{path}: {group.name} lacks the attribute {name}; the file is not a valid store")
    found = group.attrs.get_id(name)
    if found.shape != () or found.dtype.kind not in kinds or h5py.check_dtype(vlen=found.dtype):
        raise StoreError(
            f"{path}: the attribute {name} of {group.name} has the wrong type; not a valid store"
        )
    value = group.attrs[name]
    return value.decode("ascii") if isinstance(value, bytes) else value.item()


def _json(group: h5py.Group, name: str, path: Path) -> dict:
    """A dictionary kept as the text of a scalar dataset: an attribute ends at 64 kB, a glass needs more."""
    dataset = _member(group, name, h5py.Dataset, path)
    fixed = dataset.dtype.kind == "S" and dataset.shape == () and not (dataset.is_virtual or dataset.external)
    if not fixed or dataset.dtype.itemsize > dataset.id.get_storage_size():
        raise StoreError(
            f"{path}: {dataset.name} is not a text inside this file; the file is not a valid store"
        )
    try:
        value = json.loads(dataset[()])
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: {dataset.name} is not JSON; the file is not a valid store") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path}: {dataset.name} is not a JSON object; the file is not a valid store")
    return value


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turns what h5py raises on malformed content into one sentence."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path}: its HDF5 content cannot be read ({' '.join(str(error).split())}); not a valid store"
        ) from error

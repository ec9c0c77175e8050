"""The journal of running simulations: one immutable file per segment, until all is published in one step."""

import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path

import numpy as np

from ..segments import Segment, Settings, join
from . import sealed
from .archive import Addition, add, keys
from .layout import Block, Head
from .sealed import StoreError

KIND, VERSION = "ising-segment", 1


def _json_type(annotation: typing.Any) -> typing.Any:
    """What a value of this type is after a way through JSON, for ``isinstance``."""
    if isinstance(annotation, types.UnionType):
        return annotation
    plain = typing.get_origin(annotation) or annotation
    return {tuple: list, float: int | float}.get(plain, plain)


SETTINGS = {field.name: _json_type(field.type) for field in fields(Settings)}
OPTIONAL = frozenset(field.name for field in fields(Settings) if field.default is not MISSING)
ABOUT = {
    "index": int,
    "first": int,
    "done": bool,
    "seconds": int | float,
    "n_sites": int,
    "settings": dict,
    "arrays": list,
}


class Journal:
    """Segments of simulations on their way into one file of runs.

    Each segment is a sealed file in the folder ``path + ".parts"``: once :meth:`write` returns, a kill or a
    full disk cannot lose it. Simulations are told apart by a key, see :meth:`key`; several may be under way,
    also in several processes. :meth:`publish` moves the finished ones into the file by one rename.

    A segment file is, after its header (see :mod:`~ising.store.sealed`), one line of JSON that lists the
    arrays with type and shape, and then their bytes one after another.

    Example:
        >>> import tempfile
        >>> from ising import Ising, lattices, store
        >>> from ising.simulate import stream
        >>> model, path = Ising(lattices.chain(8)), tempfile.mkdtemp() + "/ring.h5"
        >>> settings = {"beta": 0.5, "samples": 20, "burn_in": 10, "thin": 2, "seed": 1}
        >>> journal = Journal(path)
        >>> key = journal.key(model=model.describe(), **settings)
        >>> for segment in stream(model, **settings, segment=8, resume=journal.last(key)):
        ...     journal.write(key, segment)
        >>> journal.publish(), journal.published(key), store.betas(path)
        (['/runs/0000'], True, [0.5])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.folder = Path(f"{path}.parts")

    @staticmethod
    def key(**settings: object) -> str:
        """A short name for what was asked for: the same settings give the same key in every process."""
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def write(self, key: str, segment: Segment, *, seconds: float = 0.0) -> None:
        """Keeps one segment; when this returns it is on the disk. ``seconds`` is the time it took to make."""
        path = self._path(key, segment.index)
        content = _encoded(segment, seconds)
        try:
            self._keep(path, content)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            self._keep(path, content)  # another process published and removed the empty folder meanwhile

    def segments(self, key: str) -> Iterator[Segment]:
        """The segments kept under ``key``, from the first up to the first that is not there."""
        return (segment for segment, _ in self._segments(key))

    def last(self, key: str) -> Segment | None:
        """The segment to resume after, every one up to it being verified; None if there is none."""
        last = None
        for segment in self.segments(key):
            last = segment
        return last

    def published(self, key: str) -> bool:
        """Whether the run of this key is already in the file."""
        return self.path.exists() and key in keys(self.path)

    def publish(
        self,
        wanted: Sequence[str] | None = None,
        *,
        provenance: Mapping[str, str | float | int] | None = None,
    ) -> list[str]:
        """Moves finished simulations into the file by one rename, then removes their segments.

        Killed in between, it does the rest when it is called again; a key that is in the file is not added
        twice.

        Arguments:
            wanted: Keys, in the order in which the runs shall come; by default every finished simulation of
                the journal, by beta and seed. Unfinished ones stay.
            provenance: Joined to what the segments tell of themselves.

        Returns:
            The names of the groups that were added.
        """
        present = keys(self.path) if self.path.exists() else set()
        additions = []
        for key in self._keys() if wanted is None else dict.fromkeys(wanted):
            if key in present:
                continue
            if addition := self._addition(key, provenance or {}):
                additions.append(addition)
            elif wanted is not None:
                raise StoreError(f"the simulation {key} in {self.folder} is not finished; resume it first")
        if wanted is None:
            additions.sort(key=lambda addition: (addition.head.beta, addition.head.seed))
        names = add(self.path, additions) if additions else []
        self._remove(present.union(addition.head.key for addition in additions))
        return names

    def _keep(self, path: Path, content: list[bytes | np.ndarray]) -> None:
        sealed.make_folder(self.folder)
        sealed.write(path, KIND, VERSION, content)

    def _path(self, key: str, index: int) -> Path:
        if not re.fullmatch(r"[0-9a-zA-Z_]+", key):
            raise StoreError(f"a key is made of letters and digits, see Journal.key, got {key!r}")
        return self.folder / f"{key}-{index:06d}.segment"

    def _keys(self) -> list[str]:
        return sorted({path.name.partition("-")[0] for path in self.folder.glob("*-000000.segment")})

    def _segments(self, key: str) -> Iterator[tuple[Segment, float]]:
        index, first = 0, 0
        while (path := self._path(key, index)).exists():
            with sealed.opened(path, KIND, VERSION) as file:
                file.seek(sealed.HEADER)
                payload = file.read()
            segment, seconds = _decoded(payload, path)
            if (segment.index, segment.first) != (index, first):
                raise StoreError(f"{path} does not continue the segment before it; delete it and resume")
            yield segment, seconds
            index, first = index + 1, first + segment.samples

    def _addition(self, key: str, provenance: Mapping[str, str | float | int]) -> Addition | None:
        """The run of a finished simulation, its spins still to be read; None if it is not finished."""
        light, seconds, done = [], 0.0, False
        for segment, spent in self._segments(key):
            light.append(
                replace(
                    segment,
                    bits=segment.bits[:, :, :0].copy(),  # a view would keep the whole file in memory
                    energies=segment.energies.copy(),
                    magnetisations=segment.magnetisations.copy(),
                )
            )
            seconds, done = seconds + spent, segment.done
        if not done:
            return None
        run = join(light)
        about = run.provenance | ({"seconds": round(seconds, 3)} if seconds else {}) | dict(provenance)
        head = {field.name: getattr(run, field.name) for field in fields(Head) if field.name != "key"}
        size = run.chains, run.samples
        return Addition(Head(**head | {"provenance": about}, key=key), size, self._blocks(key))

    def _blocks(self, key: str) -> Iterator[Block]:
        for segment in self.segments(key):
            yield segment.bits, segment.energies, segment.magnetisations

    def _remove(self, published: set[str]) -> None:
        """Removes what the file holds by now, the last segment first, and the folder when it is empty."""
        for path in sorted(self.folder.glob("*.segment"), reverse=True):
            if path.name.partition("-")[0] in published:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # something is in it, or it is gone
            self.folder.rmdir()


def _encoded(segment: Segment, seconds: float) -> list[bytes | np.ndarray]:
    """The payload of a segment file, in pieces."""
    arrays = {
        "spins": segment.bits,
        "energies": segment.energies,
        "magnetisations": segment.magnetisations,
    }
    arrays |= {f"state/{name}": np.asarray(array) for name, array in segment.state.items()}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise StoreError(f"a segment holds arrays of numbers, {name} has the type {array.dtype}")
    about = {name: getattr(segment, name) for name in ("index", "first", "done")}
    about |= {
        "seconds": seconds,
        "n_sites": math.prod(segment.settings.shape),
        "settings": asdict(segment.settings),
    }
    about["arrays"] = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    return [json.dumps(about).encode() + b"\n", *arrays.values()]


def _decoded(payload: bytes, path: Path) -> tuple[Segment, float]:
    try:
        end = payload.index(b"\n")
        about, body = json.loads(payload[:end]), memoryview(payload)[end + 1 :]
        _check_types(about, ABOUT)
        _check_types(about["settings"], SETTINGS, OPTIONAL)
        arrays = _arrays(about["arrays"], body)
        spins, energies, magnetisations = (
            arrays.pop(name) for name in ("spins", "energies", "magnetisations")
        )
        expected = (*energies.shape, -(-about["n_sites"] // 8))
        sides = about["settings"]["shape"]
        if any(type(side) is not int for side in sides) or math.prod(sides) != about["n_sites"]:
            raise ValueError("its lattice does not have that many sites")
        if spins.dtype != np.uint8 or (spins.shape, magnetisations.shape) != (expected, expected[:2]):
            raise ValueError("its arrays do not fit together")
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} is not a segment of this version ({error}); delete it to simulate it again, or finish "
            "with the version that wrote it"
        ) from error
    settings = Settings(**about["settings"] | {"shape": tuple(about["settings"]["shape"])})
    state = {name.removeprefix("state/"): array.copy() for name, array in arrays.items()}
    segment = Segment(
        about["index"],
        about["first"],
        spins,
        energies,
        magnetisations,
        settings,
        state,
        about["done"],
    )
    return segment, float(about["seconds"])


def _check_types(
    found: object, types_of: Mapping[str, typing.Any], optional: frozenset[str] = frozenset()
) -> None:
    """Refuses what is not an object with these entries of these types."""
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    if wrong := (types_of.keys() - optional - found.keys()) | (found.keys() - types_of.keys()):
        raise ValueError(f"missing or unknown: {', '.join(sorted(wrong))[:80]}")
    for name, value in found.items():
        if not isinstance(value, types_of[name]):
            raise ValueError(f"{name} has the wrong type")


def _arrays(listed: list, body: memoryview) -> dict[str, np.ndarray]:
    """The arrays by name; none is made that is not in the file."""
    arrays, at = {}, 0
    for entry in listed:
        if not isinstance(entry, list) or [type(x) for x in entry] != [str, str, list]:
            raise ValueError("an array has no name, type and shape")
        name, code, shape = entry
        if not re.fullmatch(r"\|b1|[|<>](i|u)[1248]|[<>]f[248]", code):
            raise ValueError(f"the array {name!r} does not hold numbers")
        if any(type(side) is not int or not 0 <= side < 2**48 for side in shape):
            raise ValueError(f"the array {name!r} has no shape")
        kind, count = np.dtype(code), math.prod(shape)
        if count * kind.itemsize > len(body) - at:
            raise ValueError(f"the array {name!r} is not in the file")
        arrays[name] = np.frombuffer(body, kind, count, at).reshape(shape)
        at += count * kind.itemsize
    if missing := {"spins", "energies", "magnetisations", "state/acceptance"} - arrays.keys():
        raise ValueError(f"missing: {', '.join(sorted(missing))}")
    if arrays["energies"].ndim != 2:
        raise ValueError("energies must have the shape (chains, samples)")
    return arrays

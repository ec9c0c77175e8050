"""Files that are damaged, foreign or forged are refused in one sentence, and nothing is written then."""

import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ising import Ising, Run, lattices, store
from ising.store import archive, sealed
from tests.ising.store_cases import make_run, same, two_runs


@pytest.fixture
def path(tmp_path):
    return two_runs(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spins": np.ones((2, 3, 11), np.int8)}, r"shape \(chains, samples, 12\)"),
        ({"spins": np.ones((2, 0, 12), np.int8)}, r"shape \(chains, samples, 12\)"),
        ({"energies": np.zeros((2, 3))}, r"energies must have the shape \(10, 7\)"),
        ({"spins": np.zeros((10, 7, 12), np.int8)}, "2 . x - 1"),
        ({"spins": np.ones((10, 7, 12))}, "must be int8"),
        ({"bits": np.ones((10, 7, 3), np.uint8)}, r"shape \(chains, samples, 2\)"),
        ({"bits": np.ones((10, 7, 2))}, "must be uint8"),
        ({"bits": np.full((10, 7, 2), 8, np.uint8)}, "past the last site must be 0"),
    ],
)
def test_append_refuses_arrays_that_do_not_fit(path, wrong, message):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        store.append(path, replace(make_run(), **wrong))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Ising(lattices.rectangular(3, 4)), "h is 0.25 in the file and 0.0 in this run"),
        (Ising(lattices.rectangular(4, 3), h=0.25), r"shape is \[3, 4\] in the file and \[4, 3\]"),
        (Ising(lattices.rectangular(3, 4, pbc=False), h=0.25), r"pbc is \[true, true\]"),
    ],
)
def test_append_refuses_another_hamiltonian(path, other, message):
    before = path.read_bytes()
    with pytest.raises(store.StoreError, match=message):
        store.append(path, make_run(model=other))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["runs.h5"]


def read_all(path: Path) -> list[Run]:
    store.summary(path)
    return [*store.runs(path)]


def foreign_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["spins"] = np.ones(4)


FOREIGN = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("beta,energy\n0.44,-1.5\n" * 100),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "foreign HDF5": foreign_hdf5,
    "a segment": lambda path: path.write_bytes(path.read_bytes().replace(b"ising-runs", b"ising-segm")),
    "a newer version": lambda path: path.write_bytes(
        path.read_bytes().replace(b"ising-runs 1", b"ising-runs 2", 1)
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_refused(path, kind):
    FOREIGN[kind](path)
    with pytest.raises(store.StoreError) as refusal:
        read_all(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    if kind == "missing":
        return
    with pytest.raises(store.StoreError):
        store.append(path, make_run())


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.05, 0.3, 0.7, 0.999])
def test_truncated_files_are_refused(path, fraction):
    raw = path.read_bytes()
    path.write_bytes(raw[: int(fraction * len(raw))])
    with pytest.raises(store.StoreError):
        read_all(path)


def test_a_flipped_bit_never_passes(path):
    """Anywhere in the file, the header included."""
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, 512, 40), *rng.integers(0, len(raw), 160)]:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(store.StoreError, match=r"damaged|begin|bytes|version"):
            read_all(path)
    path.write_bytes(raw)
    assert len(read_all(path)) == 2


def test_a_change_after_the_first_reading_is_seen(path):
    read_all(path)
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(store.StoreError, match="damaged"):
        read_all(path)


# Files with a right hash and wrong content


def forge(path: Path, edit) -> None:
    """Lets ``edit`` change the HDF5 content and seals it again, as somebody hostile would."""
    with h5py.File(path, "r+", libver=archive.LIBVER) as file:
        edit(file)
    content = path.read_bytes()
    with sealed.replaced(path, archive.KIND, archive.VERSION) as file:
        file.write(content)


def again(name: str, data: np.ndarray | None = None, **options: object):
    """Replaces a dataset of the first run by another."""

    def edit(file: h5py.File) -> None:
        old = file["runs/0000"][name][()]
        del file["runs/0000"][name]
        plain = {"chunks": True, "fletcher32": True} | options
        file["runs/0000"].create_dataset(
            name, data=old if data is None and "shape" not in options else data, **plain
        )

    return edit


def link(target: object):
    def edit(file: h5py.File) -> None:
        del file["runs/0000/energy"]
        file["runs/0000"]["energy"] = target

    return edit


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((10, 7), "<f8")
    layout[:] = h5py.VirtualSource("/etc/hostname", "energy", (10, 7))
    del file["runs/0000/energy"]
    file["runs/0000"].create_virtual_dataset("energy", layout)


def external(file: h5py.File) -> None:
    del file["runs/0000/energy"]
    file["runs/0000"].create_dataset("energy", (10, 7), "<f8", external=[("/etc/passwd", 0, 560)])


def aliases(file: h5py.File) -> None:
    for k in range(2, 300):
        file[f"runs/{k:04d}"] = file["runs/0000"]


def attribute(name: str, value: object, where: str = "runs/0000"):
    def edit(file: h5py.File) -> None:
        file[where].attrs[name] = value

    return edit


def text(where: str, value: bytes):
    def edit(file: h5py.File) -> None:
        del file[where]
        file[where] = np.bytes_(value)

    return edit


def model(**change: object):
    """Changes entries of the model; None removes one."""

    def edit(file: h5py.File) -> None:
        entries = json.loads(file["model"][()]) | change
        kept = {name: value for name, value in entries.items() if value is not None}
        text("model", json.dumps(kept).encode())(file)

    return edit


GIANT = {"shape": (10_000, 2_000_000, 2), "dtype": "u1", "chunks": (1, 1000, 2)}
FORGED = {
    "soft link": link(h5py.SoftLink("/runs/0001/energy")),
    "external link": link(h5py.ExternalLink("/etc/other.h5", "/energy")),
    "virtual dataset": virtual,
    "external storage": external,
    "gzip": again("energy", compression="gzip"),
    "no checksum": again("spins", fletcher32=False),
    "wrong type": again("energy", np.zeros((10, 7), np.float32)),
    "other byte order": again("energy", np.zeros((10, 7), ">f8")),
    "object type": again("energy", np.full((10, 7), b"x", h5py.string_dtype()), fletcher32=False),
    "wrong shape": again("energy", np.zeros((10, 6))),
    "one axis": again("energy", np.zeros(70)),
    "giant shape": again("spins", **GIANT),
    "giant energies": again("energy", shape=(1 << 20, 1 << 20), dtype="<f8", chunks=(1, 1 << 10)),
    "giant chunks": again(
        "energy", shape=(10, 7), dtype="<f8", chunks=(1 << 14, 1 << 14), maxshape=(None, None)
    ),
    "never written": again("energy", shape=(10, 7), dtype="<f8", chunks=(1, 7)),
    "one run under many names": aliases,
    "a dataset as a run": lambda file: file["runs"].create_dataset("0002", data=1),
    "a name that is no number": lambda file: file["runs"].create_group("best"),
    "a run without numbers": lambda file: file["runs"].create_group("0002"),
    "no runs": lambda file: (file.pop("runs"), file.create_group("runs"))[0] and None,
    "no model": lambda file: file.pop("model") and None,
    "no beta": lambda file: file["runs/0000"].attrs.pop("beta") and None,
    "beta is NaN": attribute("beta", np.nan),
    "beta is a list": attribute("beta", [0.4, 0.5]),
    "beta is a word": attribute("beta", np.bytes_("cold")),
    "negative beta": attribute("beta", -0.4),
    "thin is 0": attribute("thin", 0),
    "text of variable length": attribute("update", "wolff"),
    "a seed that is no number": attribute("seed", np.bytes_("x")),
    "another lattice": attribute("shape", [4, 5], "/"),
    "a giant lattice": attribute("shape", [1 << 31, 1 << 31], "/"),
    "a negative lattice": attribute("shape", [-3, -4], "/"),
    "another version inside": attribute("version", 2, "/"),
    "a model that is no JSON": text("model", b"{J: 1"),
    "a model that is a list": text("model", b"[1, 2]"),
    "a model with an entry too many": model(temperature=1.0),
    "a model without its field": model(h=None),
    "a model on an unknown lattice": model(lattice="kagome"),
    "a size that is not the shape": model(size=[4, 3]),
    "a giant size": model(size=[1 << 40, 1 << 40], J=[1.0]),
    "a giant cube": model(lattice="cubic", size=[1 << 20], J=[1.0]),
    "a size of words": model(size=["3", "4"]),
    "boundaries for another dimension": model(pbc=[True]),
    "a coupling that is infinite": model(J=float("inf")),
    "a coupling that is a word": model(J="1"),
    "a coupling beyond all numbers": model(J=10**400),
    "couplings for other bonds": model(J=[1.0] * 23),
    "fields for other sites": model(h=[1.0] * 11),
    "an attribute without a value": attribute("beta", h5py.Empty("f8")),
    "a shape without a value": attribute("shape", h5py.Empty("i8"), "/"),
    "no shape": lambda file: file.attrs.__delitem__("shape"),
    "a model without a bottom": text("model", b"[" * 100_000),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_files_are_refused_before_they_are_read(path, kind):
    forge(path, FORGED[kind])
    with pytest.raises(store.StoreError, match=r"runs\.h5") as refusal:
        read_all(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("mistake", [TypeError, KeyError])
def test_mistakes_of_the_library_are_not_blamed_on_the_file(path, monkeypatch, mistake):
    def broken(*_: object, **__: object) -> None:
        raise mistake

    monkeypatch.setattr(archive, "read_entries", broken)
    with pytest.raises(mistake):
        read_all(path)


def test_forging_alone_is_not_what_is_refused(path):
    forge(path, attribute("comment", "a new attribute is ignored"))
    assert same(next(store.runs(path)), make_run())

"""The dataset format: what goes in comes out, labels stay with their spins, splits stay apart."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ising import Ising, Run, lattices, store
from ising.model import restore
from ising.simulate import simulate, stream
from ising.store import archive, sealed
from ising.store.layout import pack, unpack

GOLDEN = Path(__file__).parents[1] / "golden" / "ising-runs-1.h5"
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
    arrays = ("spins", "energies", "magnetisations")
    plain = all(getattr(a, name) == getattr(b, name) for name in fields - set(arrays))
    return plain and all(
        getattr(a, name).dtype == getattr(b, name).dtype
        and np.array_equal(getattr(a, name), getattr(b, name))
        for name in arrays
    )


@pytest.fixture
def path(tmp_path):
    """A file with two runs."""
    target = tmp_path / "runs.h5"
    assert [store.append(target, make_run(beta)) for beta in (0.44, 0.3)] == ["/runs/0000", "/runs/0001"]
    return target


# What goes in comes out


def test_round_trip(path):
    assert [same(a, b) for a, b in zip(store.runs(path), [make_run(0.44), make_run(0.3)], strict=True)] == [
        True
    ] * 2
    [back] = store.runs(path, beta=0.3 * (1 + 1e-12))
    assert same(back, make_run(0.3))
    assert not same(back, make_run(0.3, seed=2))
    assert store.betas(path) == [0.3, 0.44]
    assert [p.name for p in path.parent.iterdir()] == ["runs.h5"]


@pytest.mark.parametrize("n_sites", [*range(1, 18), 63, 64, 65])
def test_bits(n_sites):
    spins = np.random.default_rng(n_sites).choice(np.array([-1, 1], np.int8), (2, 3, n_sites))
    bits = pack(spins)
    assert bits.shape == (2, 3, -(-n_sites // 8))
    np.testing.assert_array_equal(unpack(bits, n_sites), spins)


def test_a_glass_with_more_couplings_than_an_attribute_holds(tmp_path):
    couplings = torch.randn(2 * 48 * 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    glass = Ising(lattices.square(48), J=couplings)
    store.append(tmp_path / "glass.h5", make_run(chains=1, samples=1, model=glass))
    [back] = store.runs(tmp_path / "glass.h5")
    assert torch.equal(restore(**back.model).J, couplings)


def test_seeds_of_any_size_and_unknown_times(tmp_path):
    run = replace(make_run(), seed=2**200, provenance={"tau": float("inf")})
    store.append(tmp_path / "a.h5", run)
    assert same(next(store.runs(tmp_path / "a.h5")), run)


def test_the_specification_is_enough_to_read_a_file(path):
    """An independent reader, written from the docstring of ising.store alone."""
    raw = path.read_bytes()
    lines = raw[:512].decode("ascii").splitlines()
    assert lines[:2] == ["ising-runs 1", f"payload {len(raw) - 512:015d}"]
    assert lines[2] == f"sha256 {hashlib.sha256(raw[512:]).hexdigest()}"
    with h5py.File(path) as file:
        assert (file.attrs["format"], file.attrs["version"], file.attrs["shape"].tolist()) == (
            b"ising-runs",
            1,
            [3, 4],
        )
        model, group = json.loads(file["model"][()]), file["runs/0000"]
        spins = 2 * np.unpackbits(group["spins"][:], axis=-1, count=12).astype("int8") - 1
        np.testing.assert_array_equal(spins, make_run().spins)
        hashes = [
            hashlib.sha256(np.ascontiguousarray(group[name][:].swapaxes(0, 1)).tobytes()).hexdigest()
            for name in ("spins", "energy", "magnetisation")
        ]
        content = [model, [3, 4], 0.44, "metropolis", 1, 10, 2, 10, *hashes]
        expected = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        assert group.attrs["content_sha256"].decode() == expected
        assert {group[name].fletcher32 for name in ("spins", "energy", "magnetisation")} == {True}


def test_the_golden_file_reads_as_ever():
    assert store.digest(GOLDEN) == "f63d6396fd3a1bc7bde1d4ebbb0f8625432fc52f540abd2ec257676949e1dc35"
    first, second = store.runs(GOLDEN)
    assert (first.beta, second.beta, first.seed, first.burn_in, first.thin) == (0.44, 0.3, 7, 10, 2)
    assert first.provenance == {"made_by": "tests/golden/make.py"}
    assert first.spins[0, 0].tolist() == [-1, 1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1]
    for run in (first, second):
        energies = restore(**run.model).energy(torch.from_numpy(run.spins)).numpy()
        np.testing.assert_array_equal(energies, run.energies)
        np.testing.assert_array_equal(run.spins.sum(-1), run.magnetisations)


def test_digest_counts_physics_only(path, tmp_path):
    other = tmp_path / "other.h5"
    for beta in (0.3, 0.44):
        store.append(other, replace(make_run(beta), provenance={"seconds": 99.0}))
    assert store.digest(other) == store.digest(path)
    store.append(other, make_run(0.3, seed=2))
    assert store.digest(other) != store.digest(path)


def test_summary(path):
    about = store.summary(path)
    assert about["model"] == MODEL.describe()
    assert about["digest"] == store.digest(path)
    assert about["bytes"] == path.stat().st_size
    first = about["runs"][0]
    assert (first["chains"], first["samples"], first["seed"], first["beta"]) == (10, 7, 1, 0.44)
    assert (first["energy"], first["abs_m"]) == (make_run().energy, make_run().abs_m)


# Refusals


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spins": np.ones((2, 3, 11), np.int8)}, r"shape \(chains, samples, 12\)"),
        ({"spins": np.ones((2, 0, 12), np.int8)}, r"shape \(chains, samples, 12\)"),
        ({"energies": np.zeros((2, 3))}, r"energies must have the shape \(10, 7\)"),
        ({"spins": np.zeros((10, 7, 12), np.int8)}, "2 . x - 1"),
        ({"spins": np.ones((10, 7, 12))}, "must be int8"),
    ],
)
def test_append_refuses_arrays_that_do_not_fit(path, wrong, message):
    before = path.read_bytes()
    with pytest.raises(store.StoreError, match=message):
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
    "a model without a bottom": text("model", b"[" * 100_000),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_files_are_refused_before_they_are_read(path, kind):
    forge(path, FORGED[kind])
    with pytest.raises(store.StoreError, match=r"runs\.h5") as refusal:
        read_all(path)
    assert "\n" not in str(refusal.value)


def test_forging_alone_is_not_what_is_refused(path):
    forge(path, attribute("comment", "a new attribute is ignored"))
    assert same(next(store.runs(path)), make_run())


# Labels and splits


def test_labels_belong_to_their_spins(path):
    data = store.Configurations(path)
    assert len(data) == 140 == len(data.spins)
    assert data.spins.dtype == torch.float32
    assert torch.equal(MODEL.energy(data.spins), data.energy)
    assert torch.equal(data.spins.sum(-1).double(), data.magnetisation)
    assert not torch.equal(MODEL.energy(data.spins), data.energy.roll(1))  # the check sees a shift by one row
    original = {0.44: make_run(0.44), 0.3: make_run(0.3)}
    for k in range(0, 140, 13):
        row = data[k]
        run = original[row.beta.item()]
        np.testing.assert_array_equal(row.spins, run.spins[row.chain, row.sample])
        assert list(original)[row.run] == row.beta
    assert [column.shape for column in data[3:9]] == [(6, 12)] + [(6,)] * 6
    with pytest.raises(IndexError):
        data[140]


def test_splits_share_no_chain_and_lose_none(path):
    parts = [store.Configurations(path, split=split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [112, 14, 14]
    chains = [set(zip(part.run.tolist(), part.chain.tolist(), strict=True)) for part in parts]
    assert sum(map(len, chains)) == len(set().union(*chains)) == 20
    assert set().union(*chains) == {(run, chain) for run in range(2) for chain in range(10)}
    assert [{chain for _, chain in some} for some in chains] == [set(range(8)), {8}, {9}]
    everything = torch.cat([part.spins for part in parts])
    assert torch.equal(everything.sort(0).values, store.Configurations(path).spins.sort(0).values)
    halves = store.Configurations(path, split="test", fractions=(0.5, 0.0, 0.5), beta=0.3)
    assert (halves.chain.unique().tolist(), halves.beta.unique().tolist()) == ([5, 6, 7, 8, 9], [0.3])


def test_splits_refuse_what_they_cannot_split(tmp_path):
    store.append(tmp_path / "few.h5", make_run(chains=2))
    with pytest.raises(store.StoreError, match=r"2 chain.*too few to give 10% of them to validation"):
        store.Configurations(tmp_path / "few.h5", split="validation")
    with pytest.raises(store.StoreError, match=r"no run at beta = 0.5; choose one of 0.44"):
        store.Configurations(tmp_path / "few.h5", beta=0.5)
    with pytest.raises(ValueError, match="one of train, validation, test or all"):
        store.Configurations(tmp_path / "few.h5", split="dev")
    with pytest.raises(ValueError, match="sum to 1"):
        store.Configurations(tmp_path / "few.h5", fractions=(0.8, 0.1, 0.2))


def test_configurations_travel_and_load_in_batches(path):
    data = store.Configurations(path, split="train", beta=0.44)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.spins, data.spins)
    assert len(pickle.dumps(data)) < 1500  # the name of the file, not its content
    batches = list(DataLoader(data, batch_size=20))
    assert torch.equal(torch.cat([batch.spins for batch in batches]), data.spins)
    assert torch.equal(torch.cat([batch.energy for batch in batches]), data.energy)


def test_configurations_notice_another_file(path):
    data = store.Configurations(path, beta=0.44)
    store.append(path, make_run(0.5))
    assert len(data.spins) == 70
    stale = store.Configurations(path, beta=0.44)
    path.unlink()
    store.append(path, make_run(0.44, seed=2))
    with pytest.raises(store.StoreError, match="replaced since"):
        _ = stale.spins


# The journal


def keep(journal: store.Journal, beta: float, segment: int, stop: int | None = None) -> str:
    """Simulates into the journal, up to ``stop`` segments in this call."""
    key = journal.key(model=MODEL.describe(), beta=beta, **SETTINGS)
    segments = stream(MODEL, beta=beta, **SETTINGS, segment=segment, resume=journal.last(key))
    for made, part in enumerate(segments, 1):
        journal.write(key, part, seconds=0.25)
        if made == stop:
            break
    return key


def test_interrupted_and_uninterrupted_runs_have_one_digest(tmp_path):
    whole, parts = store.Journal(tmp_path / "whole.h5"), store.Journal(tmp_path / "parts.h5")
    keys = [keep(whole, beta, segment=9) for beta in (0.5, 0.3)]
    for beta in (0.5, 0.3):
        for segment in (2, 3, 2, 2):
            keep(store.Journal(tmp_path / "parts.h5"), beta, segment, stop=1)
    assert whole.publish(keys) == parts.publish() == ["/runs/0000", "/runs/0001"]
    assert store.digest(whole.path) == store.digest(parts.path)
    assert not whole.folder.exists()
    assert [run.beta for run in store.runs(whole.path)] == [0.5, 0.3]
    [run] = store.runs(parts.path, beta=0.5)
    direct = simulate(MODEL, beta=0.5, **SETTINGS)
    assert run.provenance["seconds"] == 1.0
    assert same(replace(run, provenance={}), replace(direct, provenance={}))
    store.append(tmp_path / "direct.h5", direct)
    store.append(tmp_path / "direct.h5", simulate(MODEL, beta=0.3, **SETTINGS))
    assert store.digest(tmp_path / "direct.h5") == store.digest(parts.path)


def test_a_segment_comes_back_whole(tmp_path):
    journal = store.Journal(tmp_path / "runs.h5")
    [made, *_] = stream(MODEL, beta=0.4, **SETTINGS, segment=4)
    journal.write("key", made)
    [back] = journal.segments("key")
    assert (back.index, back.first, back.done, back.settings) == (
        made.index,
        made.first,
        made.done,
        made.settings,
    )
    for name in ("spins", "energies", "magnetisations"):
        np.testing.assert_array_equal(getattr(back, name), getattr(made, name))
    assert back.state.keys() == made.state.keys()
    for name, array in made.state.items():
        assert back.state[name].dtype == array.dtype
        np.testing.assert_array_equal(back.state[name], array)


def test_publishing_leaves_the_unfinished_and_adds_nothing_twice(tmp_path):
    journal = store.Journal(tmp_path / "runs.h5")
    done, begun = keep(journal, 0.5, segment=3), keep(journal, 0.3, segment=3, stop=1)
    with pytest.raises(store.StoreError, match="not finished"):
        journal.publish([done, begun])
    assert not journal.path.exists()
    saved = {path: path.read_bytes() for path in journal.folder.iterdir()}
    assert journal.publish(provenance={"command": "physgen simulate"}) == ["/runs/0000"]
    assert (journal.published(done), journal.published(begun)) == (True, False)
    assert next(store.runs(journal.path)).provenance["command"] == "physgen simulate"
    for path, content in saved.items():  # as if killed between the rename and the removal
        path.write_bytes(content)
    assert journal.publish() == []
    assert {path.name.partition("-")[0] for path in journal.folder.iterdir()} == {begun}
    assert keep(journal, 0.3, segment=3) == begun
    assert journal.publish() == ["/runs/0001"]


def test_damaged_segments_are_named_and_can_be_made_again(tmp_path):
    journal = store.Journal(tmp_path / "runs.h5")
    key = keep(journal, 0.5, segment=3)
    second = journal.folder / f"{key}-000001.segment"
    good = second.read_bytes()
    second.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(store.StoreError, match=r"000001\.segment is damaged"):
        journal.last(key)
    with pytest.raises(store.StoreError, match=r"000001\.segment is damaged"):
        journal.publish()
    second.unlink()
    assert journal.last(key).index == 0
    keep(journal, 0.5, segment=3)
    assert second.read_bytes() == good
    shutil.copy(second, journal.folder / f"{key}-000003.segment")
    with pytest.raises(store.StoreError, match="does not continue"):
        journal.last(key)


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON",
        b"[" * 50_000,
        b"[]",
        b'{"arrays": [["spins", "O", [2]]]}',
        b'{"arrays": [["spins", "u1", [1000000000000]]]}',
        b'{"arrays": [["spins", "u1", [-1]]]}',
    ],
)
def test_forged_segments_are_refused(tmp_path, line):
    journal = store.Journal(tmp_path / "runs.h5")
    journal.folder.mkdir()
    with sealed.replaced(journal.folder / "key-000000.segment", "ising-segment", 1) as file:
        file.seek(sealed.HEADER)
        file.write(line + b"\n" + bytes(16))
    with pytest.raises(store.StoreError, match="not a segment"):
        journal.last("key")


def test_keys_name_the_settings():
    assert store.Journal.key(beta=0.4, seed=1) == store.Journal.key(seed=1, beta=0.4)
    assert store.Journal.key(beta=0.4, seed=1) != store.Journal.key(beta=0.4, seed=2)
    with pytest.raises(store.StoreError, match="letters and digits"):
        store.Journal("runs.h5").last("../etc")


# Full disks and killed writers


def refusal_of(path: Path) -> str | None:
    """What is said when a run cannot be added, None if it can."""
    try:
        store.append(path, make_run(0.6))
    except store.StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("call", ["pwrite", "fsync", "ftruncate"])
def test_a_full_disk_costs_nothing_that_was_there(path, monkeypatch, call):
    """Every single call fails once."""
    before, real = path.read_bytes(), getattr(os, call)
    for fatal in range(1, 1000):
        calls = 0

        def full(descriptor: int, *rest: object, fatal: int = fatal) -> int:
            nonlocal calls
            calls += 1
            if calls >= fatal:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(descriptor, *rest)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            sentence = refusal_of(path)
        if sentence is None:
            break
        assert "No space left on device" in sentence
        assert "\n" not in sentence
        assert path.read_bytes() == before or store.betas(path) == [0.3, 0.44, 0.6]  # one or the other, whole
        path.write_bytes(before)
        assert [p.name for p in path.parent.iterdir()] == ["runs.h5"]
    assert fatal > 1
    assert store.betas(path) == [0.3, 0.44, 0.6]


def test_a_limit_of_the_system_ends_in_a_sentence_and_not_in_a_crash(path):
    """A real limit, in a process of its own, which must also end well."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from ising import store
from tests.ising.test_store import make_run
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    store.append({str(path)!r}, make_run(chains=1000))
except store.StoreError as error:
    print(error)
"""
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "File too large; nothing that was there before is lost" in done.stdout
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(store.StoreError, match="could not make the folder"):
        store.append(tmp_path / "file" / "runs.h5", make_run())


def test_a_writer_killed_anywhere_loses_nothing_acknowledged(tmp_path):
    """See store_faults.py; two planted bugs show that its examination has power."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.ising.store_faults", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kill"] == found["power"] > 100
    assert found["removes first"]
    assert found["never flushes"]
    assert found["together"] == 12

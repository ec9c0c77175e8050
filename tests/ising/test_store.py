"""The dataset format: what goes in comes out, labels stay with their spins, splits stay apart."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ising import Ising, lattices, store
from ising.kernels.bits import pack, unpack
from ising.model import restore
from ising.store import archive, layout
from tests.ising.store_cases import MODEL, make_run, same, two_runs

GOLDEN = Path(__file__).parents[1] / "golden" / "ising-runs-1.h5"


@pytest.fixture
def path(tmp_path):
    return two_runs(tmp_path)


def test_round_trip(path):
    assert [same(a, b) for a, b in zip(store.runs(path), [make_run(0.44), make_run(0.3)], strict=True)] == [
        True
    ] * 2
    [back] = store.runs(path, beta=0.3 * (1 + 1e-12))
    assert same(back, make_run(0.3))
    assert not same(back, make_run(0.3, seed=2))
    assert store.betas(path) == [0.3, 0.44]
    assert [p.name for p in path.parent.iterdir()] == ["runs.h5"]


def test_temperatures_that_are_nearly_alike_are_told_apart(tmp_path):
    near = [make_run(0.44), make_run(0.44 * (1 + 1e-8))]
    for run in near:
        store.append(tmp_path / "runs.h5", run)
    assert [[back.beta for back in store.runs(tmp_path / "runs.h5", beta=run.beta)] for run in near] == [
        [run.beta] for run in near
    ]


def test_runs_are_numbered_and_may_repeat(tmp_path):
    names = [store.append(tmp_path / "new" / "runs.h5", make_run()) for _ in range(3)]
    assert names == ["/runs/0000", "/runs/0001", "/runs/0002"]


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


def test_however_a_run_is_cut_in_blocks_it_is_the_same_run(tmp_path, monkeypatch):
    """Chunks hold so many samples of so many chains that they are written once and in one go."""
    run, digests, chunks = make_run(chains=9, samples=23), set(), []
    for bytes_of_block, bytes_of_chunk in ((1 << 24, 1 << 19), (9 * 2 * 5, 20), (1, 1)):
        monkeypatch.setattr(layout, "BLOCK", bytes_of_block)
        monkeypatch.setattr(layout, "CHUNK", bytes_of_chunk)
        for pieces in ([23], [4, 4, 4, 4, 4, 3], [1] * 23):
            path = tmp_path / f"{bytes_of_block}-{len(pieces)}.h5"
            cuts = np.cumsum(pieces)[:-1]
            arrays = (np.split(x, cuts, axis=1) for x in (run.bits, run.energies, run.magnetisations))
            [addition] = [replace(archive._addition(run), blocks=list(zip(*arrays, strict=True)))]
            archive.add(path, [addition])
            assert same(next(store.runs(path)), run)
            digests.add(store.digest(path))
        with h5py.File(path) as file:
            chunks.append((file["runs/0000/spins"].chunks, file["runs/0000/energy"].chunks))
    assert len(digests) == 1
    assert chunks == [((9, 23, 2), (9, 23)), ((2, 5, 2), (1, 5)), ((1, 1, 2), (1, 1))]

"""The journal of running simulations: interrupted, damaged, on a full disk, killed at every write."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ising import store
from ising.simulate import simulate, stream
from ising.store import sealed
from tests.checks import steps_of_publishing
from tests.ising.store_cases import MODEL, SETTINGS, make_run, same, two_runs


@pytest.fixture
def path(tmp_path):
    return two_runs(tmp_path)


def test_a_file_is_on_the_disk_before_it_gets_its_name(path, monkeypatch):
    """A loss of power, unlike a kill, loses what was written and not flushed."""
    steps = steps_of_publishing(monkeypatch)
    store.append(path, make_run(seed=9))
    assert steps == ["file", "name", "folder"]
    steps.clear()
    keep(store.Journal(path), 0.4, 100, stop=1)
    assert steps[-3:] == ["file", "name", "folder"]


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
        b"{}",
        {"arrays": [["spins", "O", [2]]]},
        {"arrays": [["spins", "u1", [1000000000000]]]},
        {"arrays": [["spins", "u1", [-1]]]},
        {"arrays": [["spins", "u1"]]},
        {"arrays": []},
        {"n_sites": 20},
        {"n_sites": None},
        {"index": "0"},
        {"more": 1},
        {"settings": {"beta": 0.4}},
    ],
)
def test_forged_segments_are_refused(tmp_path, line):
    """A dictionary changes entries of a good segment."""
    journal = store.Journal(tmp_path / "runs.h5")
    keep(journal, 0.4, segment=9)
    [path] = journal.folder.iterdir()
    good, _, body = path.read_bytes()[sealed.HEADER :].partition(b"\n")
    if isinstance(line, dict):
        line = json.dumps(json.loads(good) | line).encode()
    with sealed.replaced(journal.folder / "key-000000.segment", "ising-segment", 1) as file:
        file.seek(sealed.HEADER)
        file.write(line + b"\n" + body)
    with pytest.raises(store.StoreError, match="not a segment"):
        journal.last("key")


def test_segments_from_before_burn_in_asked_are_readable(tmp_path):
    journal = store.Journal(tmp_path / "runs.h5")
    key = keep(journal, 0.4, segment=3, stop=1)
    [path] = journal.folder.iterdir()
    line, _, body = path.read_bytes()[sealed.HEADER :].partition(b"\n")
    about = json.loads(line)
    del about["settings"]["burn_in_asked"]
    with sealed.replaced(path, "ising-segment", 1) as file:
        file.seek(sealed.HEADER)
        file.write(json.dumps(about).encode() + b"\n" + body)
    assert journal.last(key).settings.burn_in_asked is None
    assert keep(journal, 0.4, segment=3) == key  # and can be resumed


def test_a_folder_removed_under_a_writer_is_made_again(tmp_path, monkeypatch):
    journal, make = store.Journal(tmp_path / "runs.h5"), sealed.make_folder
    removed = []

    def late(folder: Path) -> None:
        make(folder)
        if not removed:
            removed.append(folder.rmdir())

    monkeypatch.setattr(sealed, "make_folder", late)
    key = keep(journal, 0.5, segment=9)
    assert removed
    assert journal.last(key).done


def test_a_folder_that_fills_up_before_it_is_removed_stays(tmp_path, monkeypatch):
    journal, remove = store.Journal(tmp_path / "runs.h5"), Path.rmdir
    keep(journal, 0.5, segment=9)

    def late(folder: Path) -> None:
        (folder / "another.segment").write_text("")
        remove(folder)

    monkeypatch.setattr(Path, "rmdir", late)
    assert journal.publish() == ["/runs/0000"]
    assert (journal.folder / "another.segment").exists()


def test_segments_of_other_lengths_do_not_continue_each_other(tmp_path):
    short, long = (store.Journal(tmp_path / name) for name in ("short.h5", "long.h5"))
    key = keep(short, 0.4, 3, stop=2)
    keep(long, 0.4, 4, stop=1)
    shutil.copy(long.folder / f"{key}-000000.segment", short.folder)
    with pytest.raises(store.StoreError, match="does not continue the segment before it"):
        short.last(key)


def test_keys_name_the_settings():
    assert store.Journal.key(beta=0.4, seed=1) == store.Journal.key(seed=1, beta=0.4)
    assert store.Journal.key(beta=0.4, seed=1) != store.Journal.key(beta=0.4, seed=2)
    with pytest.raises(store.StoreError, match="letters and digits"):
        store.Journal("runs.h5").last("../etc")


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
from tests.ising.store_cases import make_run
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
    """Nor does a loss of power; two planted bugs show that the examination of store_faults.py notices."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.ising.store_faults", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["places"] > 80
    assert found["removes first"]
    assert found["never flushes"]
    assert found["together"] == 12

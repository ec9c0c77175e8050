"""Kills a writer at every single call to the disk and checks what is left. Run by test_store_journal.py.

All bytes of a store pass through a few functions of ``os``. Here each of them counts; at the k-th call the
process kills itself, before the call or, for a write, with half of the bytes written. It leaves a second copy
of the folder as a loss of power would: files that were written and not flushed are empty, and renames whose
folder was not flushed are undone.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ising import Ising, lattices, store
from ising.simulate import simulate, stream
from ising.store import sealed

CHANGES = ("open", "pwrite", "ftruncate", "fsync", "replace", "unlink", "mkdir", "rmdir")
MODEL = Ising(lattices.chain(9), h=0.2)
SETTINGS = {"update": "metropolis", "chains": 3, "samples": 4, "burn_in": 2, "thin": 1, "seed": 4}
BETAS = (0.5, 0.3)


def _path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


class Disk:
    """Counts the calls that change the disk and dies at the k-th."""

    def __init__(self, fatal: int, folder: Path, after_power_loss: Path) -> None:
        self.fatal, self.folder, self.after_power_loss, self.calls = fatal, folder, after_power_loss, 0
        self.real = {name: getattr(os, name) for name in CHANGES}
        self.unflushed: set[str] = set()  # files whose content is not on the disk yet
        self.renames: list[tuple[str, str, bytes | None]] = []  # from, to, what was there

    def install(self) -> None:
        for name in CHANGES:
            setattr(os, name, getattr(self, name, self._counted(name)))

    def _counted(self, name: str) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            self.tick()
            return self.real[name](*args, **kwargs)

        return call

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self.tick()
        return self.real["open"](path, flags, mode)

    def tick(self) -> bool:
        """Counts one place to die at, and tells whether the next one is it."""
        self.calls += 1
        if self.calls == self.fatal:
            self.die()
        return self.calls + 1 == self.fatal

    def die(self) -> None:
        for name, function in self.real.items():
            setattr(os, name, function)
        shutil.copytree(self.folder, self.after_power_loss)
        there = {
            path: str(path).replace(str(self.folder), str(self.after_power_loss)) for path in self.unflushed
        }
        for path in there.values():
            if Path(path).exists():
                os.truncate(path, 0)
        for source, target, before in reversed(self.renames):
            old, new = (
                Path(str(p).replace(str(self.folder), str(self.after_power_loss))) for p in (source, target)
            )
            if new.exists():
                new.rename(old) if before is None else new.write_bytes(before)
        os.kill(os.getpid(), signal.SIGKILL)

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.unflushed.add(_path(descriptor))
        if self.tick():
            self.real["pwrite"](descriptor, data[: len(data) // 2], offset)
        self.tick()
        return self.real["pwrite"](descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        self.tick()
        path = _path(descriptor)
        self.unflushed.discard(path)
        self.renames = [entry for entry in self.renames if str(Path(entry[1]).parent) != path]
        self.real["fsync"](descriptor)

    def replace(self, source: str, target: str) -> None:
        self.tick()
        before = Path(target).read_bytes() if Path(target).exists() else None
        self.renames.append((str(source), str(target), before))
        self.real["replace"](source, target)


class NeverFlushes(Disk):
    """A planted bug: renames come before the bytes they publish."""

    def fsync(self, descriptor: int) -> None:
        self.tick()
        self.real["fsync"](descriptor)


class RemovesFirst(Disk):
    """A planted bug: the old file goes before the new one comes."""

    def replace(self, source: str, target: str) -> None:
        if Path(target).exists():
            self.real["unlink"](target)
        super().replace(source, target)


def scenario(path: Path, acknowledge: Callable[[str], None]) -> None:
    """Two simulations in segments, through the journal into a file that holds a run already."""
    journal = store.Journal(path)
    for beta in BETAS:
        key = journal.key(model=MODEL.describe(), beta=beta, **SETTINGS)
        if journal.published(key):
            continue
        last = journal.last(key)
        if last is None or not last.done:
            for segment in stream(MODEL, beta=beta, **SETTINGS, segment=2, resume=last):
                journal.write(key, segment)
                acknowledge(f"{key} {segment.index}")
    journal.publish()
    acknowledge("published")


def before(path: Path) -> None:
    """What is on the disk when the scenario begins."""
    store.append(path, simulate(MODEL, beta=0.1, **SETTINGS))


def forked(body: Callable[[Callable[[str], None]], None]) -> tuple[list[str], bool]:
    """What a child process acknowledged, and whether it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            body(lambda text: os.write(write, f"{text}\n".encode()))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as lines:
        acknowledged = lines.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise AssertionError(f"the writer ended with status {status}")
    return acknowledged, status != 0


def examine(path: Path, acknowledged: list[str], expected: str) -> None:
    """Nothing acknowledged is lost, and going on ends in the digest of a run that was never stopped."""
    sealed._verified.clear()
    found = store.betas(path)
    assert found in ([0.1], [0.1, *sorted(BETAS)]), "what was there is lost, or only a part was published"
    assert len(found) == 3 or "published" not in acknowledged, "an acknowledged publication is lost"
    journal = store.Journal(path)
    for key, index in (line.split() for line in acknowledged if line != "published"):
        last = journal.last(key)
        assert journal.published(key) or (last is not None and last.index >= int(index)), "a segment is lost"
    scenario(path, lambda _: None)
    assert store.digest(path) == expected, "the continued run differs, or is doubled"
    assert [p.name for p in path.parent.iterdir()] == [path.name], "something is left behind"


def kill_everywhere(folder: Path, disk: type[Disk] = Disk) -> int:
    """The number of places at which the writer was killed, the last ones first: mistakes show there."""
    reference = folder / "reference" / "runs.h5"
    before(reference)
    original = reference.read_bytes()
    counted, _ = forked(partial(_scenario_with, disk(0, reference.parent, folder)))
    scenario(reference, lambda _: None)
    expected = store.digest(reference)
    for fatal in range(places := int(counted[-1]), 0, -1):
        killed_in, no_power = folder / f"{fatal}-killed", folder / f"{fatal}-no-power"
        killed_in.mkdir()
        (killed_in / "runs.h5").write_bytes(original)
        acknowledged, killed = forked(partial(_scenario_with, disk(fatal, killed_in, no_power)))
        if not killed:
            raise RuntimeError(f"a writer who made {places} calls now makes fewer than {fatal}")
        for place in (killed_in, no_power):
            try:
                examine(place / "runs.h5", acknowledged, expected)
            except (AssertionError, ValueError) as error:
                raise AssertionError(f"{place.name}: {error}") from error
    return places


def _scenario_with(disk: Disk, acknowledge: Callable[[str], None]) -> None:
    """The last line says how often the disk was changed."""
    disk.install()
    scenario(disk.folder / "runs.h5", acknowledge)
    acknowledge(str(disk.calls))


def is_caught(folder: Path, disk: type[Disk]) -> bool:
    """Whether the examination notices a planted bug."""
    try:
        kill_everywhere(folder, disk)
    except AssertionError:
        return True
    return False


def append_together(folder: Path, writers: int = 4, each: int = 3) -> int:
    """How many runs are in a file to which several processes appended at once."""
    path = folder / "shared.h5"
    run = simulate(MODEL, beta=0.1, **SETTINGS)
    children = []
    for _ in range(writers):
        child = os.fork()
        if child == 0:
            for _ in range(each):
                store.append(path, run)
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children), "a writer failed"
    return len(list(store.runs(path)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    results = {
        "places": kill_everywhere(place / "all"),
        "removes first": is_caught(place / "first", RemovesFirst),
        "never flushes": is_caught(place / "never", NeverFlushes),
        "together": append_together(place),
    }
    sys.stdout.write(json.dumps(results))

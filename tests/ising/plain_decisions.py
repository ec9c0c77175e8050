"""What :mod:`ising.kernels.chances` does with random numbers, lane by lane and digit by digit, in numpy."""

import numpy as np

from ising.kernels.chances import GROUP, SLOT_DIGITS


class Generator:
    """SHISHUA, as published: 256 bits of state in each of four rows.

    Attributes:
        state: uint64, ``(6, 4)``, see :func:`ising.kernels.shishua.streams`.
        settled: How often a row was settled alone.
    """

    def __init__(self, state: np.ndarray):
        self.state, self.settled = state.copy(), 0

    def draw(self) -> list[np.ndarray]:
        """Four times 256 random bits, bool ``(256,)``."""
        s0, s1, s2, s3, counter, increment = self.state
        s1, s3 = s1 + counter, s3 + counter
        u = [s >> np.uint64(shift) for s, shift in zip((s0, s1, s2, s3), (1, 3, 1, 3), strict=True)]
        t = [np.roll(s.view(np.uint32), by).view(np.uint64) for s, by in ((s0, 3), (s1, 5), (s2, 3), (s3, 5))]
        s0, s1, s2, s3 = (a + b for a, b in zip(t, u, strict=True))
        self.state = np.stack([s0, s1, s2, s3, counter + increment, increment])
        return [lanes(words) for words in (u[0] ^ t[1], u[2] ^ t[3], s0 ^ s3, s2 ^ s1)]


def lanes(words: np.ndarray) -> np.ndarray:
    """Bits of ``(*, 4)`` words, ``(*, 256)``."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little").astype(bool)


def group(generator: Generator, p: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """The answers of 16 rows, bool ``(16, 256)``, in cases told by planes of words ``(bits, 16, 4)``."""
    case = sum(lanes(plane).astype(int) << k for k, plane in enumerate(planes))
    units = np.array([int(x * 2.0**64) for x in p], dtype=object)
    turned_over = units >= 2**63
    smaller = np.where(turned_over, 2**64 - units, units)[case]
    answers, left = np.empty(case.shape, dtype=bool), np.empty(case.shape, dtype=bool)
    for g in range(GROUP):
        words = generator.draw() + generator.draw()[:2]
        yes = np.zeros(256, dtype=bool)
        for k, word in enumerate(words):
            yes = np.where(digit(smaller[g], 5 - k), yes | ~word, yes & word)  # the lowest first
        answers[g], left[g] = yes ^ turned_over[case[g]], ~np.any(words, axis=0)
    settle(generator, smaller * 64, answers, left)
    return answers


def digit(numbers: np.ndarray, k: int) -> np.ndarray:
    """Digit k after the binary point, from 0 on, of numbers in units of 2**-64; 0 beyond the last."""
    return np.array([k < 64 and n >> (63 - k) & 1 for n in numbers], dtype=bool)


def settle(generator: Generator, rest: np.ndarray, answers: np.ndarray, left: np.ndarray) -> None:
    """Turns answers where the rest says so: two rows of each lane in slots, the others one by one."""
    rank = np.cumsum(left, axis=0) - 1
    slots = [left & (rank == k) for k in range(2)]
    numbers = [np.where(slot, rest, 0).sum(0) for slot in slots]
    still, turn = [slot.any(0) for slot in slots], np.zeros((2, 256), dtype=bool)
    for k in range(0, SLOT_DIGITS, 2):
        words = generator.draw()
        for turned, open_, number, own in zip(turn, still, numbers, (words[::2], words[1::2]), strict=True):
            compare(turned, open_, number, k, own)
    for slot, turned, open_, number in zip(slots, turn, still, numbers, strict=True):
        alone(generator, turned, open_, number, SLOT_DIGITS)
        answers ^= slot & turned
    for g in range(GROUP):
        turned = np.zeros(256, dtype=bool)
        alone(generator, turned, left[g] & (rank[g] > 1), rest[g], 0)
        answers[g] ^= turned


def compare(turned: np.ndarray, open_: np.ndarray, number: np.ndarray, k: int, words: list) -> None:
    """Digits of the number from k on with those of a random one; a smaller random number turns the answer."""
    for i, word in enumerate(words):
        d = digit(number % 2**64, k + i)
        turned |= open_ & d & ~word
        open_ &= d == word


def alone(generator: Generator, turned: np.ndarray, open_: np.ndarray, number: np.ndarray, k: int) -> None:
    generator.settled += open_.any()
    while open_.any() and k < 60:
        compare(turned, open_, number, k, generator.draw())
        k += 4

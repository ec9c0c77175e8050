"""What :mod:`ising.kernels.chances` does with random numbers, lane by lane and digit by digit, in numpy."""

from collections.abc import Sequence

import numpy as np

from ising.kernels.chances import GROUP, SPARE_DIGITS
from ising.kernels.tables import FIRST, HEIGHT

HALVES, LANES = (slice(4), slice(4, 8)), (slice(256), slice(256, 512))  # words and lanes of each generator


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


def group(
    generator: Generator, p: Sequence[float], case: np.ndarray, asked: np.ndarray | None = None
) -> np.ndarray:
    """The answers of 16 rows, bool ``(16, 256)``, by the case of each lane.

    Arguments:
        p: Of every case.
        case: Whole numbers ``(16, 256)``.
        asked: Where the case is asked, bool; elsewhere the answer is no only where four throws show 1.
    """
    table = np.array([[digit(int(x * 2.0**64), k) for k in range(HEIGHT + 1)] for x in p])
    spares = [spare(generator) for _ in range(2)]
    answers, taken = np.empty(case.shape, dtype=bool), np.zeros(256, dtype=int)
    waiting, drawn = np.zeros(case.shape, dtype=bool), []
    for g in range(GROUP):
        while len(drawn) < FIRST:
            drawn += generator.draw()
        words, drawn = np.stack(drawn[:FIRST]), drawn[FIRST:]
        throw = np.where(words.all(0), len(words), words.argmin(0))  # the first that is 0
        here = np.ones(256, dtype=bool) if asked is None else asked[g]
        left = here & (throw == len(words))
        throw[left] = np.choose(np.minimum(taken, 1), spares)[left]
        answers[g] = np.where(here, table[case[g], throw], ~words[:4].all(0))
        waiting[g] = left & (taken > 1)
        taken += left
    for g in np.flatnonzero(waiting.any(1)):
        generator.settled += 1
        throw = throws(generator, waiting[g])
        answers[g] = np.where(waiting[g], table[case[g], np.where(waiting[g], throw, 0)], answers[g])
    return answers


def digit(number: int, k: int) -> bool:
    """Digit k after the binary point, from 0 on, in units of 2**-64; beyond the last it is that one."""
    return bool(number >> max(0, 63 - int(k)) & 1)


def spare(generator: Generator) -> np.ndarray:
    """The throw that a spare answer is the digit of, in every lane."""
    words = [word for _ in range(SPARE_DIGITS // 4) for word in generator.draw()]
    return throws(generator, np.ones(256, dtype=bool), words)


def throws(generator: Generator, open_: np.ndarray, words: Sequence[np.ndarray] = ()) -> np.ndarray:
    """The number of the first throw from the seventh on that is 0, where open; new ones follow the words."""
    open_, throw, words = open_.copy(), np.full(256, FIRST), list(words)
    while words or (open_.any() and throw.max() < HEIGHT):
        words = words or generator.draw()
        open_ &= words.pop(0)
        throw += open_
    return throw

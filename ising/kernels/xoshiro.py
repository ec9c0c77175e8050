"""The generator xoshiro256++, one stream per lane, and the compiler settings of all kernels.

64 random bits per call, period 2**256 - 1; passes TestU01 BigCrush and PractRand to 32 TB (authors' record).
The state of lane j is column j of a ``(4, lanes)`` array. Lane j is seeded by child j of a
``numpy.random.SeedSequence``, so its numbers do not depend on how many lanes there are.

References:
    | Scrambled Linear Pseudorandom Number Generators (Blackman and Vigna, 2021), https://prng.di.unimi.it
"""

from collections.abc import Callable

import numba
import numpy as np
from numba import uint64
from numba.extending import register_jitable


def jit(function: Callable, **options: bool) -> Callable:
    """Compiles without the interpreter lock, and keeps the machine code on disk where that is writable."""
    options |= {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder to cache in
        return numba.njit(**options)(function)


def bare(function: Callable) -> Callable:
    """:func:`jit` for loops that allocate nothing: references to arrays are not counted, which costs much."""
    return jit(function, _nrt=False)


# Inlined by LLVM: numba's own inlining copies the code before its types are known, and a kernel then takes
# five times as long to compile, for the same machine code. Nothing is compiled for calls from Python, which
# run the function as it stands: with entry points for each a kernel takes 1.4 times as long to compile.
inline = register_jitable(
    forceinline=True, nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True
)


def streams(seed: np.random.SeedSequence, lanes: int) -> np.ndarray:
    """Independent states, uint64, shape ``(4, lanes)``.

    Example:
        >>> a, b = streams(np.random.SeedSequence(1), 2), streams(np.random.SeedSequence(1), 3)
        >>> (a == b[:, :2]).all()
        np.True_
    """
    children = [
        np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, lane)) for lane in range(lanes)
    ]
    return np.stack([child.generate_state(4, np.uint64) for child in children], axis=-1)


@inline
def step(s0, s1, s2, s3):
    """64 random bits and the next state, all uint64."""
    mixed = s0 + s3
    bits = ((mixed << uint64(23)) | (mixed >> uint64(41))) + s0
    shifted = s1 << uint64(17)
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = (s3 << uint64(45)) | (s3 >> uint64(19))
    return bits, s0, s1, s2, s3


@inline
def fraction(bits):
    """The upper 53 bits as a number in [0, 1)."""
    return float(bits >> uint64(11)) * 2.0**-53

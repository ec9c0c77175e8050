"""What compiled kernels share: compiler settings, and vectors of eight numbers, which numba cannot name.

LLVM maps them to the registers that there are: one with AVX, two with SSE or NEON.
"""

from collections.abc import Callable

import numba
import numpy as np
from llvmlite import ir
from numba import float32, int32, types
from numba.extending import intrinsic

LANES = 8
WORD, INDEX, FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)


def jit(function: Callable, **more: object) -> Callable:
    """Compiles a loop that allocates nothing, without the interpreter lock; keeps the code where it can."""
    options = {"nogil": True, "error_model": "numpy", "_nrt": False} | more
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder to cache in
        return numba.njit(**options)(function)


def jit_reordered(function: Callable) -> Callable:
    """:func:`jit` that may add and multiply in another order, so that sums and products are vectorised."""
    return jit(function, fastmath={"reassoc", "contract"})


def aligned(n: int) -> np.ndarray:
    """Float32 numbers that start with a line of the cache."""
    numbers = np.empty(n + 16, np.float32)
    first = (-numbers.ctypes.data // 4) % 16
    return numbers[first : first + n]


def place(builder: ir.IRBuilder, array: ir.Value, index: ir.Value, more: int = 0) -> ir.Value:
    """Pointer to the eight numbers from ``index + more`` of a flat array."""
    data = builder.extract_value(array, 4)  # numba's array structure: two counts, two sizes, the data
    return builder.bitcast(builder.gep(data, [builder.add(index, INDEX(more))]), VECTOR.as_pointer())


def eight(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """A vector of eight equal numbers."""
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, WORD(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(WORD, LANES), [0] * LANES))


@intrinsic
def as_float(typing, bits):  # noqa: ARG001
    """The float32 with these 32 bits."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.int32), generate


@jit
def exponential(z):
    """Of a float32 between -80 and 80, further ones cut off there; relative error below 2e-7."""
    z = min(max(z, float32(-80)), float32(80))
    n = np.floor(z * float32(1.4426950408889634) + float32(0.5))
    r = (z - n * float32(0.693359375)) + n * float32(2.12194440e-4)  # ln 2 in two parts (Cody and Waite)
    e = float32(1 / 5040) * r + float32(1 / 720)
    e = e * r + float32(1 / 120)
    e = e * r + float32(1 / 24)
    e = e * r + float32(1 / 6)
    e = e * r + float32(0.5)
    e = (e * r + float32(1)) * r + float32(1)
    return e * as_float((int32(n) + int32(127)) << int32(23))

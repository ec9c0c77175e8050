"""What compiled kernels share: compiler settings, and vectors of eight numbers, which numba cannot name.

LLVM maps them to the registers that there are: one with AVX, two with SSE or NEON.
"""

from collections.abc import Callable

import numba
import numpy as np
from llvmlite import ir
from numba import float32, int32, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

LANES = 8
WORD, INDEX, FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
SETTINGS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
REORDERED = {"fastmath": {"reassoc", "contract"}}


def jit(function: Callable, **more: object) -> Callable:
    """Compiles a loop that allocates nothing, without the interpreter lock; keeps the code where it can."""
    options = SETTINGS | more
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder to cache in
        return numba.njit(**options)(function)


def inner(function: Callable, **more: object) -> Callable:
    """What only kernels call: without an entry point for Python, which runs the function as it stands."""
    return register_jitable(**SETTINGS, **more)(function)


def inner_contracted(function: Callable) -> Callable:
    """:func:`inner` that may round a product and a sum once, as one instruction does both."""
    return inner(function, fastmath={"contract"})


def jit_reordered(function: Callable) -> Callable:
    """:func:`jit` that may add and multiply in another order, so that sums and products are vectorised."""
    return jit(function, **REORDERED)


def inner_reordered(function: Callable) -> Callable:
    """:func:`inner` with the liberties of :func:`jit_reordered`."""
    return inner(function, **REORDERED)


def aligned(n: int) -> np.ndarray:
    """Float32 numbers that start with a line of the cache."""
    numbers = np.empty(n + 16, np.float32)
    first = (-numbers.ctypes.data // 4) % 16
    return numbers[first : first + n]


def place(builder: ir.IRBuilder, array: ir.Value, index: ir.Value, more: int = 0) -> ir.Value:
    """Pointer to the eight numbers from ``index + more`` of a flat array."""
    data = builder.extract_value(array, 4)  # numba's array structure: two counts, two sizes, the data
    return builder.bitcast(builder.gep(data, [builder.add(index, INDEX(more))]), VECTOR.as_pointer())


def fetch(builder: ir.IRBuilder, pointer: ir.Value) -> None:
    """Asks for a line of the cache that will be read; one beyond the array does no harm."""
    address = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [address.type, WORD, WORD, WORD])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [address, WORD(0), WORD(3), WORD(1)])  # to read, to keep, data


def eight(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """A vector of eight equal numbers."""
    nothing = ir.Constant(VECTOR, ir.Undefined)
    return shuffled(builder, builder.insert_element(nothing, number, WORD(0)), nothing, [0] * LANES)


def shuffled(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, lanes: list[int]) -> ir.Value:
    """Eight numbers of two vectors, by their places in both together."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(WORD, LANES), lanes))


@intrinsic
def as_float(typing, bits):  # noqa: ARG001
    """The float32 with these 32 bits."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.int32), generate


@inner_contracted
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


def adder(outputs: int, vectors: int, fresh: bool = False):
    """A loop that adds to a block of sums, outputs by 8 ``vectors``, the products of weights and features.

    Twelve vectors of sums fit in registers, and are enough to wait for none. ``fresh`` sums begin with zero.

    The loop's arguments are flat float32 arrays, each with the place of the block's first number and strides:

      sums, target, across: from one output to the next
      weights, first, apart, along: from one output, from one term to the next
      features, source, stride: from one term to the next
      n: terms
    """

    @intrinsic
    def add(typing, sums, target, across, weights, first, apart, along, features, source, stride, n):  # noqa: ARG001
        def generate(context, builder, signature, arguments):  # noqa: ARG001
            sums, target, across, weights, first, apart, along, features, source, stride, n = arguments
            starts = [builder.add(target, builder.mul(across, INDEX(o))) for o in range(outputs)]
            places = [[place(builder, sums, at, LANES * v) for v in range(vectors)] for at in starts]
            totals = [[cgutils.alloca_once(builder, VECTOR) for _ in range(vectors)] for _ in range(outputs)]
            for row, kept in zip(places, totals, strict=True):
                for pointer, total in zip(row, kept, strict=True):
                    old = ir.Constant(VECTOR, None) if fresh else builder.load(pointer, align=4)
                    builder.store(old, total)
            data = builder.extract_value(weights, 4)
            with cgutils.for_range(builder, n) as loop:
                at = builder.add(source, builder.mul(loop.index, stride))
                x = [builder.load(place(builder, features, at, LANES * v), align=4) for v in range(vectors)]
                at = builder.add(first, builder.mul(loop.index, along))
                for o in range(outputs):
                    there = builder.gep(data, [builder.add(at, builder.mul(apart, INDEX(o)))])
                    weight = eight(builder, builder.load(there))
                    for v in range(vectors):
                        term = builder.fmul(weight, x[v], flags=("contract",))
                        total = builder.fadd(builder.load(totals[o][v]), term, flags=("contract",))
                        builder.store(total, totals[o][v])
            for row, kept in zip(places, totals, strict=True):
                for pointer, total in zip(row, kept, strict=True):
                    builder.store(builder.load(total), pointer, align=4)
            return context.get_dummy_value()

        at = types.intp
        return types.void(sums, at, at, weights, at, at, at, features, at, at, at), generate

    return add


@inner_contracted
def tanh(x):
    """A ratio of polynomials of Eigen (its ``ptanh_float``); absolute error below 5e-7."""
    for k in range(x.size):
        z = min(max(x[k], float32(-7.9)), float32(7.9))
        y = z * z
        above = y * float32(-2.76076847742355e-16) + float32(2.00018790482477e-13)
        above = above * y + float32(-8.60467152213735e-11)
        above = above * y + float32(5.12229709037114e-08)
        above = above * y + float32(1.48572235717979e-05)
        above = above * y + float32(6.37261928875436e-04)
        above = above * y + float32(4.89352455891786e-03)
        below = y * float32(1.19825839466702e-06) + float32(1.18534705686654e-04)
        below = below * y + float32(2.26843463243900e-03)
        below = below * y + float32(4.89352518554385e-03)
        x[k] = z * above / below

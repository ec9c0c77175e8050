# ruff: noqa: ARG001, ARG005  the signatures are prescribed by numba
"""512 bits as one value inside compiled code: eight words of 64, a bit for each of 512 chains.

The type exists only between a load and a store. Its operators are those of whole numbers, word by word;
:func:`logic` is any function of three bits. LLVM makes of them what the processor has: one instruction where
it knows 512-bit registers, several where it does not. The numbers are the same.

Example:
    >>> from ising.kernels.xoshiro import jit
    >>> @jit
    ... def majority(rows):
    ...     store(rows, 0, logic(load(rows, 0), load(rows, 1), load(rows, 2), MAJORITY))
    >>> rows = aligned((3, WORDS))
    >>> rows[:] = np.array([[3], [5], [9]])
    >>> majority(rows)
    >>> rows[0, 0]
    np.uint64(1)
"""

import operator
from collections.abc import Callable

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.datamodel import PrimitiveModel
from numba.extending import intrinsic, overload, register_model

WORDS = 8
LANES = 64 * WORDS

# Truth tables of logic(a, b, c): bit 4a + 2b + c of the table is the value.
XOR3, MAJORITY = 0x96, 0xE8
CHOOSE = 0xCA  # b where a is set, else c
EQUAL_AND = 0x90  # a, where b and c are equal
AND_NOT = 0x30  # a without b, whatever c
NOT_ALL = 0x70  # a, unless both b and c are set
NEITHER = 0x09  # where a is not set, and b and c are equal
NONE = 0x01  # where none is set
FLIP_AND = 0x78  # a, flipped where both b and c are set
OR_AND = 0xF8  # a, and where both b and c are set
OR_DIFFER = 0xF6  # a, and where b and c differ
ANY_DIFFERS, BOTH_DIFFER = 0x7E, 0x18  # b or c, b and c, from a
NOT_XOR3 = 0x69

_WORD, _VECTOR, _DWORDS = (
    ir.IntType(64),
    ir.VectorType(ir.IntType(64), WORDS),
    ir.VectorType(ir.IntType(32), 16),
)


class _Lanes(types.Type):
    def __init__(self):
        super().__init__(name="Lanes")


lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint64, that begin where a cache line does: other rows of 512 bits would straddle two lines."""
    size = 8 * int(np.prod(shape))
    raw = np.zeros(size + 64, dtype=np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(np.uint64).reshape(shape)


def has_ternary_logic() -> bool:
    """Whether compiled code may use the instruction for any function of three bits (AVX-512)."""
    if config.CPU_FEATURES is not None:
        return "+avx512f" in config.CPU_FEATURES
    return config.CPU_NAME in (None, "host") and bool(binding.get_host_cpu_features().get("avx512f"))


def _address(context, builder, array_type, array, row):
    data = context.make_array(array_type)(context, builder, array).data
    word = builder.gep(data, [builder.mul(row, _WORD(WORDS))])
    return builder.bitcast(word, _VECTOR.as_pointer())


@intrinsic
def load(typing, rows, i):
    """Row i of a contiguous array whose last axis has eight words."""

    def generate(context, builder, signature, arguments):
        row = context.cast(builder, arguments[1], signature.args[1], types.int64)
        value = builder.load(_address(context, builder, signature.args[0], arguments[0], row))
        value.align = 8
        return value

    return lanes(rows, i), generate


@intrinsic
def store(typing, rows, i, value):
    """Overwrites row i."""

    def generate(context, builder, signature, arguments):
        row = context.cast(builder, arguments[1], signature.args[1], types.int64)
        written = builder.store(
            arguments[2], _address(context, builder, signature.args[0], arguments[0], row)
        )
        written.align = 8
        return context.get_dummy_value()

    return types.void(rows, i, lanes), generate


@intrinsic
def splat(typing, word):
    """The same word eight times."""

    def generate(context, builder, signature, arguments):
        word = context.cast(builder, arguments[0], signature.args[0], types.uint64)
        return _repeated(builder, word)

    return lanes(word), generate


@intrinsic
def some(typing, value):
    """Whether any bit is set."""

    def generate(context, builder, signature, arguments):
        words = builder.icmp_unsigned("!=", arguments[0], ir.Constant(_VECTOR, None))
        return builder.icmp_unsigned("!=", builder.bitcast(words, ir.IntType(WORDS)), ir.IntType(WORDS)(0))

    return types.boolean(value), generate


@intrinsic
def ones(typing, value):
    """How many bits are set in each word, as eight words."""

    def generate(context, builder, signature, arguments):
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR]), "llvm.ctpop.v8i64"
        )
        return builder.call(function, arguments)

    return lanes(value), generate


@intrinsic(prefer_literal=True)
def logic(typing, a, b, c, table):
    """The function of three bits with this truth table, a constant."""
    entries = table.literal_value

    def generate(context, builder, signature, arguments):
        a, b, c, _ = arguments
        if not has_ternary_logic():
            return _SPELLED[entries](builder, a, b, c)
        kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR, ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pternlog.q.512")
        return builder.call(function, [a, b, c, ir.IntType(32)(entries)])

    return lanes(a, b, c, table), generate


_SPELLED = {
    XOR3: lambda _, a, b, c: _.xor(_.xor(a, b), c),
    MAJORITY: lambda _, a, b, c: _.or_(_.and_(a, b), _.and_(c, _.or_(a, b))),
    CHOOSE: lambda _, a, b, c: _.xor(c, _.and_(a, _.xor(b, c))),
    EQUAL_AND: lambda _, a, b, c: _.and_(a, _.not_(_.xor(b, c))),
    AND_NOT: lambda _, a, b, c: _.and_(a, _.not_(b)),
    NOT_ALL: lambda _, a, b, c: _.and_(a, _.not_(_.and_(b, c))),
    NONE: lambda _, a, b, c: _.not_(_.or_(a, _.or_(b, c))),
    NEITHER: lambda _, a, b, c: _.not_(_.or_(a, _.xor(b, c))),
    FLIP_AND: lambda _, a, b, c: _.xor(a, _.and_(b, c)),
    OR_AND: lambda _, a, b, c: _.or_(a, _.and_(b, c)),
    OR_DIFFER: lambda _, a, b, c: _.or_(a, _.xor(b, c)),
    ANY_DIFFERS: lambda _, a, b, c: _.or_(_.xor(a, b), _.xor(a, c)),
    BOTH_DIFFER: lambda _, a, b, c: _.and_(_.xor(a, b), _.xor(a, c)),
    NOT_XOR3: lambda _, a, b, c: _.not_(_.xor(_.xor(a, b), c)),
}


def shuffle(order: list[int]) -> Callable:
    """A function that rearranges the sixteen 32-bit halves of the words."""

    @intrinsic
    def rearranged(typing, value):
        def generate(context, builder, signature, arguments):
            halves = builder.bitcast(arguments[0], _DWORDS)
            mask = ir.Constant(_DWORDS, order)
            return builder.bitcast(
                builder.shuffle_vector(halves, ir.Constant(_DWORDS, ir.Undefined), mask), _VECTOR
            )

        return lanes(value), generate

    return rearranged


def _repeated(builder, word):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), word, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WORDS), [0] * WORDS)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)


def _operator(symbol: Callable, instruction: str) -> None:
    @intrinsic
    def of_lanes(typing, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return lanes(a, b), generate

    @intrinsic
    def by_number(typing, a, b):
        def generate(context, builder, signature, arguments):
            number = context.cast(builder, arguments[1], signature.args[1], types.uint64)
            return getattr(builder, instruction)(arguments[0], _repeated(builder, number))

        return lanes(a, b), generate

    @overload(symbol)
    def choose(a, b):
        if a is lanes and b is lanes:
            return lambda a, b: of_lanes(a, b)
        if a is lanes and isinstance(b, types.Integer):
            return lambda a, b: by_number(a, b)
        return None


for _symbol, _instruction in {
    operator.and_: "and_",
    operator.or_: "or_",
    operator.xor: "xor",
    operator.add: "add",
    operator.lshift: "shl",
    operator.rshift: "lshr",
}.items():
    _operator(_symbol, _instruction)

# ruff: noqa: ARG001, ARG005  the signatures are prescribed by numba
"""Rows of 512 bits, a bit for each of 512 chains, and a register's share of them inside compiled code.

A row is eight words of 64 bits. A value in compiled code is as wide as the registers of the processor: the
whole row with AVX-512, else one of :data:`PARTS` halves, as two halves at once would not fit sixteen
registers. A loop is written for one part, and called for each: :func:`part` moves an array to it. What rows
hold afterwards is the same. :func:`load_row` takes whole rows, for
loops that need few registers.

A value exists only between a load and a store. Its operators are those of whole numbers, word by word;
:func:`logic` is any function of three bits: one instruction with AVX-512, else as many as it takes.

Example:
    >>> from ising.kernels.xoshiro import jit
    >>> @jit
    ... def majority(rows):
    ...     for p in range(PARTS):
    ...         half = part(rows, p)
    ...         store(half, 0, logic(load(half, 0), load(half, 1), load(half, 2), MAJORITY))
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
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, overload, register_model

WORDS = 8
LANES = 64 * WORDS

# Truth tables of logic(a, b, c): bit 4a + 2b + c of the table is the value.
XOR3, MAJORITY = 0x96, 0xE8
CHOOSE = 0xCA  # b where a is set, else c
EQUAL_AND = 0x90  # a, where b and c are equal
CHOOSE_NOT = 0x3A  # where a is set not b, else c
AND_NOT = 0x30  # a without b, whatever c
NONE = 0x01  # where none is set
FLIP_AND = 0x78  # a, flipped where both b and c are set
OR_AND = 0xF8  # a, and where both b and c are set
OR_DIFFER = 0xF6  # a, and where b and c differ
ANY_DIFFERS, BOTH_DIFFER = 0x7E, 0x18  # b or c, b and c, from a
NOT_XOR3 = 0x69


def has_ternary_logic() -> bool:
    """Whether compiled code may use the instruction for any function of three bits (AVX-512)."""
    return _has("avx512f")


def _has(feature: str) -> bool:
    if config.CPU_FEATURES is not None:
        return f"+{feature}" in config.CPU_FEATURES
    return config.CPU_NAME in (None, "host") and bool(binding.get_host_cpu_features().get(feature))


WIDTH = WORDS if has_ternary_logic() else WORDS // 2  # words of a register
PARTS = WORDS // WIDTH
_WORD, _DWORDS = ir.IntType(64), ir.VectorType(ir.IntType(32), 2 * WIDTH)


class _Lanes(types.Type):
    def __init__(self, words: int):
        super().__init__(name=f"Lanes({words})")
        self.vector = ir.VectorType(_WORD, words)


lanes, row = _Lanes(WIDTH), _Lanes(WORDS)
_VECTOR = lanes.vector

# With AVX2 a rotation of four words is left to two instructions with half the latency of the one that LLVM
# would merge them into.
_SWAPS = WIDTH == 4 and _has("avx2")
_SWAP = ir.InlineAsm(ir.FunctionType(_VECTOR, [_VECTOR]), "vperm2i128 $$1, $1, $1, $0", "=x,x")
if _SWAPS:
    binding.initialize_native_asmparser()


@register_model(_Lanes)
class _LanesModel(PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.vector)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint64, that begin where a cache line does: other rows of 512 bits would straddle two lines."""
    size = 8 * int(np.prod(shape))
    raw = np.zeros(size + 64, dtype=np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(np.uint64).reshape(shape)


def row_of(context, builder, array_type, array, i, kind=lanes):
    """Row i, or its first part, as a value, in code that writes code."""
    value = builder.load(_address(context, builder, array_type, array, i, kind))
    value.align = 8
    return value


def store_row(context, builder, array_type, array, i, value):
    """Overwrites the first part of row i, in code that writes code."""
    written = builder.store(value, _address(context, builder, array_type, array, i, lanes))
    written.align = 8


def logic_of(builder, a, b, c, table):
    """:func:`logic` in code that writes code."""
    if WIDTH < WORDS:
        return _SPELLED[table](builder, a, b, c)
    kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR, ir.IntType(32)])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pternlog.q.512")
    return builder.call(function, [a, b, c, ir.IntType(32)(table)])


def _address(context, builder, array_type, array, i, kind):
    data = context.make_array(array_type)(context, builder, array).data
    word = builder.gep(data, [builder.mul(i, _WORD(WORDS))])
    return builder.bitcast(word, kind.vector.as_pointer())


@intrinsic
def part(typing, rows, p):
    """The same array for :func:`load` and :func:`store`, moved to part p of every row."""

    def generate(context, builder, signature, arguments):
        p = context.cast(builder, arguments[1], signature.args[1], types.int64)
        moved = context.make_array(signature.args[0])(context, builder, arguments[0])
        moved.data = builder.gep(moved.data, [builder.mul(p, _WORD(WIDTH))])
        return impl_ret_borrowed(context, builder, signature.return_type, moved._getvalue())

    return rows(rows, p), generate


@intrinsic
def load(typing, rows, i):
    """The first part of row i of a contiguous array whose last axis has eight words."""

    def generate(context, builder, signature, arguments):
        i = context.cast(builder, arguments[1], signature.args[1], types.int64)
        return row_of(context, builder, signature.args[0], arguments[0], i)

    return lanes(rows, i), generate


@intrinsic
def load_row(typing, rows, i):
    """The whole of row i."""

    def generate(context, builder, signature, arguments):
        i = context.cast(builder, arguments[1], signature.args[1], types.int64)
        return row_of(context, builder, signature.args[0], arguments[0], i, row)

    return row(rows, i), generate


@intrinsic
def store(typing, rows, i, value):
    """Overwrites row i, or its first part."""

    def generate(context, builder, signature, arguments):
        i = context.cast(builder, arguments[1], signature.args[1], types.int64)
        address = _address(context, builder, signature.args[0], arguments[0], i, value)
        written = builder.store(arguments[2], address)
        written.align = 8
        return context.get_dummy_value()

    return types.void(rows, i, value), generate


@intrinsic
def entry(typing, table, i):
    """Number i of a contiguous table of whole numbers, in the order they lie in memory; i is not negative."""
    if table.layout != "C":
        raise TypingError("the table is not contiguous")

    def generate(context, builder, signature, arguments):
        i = context.cast(builder, arguments[1], signature.args[1], types.int64)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        value = builder.load(builder.gep(data, [i]))
        return context.cast(builder, value, signature.args[0].dtype, types.int64)

    return types.int64(table, i), generate


@intrinsic
def splat(typing, word):
    """The same word again and again."""

    def generate(context, builder, signature, arguments):
        word = context.cast(builder, arguments[0], signature.args[0], types.uint64)
        return _repeated(builder, word)

    return lanes(word), generate


@intrinsic
def some(typing, value):
    """Whether any bit is set."""

    def generate(context, builder, signature, arguments):
        words = builder.icmp_unsigned("!=", arguments[0], ir.Constant(value.vector, None))
        mask = ir.IntType(value.vector.count)
        return builder.icmp_unsigned("!=", builder.bitcast(words, mask), mask(0))

    return types.boolean(value), generate


@intrinsic(prefer_literal=True)
def rows_with_some(typing, rows, first, n):
    """In which of n rows, a constant, any bit is set: bit k is row ``first + k``."""
    count = n.literal_value

    def generate(context, builder, signature, arguments):
        first = context.cast(builder, arguments[1], signature.args[1], types.int64)
        found = _WORD(0)
        for k in range(count):
            row = row_of(context, builder, signature.args[0], arguments[0], builder.add(first, first.type(k)))
            words = builder.icmp_unsigned("!=", row, ir.Constant(_VECTOR, None))
            mask = ir.IntType(WIDTH)
            there = builder.icmp_unsigned("!=", builder.bitcast(words, mask), mask(0))
            found = builder.or_(found, builder.shl(builder.zext(there, _WORD), _WORD(k)))
        return found

    return types.uint64(rows, first, n), generate


@intrinsic
def lowest(typing, word):
    """Which is the lowest bit that is set; one is."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(word), generate


@intrinsic
def fours(typing, value):
    """All bits of every four words of which any bit is set, none of the others."""

    def generate(context, builder, signature, arguments):
        mask = ir.IntType(WIDTH)
        words = builder.icmp_unsigned("!=", arguments[0], ir.Constant(_VECTOR, None))
        found, result = builder.bitcast(words, mask), mask(0)
        for four in (0xF << k for k in range(0, WIDTH, 4)):
            there = builder.icmp_unsigned("!=", builder.and_(found, mask(four)), mask(0))
            result = builder.or_(result, builder.select(there, mask(four), mask(0)))
        return builder.sext(builder.bitcast(result, ir.VectorType(ir.IntType(1), WIDTH)), _VECTOR)

    return lanes(value), generate


@intrinsic
def ones(typing, value):
    """How many bits are set in each word, as words."""

    def generate(context, builder, signature, arguments):
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR]), f"llvm.ctpop.v{WIDTH}i64"
        )
        return builder.call(function, arguments)

    return lanes(value), generate


@intrinsic(prefer_literal=True)
def logic(typing, a, b, c, table):
    """The function of three bits with this truth table, a constant."""
    entries = table.literal_value

    def generate(context, builder, signature, arguments):
        return logic_of(builder, *arguments[:3], entries)

    return a(a, b, c, table), generate


_SPELLED = {
    XOR3: lambda _, a, b, c: _.xor(_.xor(a, b), c),
    MAJORITY: lambda _, a, b, c: _.or_(_.and_(a, b), _.and_(c, _.xor(a, b))),  # adders have a ^ b anyway
    CHOOSE: lambda _, a, b, c: _.xor(c, _.and_(a, _.xor(b, c))),
    CHOOSE_NOT: lambda _, a, b, c: _.or_(_.and_(a, _.not_(b)), _.and_(c, _.not_(a))),
    EQUAL_AND: lambda _, a, b, c: _.and_(a, _.not_(_.xor(b, c))),
    AND_NOT: lambda _, a, b, c: _.and_(a, _.not_(b)),
    NONE: lambda _, a, b, c: _.not_(_.or_(a, _.or_(b, c))),
    FLIP_AND: lambda _, a, b, c: _.xor(a, _.and_(b, c)),
    OR_AND: lambda _, a, b, c: _.or_(a, _.and_(b, c)),
    OR_DIFFER: lambda _, a, b, c: _.or_(a, _.xor(b, c)),
    ANY_DIFFERS: lambda _, a, b, c: _.or_(_.xor(a, b), _.xor(a, c)),
    BOTH_DIFFER: lambda _, a, b, c: _.and_(_.xor(a, b), _.xor(a, c)),
    NOT_XOR3: lambda _, a, b, c: _.not_(_.xor(_.xor(a, b), c)),
}


def rotation(first: int) -> Callable:
    """A function that moves the eight 32-bit halves of every four words round until this one is the first."""
    whole = [8 * k + (first + i) % 8 for k in range(WIDTH // 4) for i in range(8)]
    pairs = [(half, first % 4 + i) for half in (0, 4) for i in range(4)]
    in_two = [half + i if i < 4 else 8 + half + i % 4 for half, i in pairs]

    @intrinsic
    def rotated(typing, value):
        def generate(context, builder, signature, arguments):
            halves = builder.bitcast(arguments[0], _DWORDS)
            if _SWAPS:
                swapped = builder.bitcast(builder.call(_SWAP, arguments), _DWORDS)
                halves, swapped = (halves, swapped) if first < 4 else (swapped, halves)
                result = builder.shuffle_vector(halves, swapped, ir.Constant(_DWORDS, in_two))
            else:
                nothing = ir.Constant(_DWORDS, ir.Undefined)
                result = builder.shuffle_vector(halves, nothing, ir.Constant(_DWORDS, whole))
            return builder.bitcast(result, _VECTOR)

        return lanes(value), generate

    return rotated


def _repeated(builder, word, vector=_VECTOR):
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), word, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _operator(symbol: Callable, instruction: str) -> None:
    @intrinsic
    def of_lanes(typing, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return a(a, b), generate

    @intrinsic
    def by_number(typing, a, b):
        def generate(context, builder, signature, arguments):
            number = context.cast(builder, arguments[1], signature.args[1], types.uint64)
            return getattr(builder, instruction)(arguments[0], _repeated(builder, number, a.vector))

        return a(a, b), generate

    @overload(symbol)
    def choose(a, b):
        if isinstance(a, _Lanes) and a == b:
            return lambda a, b: of_lanes(a, b)
        if isinstance(a, _Lanes) and isinstance(b, types.Integer):
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

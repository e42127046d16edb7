"""Vectors of 16 floats for numba kernels: rows of channels that stay in registers.

Numba leaves it to LLVM to find vectors in loops, and LLVM gives up when arrays may overlap. `Lanes`
is a value type, a fixed number of 16-float vectors, that LLVM splits into whatever registers the
machine has (AVX-512, AVX2, SSE, NEON). A kernel is told that number by the length of a tuple, which
numba knows when it compiles. `peek` and `poke` read and write single numbers of float32 or bfloat16
arrays (held as int16) without Python's negative indices. None of these checks bounds.
"""

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, register_model

LANES = 16
_I16, _I32, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
intrinsic: Any = extending.intrinsic  # kernels call its results without the typing context


class Lanes(types.Type):
    """`count` vectors of 16 floats: one padded row of channels."""

    def __init__(self, count: int):
        self.count = count
        super().__init__(name=f"Lanes({count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.ArrayType(_VECTOR, fe_type.count))


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _vector_address(builder, row, k):
    place = builder.gep(row, [ir.Constant(ir.IntType(64), k * LANES)])
    return builder.bitcast(place, _VECTOR.as_pointer())


def _fused(builder, a, b, c):
    """a * b + c, in one rounding where the machine can."""
    signature = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    name = f"llvm.fmuladd.v{LANES}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), (a, b, c))


def _broadcast(builder, scalar):
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(
        single, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    )


def _gathered(builder, vectors):
    row = ir.Constant(ir.ArrayType(_VECTOR, len(vectors)), ir.Undefined)
    for k, vector in enumerate(vectors):
        row = builder.insert_value(row, vector, k)
    return row


@intrinsic
def zeros(typingctx, vectors):
    """A row of zeros, a vector for each item of the tuple `vectors`."""
    row = Lanes(vectors.count)

    def codegen(context, builder, signature, args):
        return _gathered(builder, [ir.Constant(_VECTOR, [0.0] * LANES)] * row.count)

    return row(vectors), codegen


@intrinsic
def load(typingctx, array, index, vectors):
    """The float32 numbers of a flat array from `index` on, a vector for each item of `vectors`."""
    row = Lanes(vectors.count)

    def codegen(context, builder, signature, args):
        first = _address(context, builder, array, args[0], args[1])
        places = [_vector_address(builder, first, k) for k in range(row.count)]
        return _gathered(builder, [builder.load(place, align=4) for place in places])

    return row(array, types.int64, vectors), codegen


@intrinsic
def store(typingctx, array, index, lanes):
    """Write a row of float32 numbers into a flat array from `index` on."""

    def codegen(context, builder, signature, args):
        row = _address(context, builder, array, args[0], args[1])
        for k in range(lanes.count):
            vector = builder.extract_value(args[2], k)
            builder.store(vector, _vector_address(builder, row, k), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), codegen


@intrinsic
def add_scaled(typingctx, total, scale, lanes):
    """total + scale * lanes, with a float32 scale."""

    def codegen(context, builder, signature, args):
        factor = _broadcast(builder, args[1])
        pairs = [[builder.extract_value(args[i], k) for i in (2, 0)] for k in range(lanes.count)]
        return _gathered(builder, [_fused(builder, factor, row, sum_) for row, sum_ in pairs])

    return lanes(total, types.float32, lanes), codegen


@intrinsic
def products(typingctx, a, b):
    """16 partial sums of the inner product of two rows."""

    def codegen(context, builder, signature, args):
        total = ir.Constant(_VECTOR, [0.0] * LANES)
        for k in range(a.count):
            left, right = (builder.extract_value(row, k) for row in args)
            total = _fused(builder, left, right, total)
        return _gathered(builder, [total])

    return Lanes(1)(a, b), codegen


def _folded(builder, left, right):
    """Sums of neighbouring lanes: of `left` in the first half of the vector, then of `right`."""
    even, odd = (
        builder.shuffle_vector(
            left,
            right,
            ir.Constant(ir.VectorType(_I32, LANES), [first + 2 * k for k in range(LANES)]),
        )
        for first in (0, 1)
    )
    return builder.fadd(even, odd)


@intrinsic
def store_sums(typingctx, array, index, a, b, c, d):
    """Write the sums over the 16 lanes of four single vectors side by side into a flat array."""

    def codegen(context, builder, signature, args):
        first, second, third, fourth = (builder.extract_value(x, 0) for x in args[2:])
        pairs = _folded(builder, first, second), _folded(builder, third, fourth)
        quads = _folded(builder, *pairs)
        eighths = _folded(builder, quads, quads)
        sums = _folded(builder, eighths, eighths)
        four = builder.shuffle_vector(sums, sums, ir.Constant(ir.VectorType(_I32, 4), [0, 1, 2, 3]))
        place = _address(context, builder, array, args[0], args[1])
        builder.store(four, builder.bitcast(place, four.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, a, b, c, d), codegen


@intrinsic
def peek(typingctx, array, index):
    """One number of a flat float32 or bfloat16 (int16) array, as float32."""

    def codegen(context, builder, signature, args):
        number = builder.load(_address(context, builder, array, args[0], args[1]))
        if array.dtype == types.int16:
            bits = builder.shl(builder.zext(number, _I32), ir.Constant(_I32, 16))
            number = builder.bitcast(bits, _FLOAT)
        return number

    return types.float32(array, types.int64), codegen


@intrinsic
def poke(typingctx, array, index, number):
    """Write a float32 number into a flat float32 or bfloat16 (int16) array, rounded to nearest."""

    def codegen(context, builder, signature, args):
        rounded = _to_bfloat16(builder, args[2]) if array.dtype == types.int16 else args[2]
        builder.store(rounded, _address(context, builder, array, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.float32), codegen


def _to_bfloat16(builder, number):
    """The upper half of a float, rounded to the nearest even; not a number stays what it is."""
    bits = builder.bitcast(number, _I32)
    odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
    nearest = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
    quiet = builder.or_(bits, ir.Constant(_I32, 0x400000))
    chosen = builder.select(builder.fcmp_unordered("uno", number, number), quiet, nearest)
    return builder.trunc(builder.lshr(chosen, ir.Constant(_I32, 16)), _I16)


@intrinsic
def power_of_two(typingctx, exponent):
    """2 ** exponent as float32, for an int32 exponent in [-126, 127]."""

    def codegen(context, builder, signature, args):
        biased = builder.add(args[0], ir.Constant(_I32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(_I32, 23)), _FLOAT)

    return types.float32(types.int32), codegen

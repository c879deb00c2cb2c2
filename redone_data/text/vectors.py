"""Rows of a float32 matrix, sixteen numbers at a time: a classifier's sums over rows, without a loop over columns.

numba cannot know that the row that is read and the row that is written lie apart, so its own loops check that each
time. The vector code is LLVM's, for AVX-512, AVX2 or NEON alike.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Float32 = npt.NDArray[np.float32]

untyped: Any = cgutils
LANES = 16
VECTOR = ir.VectorType(ir.FloatType(), LANES)


def padded(matrix: Float32) -> Float32:
    """The matrix with zeros for columns, so that they are a multiple of LANES and at least that many."""
    columns = max(LANES, -(-matrix.shape[1] // LANES) * LANES)
    wide = np.zeros((len(matrix), columns), np.float32)
    wide[:, : matrix.shape[1]] = matrix
    return wide


def _row(context: Any, builder: Any, kind: Any, matrix: Any, row: Any) -> tuple[Any, Any]:
    array = context.make_array(kind)(context, builder, matrix)
    columns = builder.extract_value(array.shape, 1)
    return builder.gep(array.data, [builder.mul(row, columns)]), columns


def _block(builder: Any, row: Any, column: Any) -> Any:
    return builder.bitcast(builder.gep(row, [column]), VECTOR.as_pointer())


def _blocks(builder: Any, columns: Any) -> Any:
    zero, step = columns.type(0), columns.type(LANES)
    return untyped.for_range_slice(builder, zero, columns, step, columns.type)


def _add_row(typing_context: Any, target: Any, row: Any, source: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, columns = _row(context, builder, signature.args[0], arguments[0], arguments[1])
        of, _ = _row(context, builder, signature.args[2], arguments[2], arguments[3])
        with _blocks(builder, columns) as (column, _):
            into = _block(builder, to, column)
            added = builder.load(_block(builder, of, column), align=4)
            builder.store(builder.fadd(builder.load(into, align=4), added), into, align=4)
        return context.get_dummy_value()

    return types.none(target, types.int64, source, types.int64), generate


def _dot_rows(typing_context: Any, left: Any, row: Any, right: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, columns = _row(context, builder, signature.args[0], arguments[0], arguments[1])
        other, _ = _row(context, builder, signature.args[2], arguments[2], arguments[3])
        total = untyped.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES))
        with _blocks(builder, columns) as (column, _):
            product = builder.fmul(
                builder.load(_block(builder, one, column), align=4),
                builder.load(_block(builder, other, column), align=4),
            )
            builder.store(builder.fadd(builder.load(total), product), total)
        lanes = builder.load(total)
        width = LANES
        while width > 1:  # the upper half onto the lower
            width //= 2
            halves = [
                builder.shuffle_vector(lanes, lanes, ir.Constant(ir.VectorType(ir.IntType(32), width), indices))
                for indices in (list(range(width)), list(range(width, 2 * width)))
            ]
            lanes = builder.fadd(*halves)
        return builder.extract_element(lanes, ir.Constant(ir.IntType(32), 0))

    return types.float32(left, types.int64, right, types.int64), generate


def _fetch_row(typing_context: Any, matrix: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, _ = _row(context, builder, signature.args[0], arguments[0], arguments[1])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        # To read, to be kept in all caches, as data.
        builder.call(prefetch, [builder.bitcast(place, byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.none(matrix, types.int64), generate


# Matrices are contiguous, and made by :func:`padded`.
add_row = cast("Callable[[Float32, int, Float32, int], None]", intrinsic(_add_row))
dot_rows = cast("Callable[[Float32, int, Float32, int], float]", intrinsic(_dot_rows))
fetch_row = cast("Callable[[Float32, int], None]", intrinsic(_fetch_row))

"""Memory by its address: buffers seen as arrays, and scratch.

Compiled code counts no references and allocates no arrays: a count is an atomic operation, and Numba would put a
hundred of them into a training step. Who calls a kernel holds the arrays that it works on.
"""

import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from mlpx_kernels.cpu.lowlevel.compile import inlined

# Intrinsics, not functions: a function would be compiled anew for each combination of types and of literal numbers.


@intrinsic
def size_of(typingctx, real):
    """Return the bytes of one number of a dtype."""
    bytes_ = real.instance_type.bitwidth // 8

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int64, bytes_)

    return types.int64(real), codegen


def array_at(context, builder, kind, address, size):
    """Return ``size`` numbers at an address as an array that owns nothing."""
    bytes_ = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    array = arrayobj.make_array(kind)(context, builder)
    arrayobj.populate_array(
        array,
        data=builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer()),
        shape=cgutils.pack_array(builder, [size]),
        strides=cgutils.pack_array(builder, [bytes_]),
        itemsize=bytes_,
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def view(typingctx, address, offset, size, real):
    """Return ``size`` numbers from element ``offset`` on of the buffer at an address, as an array."""
    kind = types.Array(real.instance_type, 1, "C")

    def codegen(context, builder, signature, args):
        address, offset, size, _ = args
        bytes_ = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
        return array_at(context, builder, kind, builder.add(address, builder.mul(offset, bytes_)), size)

    return kind(types.int64, types.int64, types.int64, real), codegen


@inlined
def address_of(address, offset, real):
    """Return the address of element ``offset`` of the buffer at an address."""
    return address + offset * size_of(real)


STACK_LIMIT = 2048 if sys.platform == "win32" else 1 << 15
"""Bytes of scratch that lie on the stack; more come from the heap. Windows wants a stack's pages to be asked for."""
LINE = 64
"""Bytes of a cache line: a vector across two of them is read twice."""


def _heap(builder, name, result, argument):
    """Call a function of the heap that Numba's runtime uses."""
    kind = ir.FunctionType(result, [argument.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [argument])


def _is_far(context, builder, kind, size):
    bytes_ = builder.mul(size, context.get_constant(types.intp, kind.dtype.bitwidth // 8))
    return bytes_, builder.icmp_signed(">", bytes_, context.get_constant(types.intp, STACK_LIMIT))


@intrinsic
def alloc_scratch(typingctx, size, real):
    """Return an array of ``size`` numbers of no known value, on a cache line, to be given back by `free_scratch`.

    On the stack there is one for each place in the code that asks: a loop must leave it before it asks again.
    """
    kind = types.Array(real.instance_type, 1, "C")

    def codegen(context, builder, signature, args):
        i64, size = ir.IntType(64), args[0]
        with builder.goto_entry_block():  # not by cgutils, which would write zeros to it in each call
            near = builder.alloca(ir.ArrayType(ir.IntType(8), STACK_LIMIT))
        near.align = LINE
        place = cgutils.alloca_once_value(builder, builder.ptrtoint(near, i64))
        bytes_, far = _is_far(context, builder, kind, size)
        with builder.if_then(far, likely=False):
            block = _heap(builder, "NRT_Allocate", cgutils.voidptr_t, builder.add(bytes_, ir.Constant(i64, LINE)))
            cgutils.guard_memory_error(context, builder, block, "no memory for a kernel's scratch")
            block = builder.ptrtoint(block, i64)
            start = builder.and_(builder.add(block, ir.Constant(i64, LINE)), ir.Constant(i64, -LINE))
            # The heap's own address lies in front: its blocks are aligned to 16 bytes, so there is space for it.
            builder.store(block, builder.inttoptr(builder.sub(start, ir.Constant(i64, 8)), i64.as_pointer()))
            builder.store(start, place)
        return array_at(context, builder, kind, builder.load(place), size)

    return kind(types.int64, real), codegen


@intrinsic
def free_scratch(typingctx, scratch):
    """Give back an array from `alloc_scratch`."""

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)
        array = arrayobj.make_array(scratch)(context, builder, args[0])
        with builder.if_then(_is_far(context, builder, scratch, array.nitems)[1], likely=False):
            place = builder.sub(builder.ptrtoint(array.data, i64), ir.Constant(i64, 8))
            block = builder.load(builder.inttoptr(place, i64.as_pointer()))
            _heap(builder, "NRT_Free", ir.VoidType(), builder.inttoptr(block, cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(scratch), codegen

# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled engine: checks, pins, releases the GIL and raises. No arithmetic. The typed contract is _core.pyi."""

from collections import namedtuple

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memmove

from gateinfer.errors import GateInferError, ModelError, ShapeError

cnp.import_array()

# The order of the enums in gateinfer.h.
DTYPES = {np.dtype(name): i for i, name in enumerate((
    "float32", "int64", "int32", "bool", "uint8", "int8", "uint16", "int16", "uint32", "float16", "float64"))}
ITEM_SIZES = tuple(dtype.itemsize for dtype in DTYPES)
UNARY = {name: i for i, name in enumerate((
    "sigmoid", "tanh", "relu", "affine", "leaky_relu", "thresholded_relu", "scaled_tanh", "hard_sigmoid", "elu",
    "softsign", "softplus", "exp", "log", "sqrt", "neg", "abs", "erf", "reciprocal", "clip", "floor", "ceil", "round",
    "sign", "sin", "cos", "power"))}
BINARY = {name: i for i, name in enumerate((
    "add", "sub", "mul", "div", "pow", "min", "max", "prelu", "mod",
    "equal", "less", "less_equal", "greater", "greater_equal", "and", "or", "xor"))}
REDUCTION = {name: i for i, name in enumerate(("sum", "mean", "max", "min", "prod", "l2"))}
CELL_KINDS = {"lstm": GI_LSTM, "gru": GI_GRU, "rnn": GI_RNN}
ALIGNMENT = 64

Cell = namedtuple("Cell", "kind input_size hidden_size activations clip linear_before_reset input_forget weights",
                  defaults=("f32",))
WEIGHTS = {"f32": 0, "bf16": 1, "f16": 2}
MAX_THREADS = GI_TEAM_MAX


cdef int fail(gi_error *err) except -1:
    """Raises what the C core's status means to a caller."""
    text = err.text.decode("utf-8", "replace")
    if err.status == GI_ERR_DATA:
        raise ShapeError(text)
    if err.status in (GI_ERR_NOT_COMPILED, GI_ERR_CANNOT_RUN):
        raise GateInferError(text)
    raise ModelError(text)


cdef int64_t checked(int64_t status, gi_error *err) except -1:
    if status < 0:
        fail(err)
    return status


cdef int read_view(gi_view *v, object view) except -1:
    """(tensor, offset, shape, strides) or None into a gi_view."""
    cdef Py_ssize_t i, rank
    v.tensor = -1
    v.rank = 0
    v.offset = 0
    if view is None:
        return 0
    tensor, offset, shape, strides = view
    rank = len(shape)
    if rank > GI_MAX_RANK:
        raise ModelError(f"a tensor of rank {rank} has more than {GI_MAX_RANK} axes")
    v.tensor = tensor
    v.rank = rank
    v.offset = offset
    for i in range(rank):
        v.shape[i] = shape[i]
        v.stride[i] = strides[i]
    return 0


cdef int read_cell(gi_cell *c, object cell) except -1:
    cdef int i
    c.kind = CELL_KINDS[cell.kind]
    c.input_size = cell.input_size
    c.hidden_size = cell.hidden_size
    c.clip = cell.clip
    c.linear_before_reset = bool(cell.linear_before_reset)
    c.input_forget = bool(cell.input_forget)
    c.weights = WEIGHTS[cell.weights]
    for i, (name, alpha, beta) in enumerate(cell.activations):
        c.act[i].kind = UNARY[name]
        c.act[i].alpha = alpha
        c.act[i].beta = beta
    return 0


cdef int read_window(gi_window *w, object window) except -1:
    cdef int i
    kernel, stride, dilation, pad_begin = window
    for i in range(2):
        w.kernel[i] = kernel[i]
        w.stride[i] = stride[i]
        w.dilation[i] = dilation[i]
        w.pad_begin[i] = pad_begin[i]
    return 0


cdef gi_loop_link *read_links(object links) except NULL:
    """[(view, tensor), ...] as an array to be freed."""
    cdef gi_loop_link *found = <gi_loop_link *>PyMem_Malloc((len(links) + 1) * sizeof(gi_loop_link))
    cdef Py_ssize_t i
    if found is NULL:
        raise MemoryError
    try:
        for i, (view, tensor) in enumerate(links):
            read_view(&found[i].parent, view)
            found[i].tensor = tensor
    except BaseException:
        PyMem_Free(found)
        raise
    return found


cdef gi_loop_carry *read_carries(object carries) except NULL:
    """[(initial, in, out, result), ...] as an array to be freed."""
    cdef gi_loop_carry *found = <gi_loop_carry *>PyMem_Malloc((len(carries) + 1) * sizeof(gi_loop_carry))
    cdef Py_ssize_t i
    if found is NULL:
        raise MemoryError
    try:
        for i, (initial, enters, out, result) in enumerate(carries):
            read_view(&found[i].initial, initial), read_view(&found[i].result, result)
            found[i].enters = enters
            found[i].out = out
    except BaseException:
        PyMem_Free(found)
        raise
    return found


cdef const gi_kernels *kernels_named(str name) except NULL:
    cdef gi_error err
    cdef const gi_kernels *kernels = gi_kernels_get(name.encode(), &err)
    if kernels is NULL:
        fail(&err)
    return kernels


def isa_names():
    names, index = [], 0
    while gi_kernels_list(index) is not NULL:
        names.append(gi_kernels_list(index).decode())
        index += 1
    return names


def best_isa():
    return gi_kernels_name(kernels_named("auto")).decode()


include "_packing.pxi"


cdef class Program:
    cdef gi_program *program
    cdef object constants
    cdef readonly str isa
    cdef readonly list op_names, op_macs
    cdef readonly int64_t work_bytes, macs
    cdef readonly dict external_bytes, constant_bytes

    def __dealloc__(self):
        gi_program_free(self.program)


include "_builder.pxi"
include "_team.pxi"
include "_runner.pxi"

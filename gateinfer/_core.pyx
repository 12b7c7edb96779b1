# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled engine: checks, pins, releases the GIL and raises. No arithmetic. The typed contract is _core.pyi."""

from collections import namedtuple

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
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


def aligned_empty(Py_ssize_t count, dtype=np.float32):
    """An uninitialised 1-d array whose first element lies on a 64-byte boundary."""
    item = np.dtype(dtype).itemsize
    raw = np.empty(count * item + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start:start + count * item].view(dtype)


cdef const float *floats(object array, object name, shape) except? NULL:
    """Data of a C-contiguous float32 array of that shape; NULL for None."""
    if array is None:
        return NULL
    if array.dtype != np.float32 or not array.flags.c_contiguous or array.shape != shape:
        raise ModelError(f"{name}: expected contiguous float32 of shape {shape}, got {array.dtype} {array.shape}")
    return <const float *><uintptr_t>array.ctypes.data


def packed_cell_size(cell):
    cdef gi_cell c
    cdef gi_error err
    read_cell(&c, cell)
    return checked(gi_cell_packed_size(&c, &err), &err)


def pack_cell(cell, W, R, B, P):
    cdef gi_cell c
    cdef gi_error err
    read_cell(&c, cell)
    H, I = cell.hidden_size, cell.input_size
    G = {"lstm": 4, "gru": 3, "rnn": 1}[cell.kind]
    packed = aligned_empty(checked(gi_cell_packed_size(&c, &err), &err))
    cdef uintptr_t target = packed.ctypes.data
    checked(gi_cell_pack(&c, floats(W, "W", (G * H, I)), floats(R, "R", (G * H, H)), floats(B, "B", (2 * G * H,)),
                         floats(P, "P", (3 * H,)), <float *>target, &err), &err)
    return packed


def projected_size(cell):
    cdef gi_cell c
    read_cell(&c, cell)
    return gi_cell_projected_size(&c)


def project(isa, cell, packed, x):
    cdef gi_cell c
    cdef gi_error err
    read_cell(&c, cell)
    cdef const gi_kernels *kernels = kernels_named(isa)
    cdef const float *weights = floats(packed, "packed", (checked(gi_cell_packed_size(&c, &err), &err),))
    cdef const float *source = floats(x, "x", (len(x), cell.input_size))
    out = aligned_empty(len(x) * gi_cell_projected_size(&c)).reshape(len(x), gi_cell_projected_size(&c))
    cdef uintptr_t target = out.ctypes.data
    gi_cell_project(kernels, &c, weights, len(x), source, <float *>target)
    return out


def round_weights(w, weights):
    cdef gi_error err
    source = np.ascontiguousarray(w, np.float32)
    rounded = np.empty_like(source)
    cdef uintptr_t data = source.ctypes.data, target = rounded.ctypes.data
    checked(gi_round_weights(WEIGHTS[weights], source.size, <const float *>data, <float *>target, &err), &err)
    return rounded


def pack_dense(w, bias, weights="f32"):
    cdef gi_error err
    cdef int form = WEIGHTS[weights]
    if w.dtype != np.float32 or w.ndim != 2:
        raise ModelError(f"a dense weight is a float32 matrix, got {w.dtype} {w.shape}")
    cdef int64_t K = w.shape[0], N = w.shape[1], k_stride = w.strides[0] // 4, n_stride = w.strides[1] // 4
    packed = aligned_empty(checked(gi_dense_packed_size(form, K, N, &err), &err))
    cdef uintptr_t target = packed.ctypes.data, source = w.ctypes.data
    checked(gi_dense_pack(form, K, N, <const float *>source, k_stride, n_stride, floats(bias, "bias", (N,)),
                          <float *>target, &err), &err)
    return packed


cdef class Program:
    cdef gi_program *program
    cdef object constants
    cdef readonly str isa
    cdef readonly list op_names, op_macs
    cdef readonly int64_t work_bytes, macs
    cdef readonly dict external_bytes, constant_bytes

    def __dealloc__(self):
        gi_program_free(self.program)


cdef class Builder:
    cdef gi_builder *builder
    cdef gi_error err
    cdef list constants
    cdef dict external_bytes, constant_bytes
    cdef readonly str isa

    def __cinit__(self, str isa="auto"):
        cdef const gi_kernels *kernels = kernels_named(isa)
        self.builder = gi_builder_create(kernels, &self.err)
        if self.builder is NULL:
            fail(&self.err)
        self.isa = gi_kernels_name(kernels).decode()
        self.constants = []
        self.external_bytes, self.constant_bytes = {}, {}

    def __dealloc__(self):
        gi_builder_free(self.builder)

    @property
    def op_count(self):
        return gi_builder_op_count(self.builder)

    def op_macs(self, int index):
        return gi_builder_op_macs(self.builder, index)

    def work(self, int dtype, int64_t elements):
        return checked(gi_builder_work(self.builder, dtype, elements, &self.err), &self.err)

    def external(self, int dtype, int64_t elements):
        tensor = checked(gi_builder_external(self.builder, dtype, elements, &self.err), &self.err)
        self.external_bytes[tensor] = elements * ITEM_SIZES[dtype]
        return tensor

    def constant(self, array):
        if array.dtype not in DTYPES or not array.flags.c_contiguous:
            raise ModelError(f"a constant is a contiguous array of a supported dtype, got {array.dtype}")
        cdef uintptr_t data = array.ctypes.data
        self.constants.append(array)
        self.constant_bytes[data] = array.nbytes
        return checked(gi_builder_constant(self.builder, DTYPES[array.dtype], array.size, <const void *>data, &self.err),
                       &self.err)

    def carry(self, int source, int target):
        checked(gi_builder_carry(self.builder, source, target, &self.err), &self.err)

    def copy(self, out, src):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_copy(self.builder, &o, &s, &self.err), &self.err)

    def fill(self, out, double value):
        cdef gi_view o
        read_view(&o, out)
        checked(gi_build_fill(self.builder, &o, value, &self.err), &self.err)

    def cast(self, out, src):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_cast(self.builder, &o, &s, &self.err), &self.err)

    def unary(self, int fn, out, src, float alpha=0.0, float beta=0.0):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_unary(self.builder, fn, &o, &s, alpha, beta, &self.err), &self.err)

    def binary(self, int fn, out, lhs, rhs):
        cdef gi_view o, a, b
        read_view(&o, out), read_view(&a, lhs), read_view(&b, rhs)
        checked(gi_build_binary(self.builder, fn, &o, &a, &b, &self.err), &self.err)

    def where(self, out, cond, lhs, rhs):
        cdef gi_view o, c, a, b
        read_view(&o, out), read_view(&c, cond), read_view(&a, lhs), read_view(&b, rhs)
        checked(gi_build_where(self.builder, &o, &c, &a, &b, &self.err), &self.err)

    def gather(self, out, src, index, int axis):
        cdef gi_view o, s, i
        read_view(&o, out), read_view(&s, src), read_view(&i, index)
        checked(gi_build_gather(self.builder, &o, &s, &i, axis, &self.err), &self.err)

    def gather_nd(self, out, src, index, int batch):
        cdef gi_view o, s, i
        read_view(&o, out), read_view(&s, src), read_view(&i, index)
        checked(gi_build_gather_nd(self.builder, &o, &s, &i, batch, &self.err), &self.err)

    def gather_elements(self, out, src, index, int axis):
        cdef gi_view o, s, i
        read_view(&o, out), read_view(&s, src), read_view(&i, index)
        checked(gi_build_gather_elements(self.builder, &o, &s, &i, axis, &self.err), &self.err)

    def scatter_nd(self, out, index, updates, int reduction):
        cdef gi_view o, i, u
        read_view(&o, out), read_view(&i, index), read_view(&u, updates)
        checked(gi_build_scatter_nd(self.builder, &o, &i, &u, reduction, &self.err), &self.err)

    def scatter_elements(self, out, index, updates, int axis, int reduction):
        cdef gi_view o, i, u
        read_view(&o, out), read_view(&i, index), read_view(&u, updates)
        checked(gi_build_scatter_elements(self.builder, &o, &i, &u, axis, reduction, &self.err), &self.err)

    def arg(self, out, src, bint least, bint last):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_arg(self.builder, &o, &s, least, last, &self.err), &self.err)

    def top(self, values, indices, src, bint least):
        cdef gi_view v, i, s
        read_view(&v, values), read_view(&i, indices), read_view(&s, src)
        checked(gi_build_top(self.builder, &v, &i, &s, least, &self.err), &self.err)

    def cumsum(self, out, src, bint exclusive):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_cumsum(self.builder, &o, &s, exclusive, &self.err), &self.err)

    def reverse(self, out, src, lens):
        cdef gi_view o, s, l
        read_view(&o, out), read_view(&s, src), read_view(&l, lens)
        checked(gi_build_reverse(self.builder, &o, &s, &l, &self.err), &self.err)

    def reduce(self, int fn, out, src):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_reduce(self.builder, fn, &o, &s, &self.err), &self.err)

    def softmax(self, bint logarithm, out, src):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_softmax(self.builder, logarithm, &o, &s, &self.err), &self.err)

    def layer_norm(self, out, src, scale, bias, float epsilon):
        cdef gi_view o, s, g, b
        read_view(&o, out), read_view(&s, src), read_view(&g, scale), read_view(&b, bias)
        checked(gi_build_layer_norm(self.builder, &o, &s, &g, &b, epsilon, &self.err), &self.err)

    def pool(self, out, src, window, bint maximum, bint count_pad):
        cdef gi_view o, s
        cdef gi_window w
        read_view(&o, out), read_view(&s, src), read_window(&w, window)
        checked(gi_build_pool(self.builder, &o, &s, &w, maximum, count_pad, &self.err), &self.err)

    def dense(self, out, src, int packed, weights="f32"):
        cdef gi_view o, s
        read_view(&o, out), read_view(&s, src)
        checked(gi_build_dense(self.builder, &o, &s, WEIGHTS[weights], packed, &self.err), &self.err)

    def matmul(self, out, lhs, rhs):
        cdef gi_view o, a, b
        read_view(&o, out), read_view(&a, lhs), read_view(&b, rhs)
        checked(gi_build_matmul(self.builder, &o, &a, &b, &self.err), &self.err)

    def conv(self, out, src, int packed, int64_t groups, window):
        cdef gi_view o, s
        cdef gi_window w
        read_view(&o, out), read_view(&s, src), read_window(&w, window)
        checked(gi_build_conv(self.builder, &o, &s, packed, groups, &w, &self.err), &self.err)

    def cell_pack(self, cell, int packed, W, R, B, P):
        cdef gi_cell c
        cdef gi_view w, r, b, p
        read_cell(&c, cell)
        read_view(&w, W), read_view(&r, R), read_view(&b, B), read_view(&p, P)
        checked(gi_build_cell_pack(self.builder, &c, packed, &w, &r, &b, &p, &self.err), &self.err)

    def recurrent(self, cell, bint reverse, int packed, x, lens, h0, c0, y, hn, cn, bint projected=False):
        cdef gi_recurrent layer
        read_cell(&layer.cell, cell)
        layer.reverse = reverse
        layer.packed = packed
        layer.projected = projected
        read_view(&layer.x, x), read_view(&layer.lens, lens), read_view(&layer.h0, h0), read_view(&layer.c0, c0)
        read_view(&layer.y, y), read_view(&layer.hn, hn), read_view(&layer.cn, cn)
        checked(gi_build_recurrent(self.builder, &layer, &self.err), &self.err)

    def loop(self, Program body not None, int64_t trips, trip_count, condition, signals, captures, carries, scan_inputs,
             scan_outputs):
        cdef gi_loop l
        cdef gi_loop_link *links[3]
        cdef gi_loop_carry *states = NULL
        cdef int i
        links[:] = [NULL, NULL, NULL]
        l.trips = trips
        read_view(&l.trip_count, trip_count), read_view(&l.condition, condition)
        l.iteration, l.condition_in, l.condition_out = signals
        l.n_captures, l.n_carries = len(captures), len(carries)
        l.n_scan_inputs, l.n_scan_outputs = len(scan_inputs), len(scan_outputs)
        try:
            for i, given in enumerate((captures, scan_inputs, scan_outputs)):
                links[i] = read_links(given)
            states = read_carries(carries)
            l.captures, l.scan_inputs, l.scan_outputs, l.carries = links[0], links[1], links[2], states
            checked(gi_build_loop(self.builder, body.program, &l, &self.err), &self.err)
        finally:
            for i in range(3):
                PyMem_Free(links[i])
            PyMem_Free(states)
        self.constants.append(body)
        self.constant_bytes.update(body.constant_bytes)

    def finish(self):
        cdef Program p = Program.__new__(Program)
        cdef int i
        p.program = gi_builder_finish(self.builder, &self.err)
        if p.program is NULL:
            fail(&self.err)
        p.constants = self.constants
        p.external_bytes, p.constant_bytes = self.external_bytes, self.constant_bytes
        p.isa = self.isa
        ops = range(gi_program_op_count(p.program))
        p.op_names = [gi_program_op_name(p.program, i).decode() for i in ops]
        p.op_macs = [gi_program_op_macs(p.program, i) for i in ops]
        p.work_bytes = gi_program_work_bytes(p.program)
        p.macs = gi_program_macs(p.program)
        return p


include "_team.pxi"
include "_runner.pxi"

"""Weights in the order the kernels read them, in memory that is aligned for them. Included by _core.pyx."""


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

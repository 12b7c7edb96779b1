"""Tensors and ops that become a program. Included by _core.pyx."""


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

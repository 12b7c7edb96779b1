"""The mutable half of a program, and calls on bound buffers. Included by _core.pyx."""

# Giving the GIL away and taking it back costs a step about 50 ns, and much more once other threads want it.
cdef int64_t NS_WORTH_A_GIL_RELEASE = 2000
cdef int64_t MACS_PER_NS_AND_LANE = 2
cdef int64_t BYTES_PER_NS = 16
cdef int64_t NS_PER_OP = 50


cdef bint is_heavy(Program program, object rows) except -1:
    """Whether a step is estimated to take long enough for other threads to be let in. Turns of loops are not known."""
    if "loop" in program.op_names:
        return True
    memory = program.work_bytes + sum(program.external_bytes.values())
    lanes = gi_kernels_lanes(kernels_named(program.isa))
    per_row = program.macs / (MACS_PER_NS_AND_LANE * lanes) + memory / BYTES_PER_NS
    return len(program.op_names) * NS_PER_OP + rows * per_row >= NS_WORTH_A_GIL_RELEASE


cdef class Runner:
    cdef gi_stream *stream
    cdef Team team
    cdef readonly Program program
    cdef readonly int64_t rows
    cdef readonly bint heavy
    cdef dict bound
    cdef bint busy

    def __cinit__(self, Program program not None, int64_t rows=1, Team team=None):
        cdef gi_error err
        self.stream = gi_stream_create(program.program, rows, &err)
        if self.stream is NULL:
            fail(&err)
        if team is not None:
            gi_stream_use_team(self.stream, team.team)
        self.program = program
        self.team = team
        self.rows = rows
        self.bound = {}
        self.heavy = is_heavy(program, rows)

    def __dealloc__(self):
        gi_stream_free(self.stream)

    def bind(self, int tensor, array):
        cdef gi_error err
        cdef Py_buffer buffer
        cdef void *data
        wanted = self.program.external_bytes.get(tensor)
        self.check_idle()
        PyObject_GetBuffer(array, &buffer, PyBUF_C_CONTIGUOUS)
        data, size = buffer.buf, buffer.len
        PyBuffer_Release(&buffer)
        if wanted is None or size != wanted * self.rows:
            raise ShapeError(f"tensor {tensor} needs {wanted} bytes per row, got {size}")
        checked(gi_stream_bind(self.stream, tensor, data, &err), &err)
        self.bound[tensor] = array

    def run(self, tensors, arrays):
        """Binds arrays to tensors, steps once, and forgets the arrays."""
        try:
            for tensor, array in zip(tensors, arrays):
                self.bind(tensor, array)
            self.step()
        finally:
            self.bound.clear()

    def step(self):
        self.advance()

    cdef int advance(self) except -1:
        cdef gi_error err
        cdef int status
        if not self.heavy:
            status = gi_stream_step(self.stream, &err)
        else:
            self.check_idle()
            self.busy = True
            with nogil:
                status = gi_stream_step(self.stream, &err)
            self.busy = False
        if status < 0:
            fail(&err)
        return 0

    cdef int check_idle(self) except -1:
        if self.busy:
            raise GateInferError("a step is running on this stream in another thread; use one stream per thread")
        return 0

    def refuse_busy(self):
        self.check_idle()

    def profile(self):
        cdef gi_error err
        ns = np.zeros(len(self.program.op_names), np.int64)
        cdef uintptr_t data = ns.ctypes.data
        self.check_idle()
        checked(gi_stream_profile(self.stream, <int64_t *>data, &err), &err)
        return ns


cdef inline bint fits(object given, cnp.ndarray buffer):
    """Whether `given` is a plain array whose bytes could be those of a C-contiguous array like `buffer`."""
    cdef cnp.ndarray array
    if not cnp.PyArray_CheckExact(given):
        return False
    array = <cnp.ndarray>given
    return (cnp.PyArray_TYPE(array) == cnp.PyArray_TYPE(buffer) and cnp.PyArray_ISCARRAY_RO(array)
            and cnp.PyArray_SAMESHAPE(array, buffer))


def all_fit(given, dict wanted not None):
    """Whether a dict holds plain arrays by the names of `wanted` and nothing else, each as the one there."""
    if type(given) is not dict or len(<dict>given) != len(wanted):
        return False
    for name, array in wanted.items():
        if not fits((<dict>given).get(name), array):
            return False
    return True


cdef inline void copy_bytes(cnp.ndarray target, cnp.ndarray source):
    """Between arrays that fit each other. They may be the same memory: a caller may pass a bound buffer."""
    memmove(cnp.PyArray_DATA(target), cnp.PyArray_DATA(source), cnp.PyArray_NBYTES(source))


cdef inline cnp.ndarray empty_as(cnp.ndarray buffer):
    return cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(buffer), cnp.PyArray_DIMS(buffer), cnp.PyArray_TYPE(buffer))


cdef inline bint all_fit_in(tuple given, tuple buffers) except -1:
    """Whether there is an array for each buffer that fits."""
    cdef Py_ssize_t i
    if given is None or len(given) != len(buffers):
        return False
    for i in range(len(buffers)):
        if not fits(given[i], buffers[i]):
            return False
    return True


cdef inline bint can_take(tuple targets, tuple results) except -1:
    """Whether there is an array for each result that fits and may be written."""
    cdef Py_ssize_t i
    if not all_fit_in(targets, results):
        return False
    for i in range(len(targets)):
        if not cnp.PyArray_ISWRITEABLE(targets[i]):
            return False
    return True


cdef inline tuple all_fresh(tuple buffers):
    if len(buffers) == 1:
        return (empty_as(buffers[0]),)
    return tuple([empty_as(buffer) for buffer in buffers])


cdef inline int copy_all(tuple targets, tuple sources) except -1:
    cdef Py_ssize_t i
    for i in range(len(targets)):
        copy_bytes(targets[i], sources[i])
    return 0


@cython.auto_pickle(False)
cdef class FrameCalls:
    """Calls that copy into bound buffers and out of them; where nothing is to be converted, nothing else is asked."""
    cdef Runner runner
    cdef tuple in_names, in_buffers, out_names, out_buffers
    cdef Py_ssize_t positional

    def _take_plain(self, Runner runner, dict inputs not None, dict outputs not None, Py_ssize_t positional):
        self.runner = runner
        self.in_names, self.in_buffers = tuple(inputs), tuple(inputs.values())
        self.out_names, self.out_buffers = tuple(outputs), tuple(outputs.values())
        self.positional = positional

    def __call__(self, /, *args, out=None, **frames):
        """One frame or chunk through the model.

        Parameters
        ----------
        *args, **frames : array
            Frame inputs in the order of the model's inputs, or by name. Those with a default in the file are optional.
        out : ndarray or dict of str to ndarray, optional
            Where results go; nothing is allocated then.

        Returns
        -------
        The array of the one output that is not state, or a dict by output name where there are several; `out` when
        given. Where all outputs are state, they are the result.

        Notes
        -----
        An empty chunk leaves the state as it is. Results along time are empty then; where a lifted stream has one of
        the last step alone, it is refused with ShapeError.
        """
        # What is bound now: names and collections may run code of the caller, which may bind other buffers.
        cdef Runner runner = self.runner
        cdef tuple buffers = self.in_buffers, results = self.out_buffers
        cdef tuple given, targets = None
        if runner is None:
            return self._call_any(args, frames, out)
        runner.check_idle()
        given = self.in_order(args, frames)
        if out is not None:
            targets = self.in_order_of_results(out)
        if not all_fit_in(given, buffers) or (out is not None and not can_take(targets, results)):
            return self._call_any(args, frames, out)
        if out is None:
            targets = all_fresh(results)
        copy_all(buffers, given)
        runner.advance()
        copy_all(targets, results)
        if out is not None:
            return out
        return targets[0] if len(targets) == 1 else dict(zip(self.out_names, targets))

    cdef tuple in_order(self, tuple args, dict frames):
        """All frames in the order of their buffers, or None where some are missing or too many."""
        cdef Py_ssize_t given = len(args)
        if given > self.positional or given + len(frames) != len(self.in_names):
            return None
        if not frames:
            return args
        named = tuple([frames.get(name) for name in self.in_names[given:]])
        return args + named if given else named

    cdef tuple in_order_of_results(self, out):
        """The arrays of `out` in the order of results, or None where their number is another."""
        if type(out) is not dict:
            return (out,)
        if len(<dict>out) != len(self.out_names):
            return None
        return tuple([(<dict>out).get(name) for name in self.out_names])

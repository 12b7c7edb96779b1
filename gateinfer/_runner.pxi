"""The mutable half of a program, and calls on bound buffers. Included by _core.pyx."""

# Giving the GIL away and taking it back costs a step about 50 ns, and much more once other threads want it.
cdef int64_t NS_WORTH_A_GIL_RELEASE = 2000
cdef int64_t MACS_PER_NS_AND_LANE = 2
cdef int64_t BYTES_PER_NS = 16
cdef int64_t NS_PER_OP = 50

# Runners kept per program for calls of `run` from several threads.
cdef Py_ssize_t MAX_IDLE_RUNNERS = 4


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

    def bind(self, int tensor, cnp.ndarray array not None):
        self.check_idle()
        self.attach(tensor, array)
        self.bound[tensor] = array

    cdef int attach(self, tensor, cnp.ndarray array) except -1:
        cdef gi_error err
        wanted = self.program.external_bytes.get(tensor)
        if array is None or not cnp.PyArray_IS_C_CONTIGUOUS(array):
            raise ValueError("expected a C-contiguous array")
        if wanted is None or cnp.PyArray_NBYTES(array) != <int64_t>wanted * self.rows:
            raise ShapeError(f"tensor {tensor} needs {wanted} bytes per row, got {array.nbytes}")
        checked(gi_stream_bind(self.stream, tensor, cnp.PyArray_DATA(array), &err), &err)
        return 0

    cpdef run(self, tuple tensors, list arrays):
        cdef Py_ssize_t i
        self.check_idle()
        if len(tensors) != len(arrays):
            raise ValueError(f"expected an array for each of {len(tensors)} tensors, got {len(arrays)}")
        for i in range(len(tensors)):
            self.attach(tensors[i], arrays[i])
        self.advance()

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


cdef inline void copy_bytes(cnp.ndarray target, cnp.ndarray source):
    """Between arrays that fit each other. They may be the same memory: a caller may pass a bound buffer."""
    memmove(cnp.PyArray_DATA(target), cnp.PyArray_DATA(source), cnp.PyArray_NBYTES(source))


cdef inline cnp.ndarray empty_as(cnp.ndarray buffer):
    return cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(buffer), cnp.PyArray_DIMS(buffer), cnp.PyArray_TYPE(buffer))


cdef inline cnp.ndarray fresh(name, cnp.ndarray sample):
    try:
        return empty_as(sample)
    except MemoryError as error:
        raise ModelError(f"{name!r} of shape {np.shape(sample)} does not fit in memory: {error}") from None


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


cdef inline tuple samples_of(slots):
    """An array per slot of its type and shape that takes no memory."""
    return tuple([np.broadcast_to(np.zeros((), dtype), shape) for _, dtype, shape in slots])


cdef class RunCalls:
    """Calls of `run` on one program: arrays by name in, fresh ones by name out."""
    cdef tuple in_names, in_samples, out_names, out_samples, tensors
    cdef list idle
    cdef object new_runner

    def __init__(self, dict inputs not None, dict outputs not None, new_runner):
        self.in_names, self.in_samples = tuple(inputs), samples_of(inputs.values())
        self.out_names, self.out_samples = tuple(outputs), samples_of(outputs.values())
        self.tensors = tuple([slot[0] for slot in (*inputs.values(), *outputs.values())])
        self.idle, self.new_runner = [], new_runner

    def fit(self, feeds):
        cdef Py_ssize_t i
        if type(feeds) is not dict or len(<dict>feeds) != len(self.in_names):
            return False
        for i in range(len(self.in_names)):
            if not fits((<dict>feeds).get(self.in_names[i]), self.in_samples[i]):
                return False
        return True

    def run(self, dict feeds not None):
        cdef cnp.ndarray array
        cdef Py_ssize_t i
        cdef list arrays = []
        cdef dict results = {}
        for i in range(len(self.in_names)):
            array = feeds[self.in_names[i]]
            # Indices are checked before they are used; no other thread may change them in between.
            arrays.append(array.copy() if cnp.PyArray_ISINTEGER(array) else array)
        for i in range(len(self.out_names)):
            array = fresh(self.out_names[i], self.out_samples[i])
            results[self.out_names[i]] = array
            arrays.append(array)
        self.run_on_any(arrays)
        return results

    cdef int run_on_any(self, list arrays) except -1:
        """On an idle runner or a new one, which is kept if the step succeeds."""
        runner = self.idle.pop() if self.idle else self.new_runner()
        if isinstance(runner, Runner):
            (<Runner>runner).run(self.tensors, arrays)
        else:
            runner.run(self.tensors, arrays)
        if len(self.idle) < MAX_IDLE_RUNNERS:
            self.idle.append(runner)
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

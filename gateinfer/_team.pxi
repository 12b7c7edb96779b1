"""Threads that share the work of a step. Included by _core.pyx."""


cdef class Team:
    cdef gi_team *team
    cdef readonly int threads
    cdef readonly double keep_hot

    def __cinit__(self, int threads, double keep_hot=0.0):
        cdef gi_error err
        self.team = gi_team_create(threads, <int64_t>(keep_hot * 1e9), &err)
        if self.team is NULL:
            fail(&err)
        self.threads = threads
        self.keep_hot = keep_hot

    def __dealloc__(self):
        with nogil:
            gi_team_free(self.team)

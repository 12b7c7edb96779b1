/* A library to be preloaded: counts calls to the allocator of glibc while armed. Built by tests/test_allocations.py. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

static atomic_long calls;
static atomic_int armed;

static void note(void) {
    if (atomic_load_explicit(&armed, memory_order_relaxed)) atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
}

/* Counts from 0 on. */
void count_start(void) {
    atomic_store(&calls, 0);
    atomic_store(&armed, 1);
}

/* The calls since count_start. */
long count_stop(void) {
    atomic_store(&armed, 0);
    return atomic_load(&calls);
}

void *malloc(size_t size) { return note(), __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return note(), __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return note(), __libc_realloc(old, size); }
void *aligned_alloc(size_t alignment, size_t size) { return note(), __libc_memalign(alignment, size); }
void *memalign(size_t alignment, size_t size) { return note(), __libc_memalign(alignment, size); }
int posix_memalign(void **out, size_t alignment, size_t size) {
    note();
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : ENOMEM;
}
void free(void *p) {
    note();
    __libc_free(p);
}

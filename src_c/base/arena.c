#include "arena.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, CHUNK_BYTES = 16 * 1024 };

/* Chunks form a list; small pieces are cut from the newest. Each piece starts on an ALIGNMENT boundary. */
typedef struct chunk { struct chunk *next; size_t used, size; } chunk;

struct gi_arena { chunk *newest; };

static char *chunk_start(chunk *c) {
    uintptr_t p = (uintptr_t)(c + 1);
    return (char *)((p + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
}

static chunk *chunk_create(size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    chunk *c = calloc(1, sizeof(chunk) + ALIGNMENT + size);
    if (c) c->size = size;
    return c;
}

gi_arena *gi_arena_create(void) { return calloc(1, sizeof(gi_arena)); }

void gi_arena_free(gi_arena *a) {
    if (!a) return;
    for (chunk *c = a->newest, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(a);
}

void *gi_arena_take(gi_arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 4) return NULL;
    bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    chunk *c = a->newest;
    if (!c || c->size - c->used < bytes) {
        c = chunk_create(bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES);
        if (!c) return NULL;
        c->next = a->newest;
        a->newest = c;
    }
    void *piece = chunk_start(c) + c->used;
    c->used += bytes;
    return piece;
}

int64_t gi_size_mul(int64_t a, int64_t b) {
    int64_t product;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) || product > INT64_MAX / 4) return -1;
    return product;
}

int64_t gi_size_add(int64_t a, int64_t b) {
    int64_t sum;
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &sum) || sum > INT64_MAX / 4) return -1;
    return sum;
}

/* The only malloc and free of the core: memory that grows, never moves, and goes at once. */
#ifndef GI_ARENA_H
#define GI_ARENA_H
#include <stddef.h>
#include <stdint.h>

typedef struct gi_arena gi_arena;

gi_arena *gi_arena_create(void);                       /* NULL when out of memory */
void gi_arena_free(gi_arena *a);                       /* NULL is fine */
/* `bytes` of zeroed memory, 64-byte aligned; NULL when out of memory. */
void *gi_arena_take(gi_arena *a, size_t bytes);

/* a * b and a + b for sizes >= 0; -1 when either is negative or the result does not fit in int64_t / 4. */
int64_t gi_size_mul(int64_t a, int64_t b);
int64_t gi_size_add(int64_t a, int64_t b);

#endif

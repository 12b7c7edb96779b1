/* A million steps of a program of C alone call no allocator. Under a sanitizer, which has an allocator of its own, or without
 * glibc nothing is counted, and the steps are only run. Exit status 1 on any failure. */
#include <gateinfer.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 12, STEPS = 1000000 };

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
enum { COUNTED = 1 };
static long calls;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

void *malloc(size_t size) { return calls++, __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return calls++, __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return calls++, __libc_realloc(old, size); }
void *aligned_alloc(size_t alignment, size_t size) { return calls++, __libc_memalign(alignment, size); }
void free(void *p) {
    calls++;
    __libc_free(p);
}
#else
enum { COUNTED = 0 };
static long calls;
#endif

static gi_error err;
static float weights[1 << 14], packed[2][1 << 14] __attribute__((aligned(64))), memory[8][SIZE];

static gi_view dense(int tensor, int rank, int64_t a, int64_t b, int64_t c, int64_t d) {
    gi_view v = {.tensor = tensor, .rank = rank, .shape = {a, b, c, d}};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; stride *= v.shape[i--]) v.stride[i] = stride;
    return v;
}

static int check(int status) {
    if (status >= 0) return status;
    printf("FAIL: %s\n", err.text);
    exit(1);
}

static gi_stream *start(gi_program *p, int tensors) {
    gi_stream *s = p ? gi_stream_create(p, 1, &err) : NULL;
    if (!s) check(err.status);
    for (int i = 0; i < tensors; i++) check(gi_stream_bind(s, i, memory[i], &err));
    return s;
}

/* x -> an LSTM whose state is carried. External tensors: x, h0, c0, y, hn, cn. */
static gi_program *lstm_program(void) {
    gi_builder *b = gi_builder_create(gi_kernels_get("auto", &err), &err);
    const gi_cell cell = {.kind = GI_LSTM, .input_size = SIZE, .hidden_size = SIZE,
                          .act = {{.kind = GI_SIGMOID}, {.kind = GI_TANH}, {.kind = GI_TANH}}};
    for (int i = 0; i < 6; i++) check(gi_builder_external(b, GI_F32, SIZE, &err));
    check(gi_cell_pack(&cell, weights, weights, weights, NULL, packed[0], &err));
    const int W = check(gi_builder_constant(b, GI_F32, gi_cell_packed_size(&cell, &err), packed[0], &err));
    const gi_recurrent layer = {.cell = cell, .packed = W, .x = dense(0, 3, 1, 1, SIZE, 0), .lens.tensor = -1,
                                .h0 = dense(1, 2, 1, SIZE, 0, 0), .c0 = dense(2, 2, 1, SIZE, 0, 0),
                                .y = dense(3, 3, 1, 1, SIZE, 0), .hn = dense(4, 2, 1, SIZE, 0, 0),
                                .cn = dense(5, 2, 1, SIZE, 0, 0)};
    check(gi_build_recurrent(b, &layer, &err));
    check(gi_builder_carry(b, 4, 1, &err)), check(gi_builder_carry(b, 5, 2, &err));
    gi_program *p = gi_builder_finish(b, &err);
    gi_builder_free(b);
    return p;
}

/* A padded convolution of width 3 on a line, 1 channel to 1, external tensors x and y; then y into x. */
static gi_program *conv_program(void) {
    gi_builder *b = gi_builder_create(gi_kernels_get("auto", &err), &err);
    const gi_window window = {.kernel = {1, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad_begin = {0, 1}};
    for (int i = 0; i < 2; i++) check(gi_builder_external(b, GI_F32, SIZE, &err));
    check(gi_dense_pack(GI_WEIGHTS_F32, 3, 1, weights, 1, 1, NULL, packed[1], &err));
    const int W = check(gi_builder_constant(b, GI_F32, gi_dense_packed_size(GI_WEIGHTS_F32, 3, 1, &err), packed[1], &err));
    const gi_view x = dense(0, 4, 1, 1, 1, SIZE), y = dense(1, 4, 1, 1, 1, SIZE);
    check(gi_build_conv(b, &y, &x, W, 1, &window, &err));
    check(gi_builder_carry(b, 1, 0, &err));
    gi_program *p = gi_builder_finish(b, &err);
    gi_builder_free(b);
    return p;
}

/* Three turns of `body`, whose tensor 0 is carried from its tensor 1; external tensors of both: x and y. */
static gi_program *loop_program(const gi_program *body) {
    gi_builder *b = gi_builder_create(gi_kernels_get("auto", &err), &err);
    for (int i = 0; i < 2; i++) check(gi_builder_external(b, GI_F32, SIZE, &err));
    const gi_loop_carry carry = {dense(0, 1, SIZE, 0, 0, 0), dense(1, 1, SIZE, 0, 0, 0), 0, 1};
    const gi_loop loop = {.trips = 3, .trip_count.tensor = -1, .condition.tensor = -1, .iteration = -1, .condition_in = -1,
                          .condition_out = -1, .n_carries = 1, .carries = &carry};
    check(gi_build_loop(b, body, &loop, &err));
    gi_program *p = gi_builder_finish(b, &err);
    gi_builder_free(b);
    return p;
}

static gi_program *body_program(void) {
    gi_builder *b = gi_builder_create(gi_kernels_get("auto", &err), &err);
    for (int i = 0; i < 2; i++) check(gi_builder_external(b, GI_F32, SIZE, &err));
    const gi_view x = dense(0, 1, SIZE, 0, 0, 0), y = dense(1, 1, SIZE, 0, 0, 0);
    check(gi_build_unary(b, GI_TANH, &y, &x, 0, 0, &err));
    gi_program *p = gi_builder_finish(b, &err);
    gi_builder_free(b);
    return p;
}

static int count(const char *what, gi_program *p, int tensors, int steps) {
    gi_stream *s = start(p, tensors);
    const long before = calls;
    for (int i = 0; i < steps; i++) check(gi_stream_step(s, &err));
    const long made = calls - before;
    if (made) printf("FAIL %s: %ld calls of the allocator in %d steps\n", what, made, steps);
    gi_stream_free(s), gi_program_free(p);
    return made != 0;
}

int main(void) {
    for (int i = 0; i < 1 << 14; i++) weights[i] = (float)(i % 7 - 3) / 16;
    for (int i = 0; i < SIZE; i++) memory[0][i] = (float)i / SIZE;
    const int steps = COUNTED ? STEPS : 1000;
    gi_program *body = body_program();
    int failed = count("lstm", lstm_program(), 6, steps);
    failed |= count("conv", conv_program(), 2, steps);
    failed |= count("loop", loop_program(body), 2, steps);
    gi_program_free(body);
    if (COUNTED && !calls) puts("FAIL: the counter does not count"), failed = 1;
    puts(COUNTED ? "allocations counted" : "allocations not counted here");
    return failed;
}

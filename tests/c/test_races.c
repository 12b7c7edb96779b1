/* Numbers that the caller's other threads change amid a step lead to no place outside: indices, lengths. What a step computes
 * then is up to chance; AddressSanitizer says where it reads and writes. Exit status 1 on any failure. */
#include "check.h"
#include <gateinfer.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 512, EXTENT = 8, WIDTH = 2, STEPS = 4000, FAR = 1 << 20 };

typedef struct writer { volatile int32_t *at; int32_t good, wrong; atomic_int stop; } writer;

static void *write_in_turns(void *arg) {
    writer *w = arg;
    for (int i = 0; !atomic_load(&w->stop); i++) w->at[COUNT - 1] = i % 2 ? w->good : w->wrong;
    return NULL;
}

static gi_view view(int tensor, int rank, int64_t a, int64_t b, int64_t c) {
    gi_view v = {.tensor = tensor, .rank = rank, .shape = {a, b, c}};
    for (int64_t i = rank - 1, step = 1; i >= 0; i--) v.stride[i] = step, step *= v.shape[i];
    return v;
}

/* One operator whose numbers are external tensor 0, int32 [COUNT]; adds the other external tensors. */
typedef int build_fn(gi_builder *b, int numbers, gi_error *err);

static int build_gather(gi_builder *b, int numbers, gi_error *err) {
    const int in = gi_builder_external(b, GI_F32, EXTENT * WIDTH, err), out = gi_builder_external(b, GI_F32, COUNT * WIDTH, err);
    const gi_view from = view(in, 2, EXTENT, WIDTH, 0), to = view(out, 2, COUNT, WIDTH, 0), by = view(numbers, 1, COUNT, 0, 0);
    return gi_build_gather(b, &to, &from, &by, 0, err);
}

static int build_reverse(gi_builder *b, int numbers, gi_error *err) {
    const int in = gi_builder_external(b, GI_F32, EXTENT * COUNT, err), out = gi_builder_external(b, GI_F32, EXTENT * COUNT, err);
    const gi_view from = view(in, 2, EXTENT, COUNT, 0), to = view(out, 2, EXTENT, COUNT, 0), by = view(numbers, 1, COUNT, 0, 0);
    return gi_build_reverse(b, &to, &from, &by, err);
}

static int build_layer(gi_builder *b, int numbers, gi_error *err) {
    static const float weights[2 * WIDTH * WIDTH], bias[2 * WIDTH];
    static _Alignas(64) float packed[4096];
    const gi_cell cell = {.kind = GI_RNN, .act = {{.kind = GI_TANH}}, .input_size = WIDTH, .hidden_size = WIDTH};
    gi_cell_pack(&cell, weights, weights, bias, NULL, packed, err);
    const int64_t n = EXTENT * COUNT * WIDTH;
    const int x = gi_builder_external(b, GI_F32, n, err), y = gi_builder_external(b, GI_F32, n, err);
    const gi_recurrent layer = {.cell = cell, .packed = gi_builder_constant(b, GI_F32, gi_cell_packed_size(&cell, err), packed, err),
                                .x = view(x, 3, EXTENT, COUNT, WIDTH), .y = view(y, 3, EXTENT, COUNT, WIDTH),
                                .lens = view(numbers, 1, COUNT, 0, 0), .h0.tensor = -1, .c0.tensor = -1, .hn.tensor = -1,
                                .cn.tensor = -1};
    return gi_build_recurrent(b, &layer, err);
}

static void check_op(const char *name, build_fn *build, int64_t in, int64_t out) {
    gi_error err = {0};
    gi_builder *b = gi_builder_create(gi_kernels_get("auto", &err), &err);
    const int numbers = gi_builder_external(b, GI_I32, COUNT, &err);
    long failed = build(b, numbers, &err) != GI_OK;
    gi_program *program = gi_builder_finish(b, &err);
    gi_builder_free(b);
    gi_stream *s = gi_stream_create(program, 1, &err);
    int32_t *given = calloc(COUNT, sizeof *given);
    float *x = calloc((size_t)in, sizeof *x), *y = calloc((size_t)out, sizeof *y);
    gi_stream_bind(s, numbers, given, &err), gi_stream_bind(s, numbers + 1, x, &err), gi_stream_bind(s, numbers + 2, y, &err);
    failed += gi_stream_step(s, &err) != GI_OK;
    writer w = {.at = given, .good = EXTENT - 1, .wrong = FAR};
    pthread_t other;
    pthread_create(&other, NULL, write_in_turns, &w);
    for (int i = 0; i < STEPS; i++) {
        const int status = gi_stream_step(s, &err);
        failed += status != GI_OK && status != GI_ERR_DATA;
    }
    atomic_store(&w.stop, 1);
    pthread_join(other, NULL);
    gi_stream_free(s);
    gi_program_free(program);
    free(given), free(x), free(y);
    check_group("races", name, STEPS, failed);
}

int main(void) {
    check_op("gather", build_gather, EXTENT * WIDTH, COUNT * WIDTH);
    check_op("reverse", build_reverse, EXTENT * COUNT, EXTENT * COUNT);
    check_op("sequence_lens", build_layer, EXTENT * COUNT * WIDTH, EXTENT * COUNT * WIDTH);
    return check_failures != 0;
}

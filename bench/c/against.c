/* Our layers against those of shared objects that compiled theirs for each size (peer.h), step by step.
 *
 *     against [-i isa] peer.so... > against.jsonl
 *
 * All take turns in one process, each on the same 64 frames over and over; every step has a fresh frame and the state of the one
 * before. Before a peer is timed its states over the frames are compared with ours. One JSON object per engine and layer: ns of
 * the fastest turn and of the median one, `ours` the median over rounds of our time by the peer's (above 1: the peer is faster).
 * Our forms: `stream`, gi_stream_step on a frame copied to its place; `layer`, the same without program and stream;
 * `block`, gi_layer_run on all 64 frames at once, which no peer has. `ours` takes `stream`, `ours_layer` `layer`. */
#include "burst.h"
#include "cells/cells.h"
#include "kernels/cell_layout.h"
#include "peer.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FRAMES = 64, ROUNDS = 151, MOST_ENGINES = 16, MOST_HIDDEN = 256 };
enum { STREAM, LAYER, BLOCK, OURS };
static float *frames;   /* [FRAMES, PEER_FRAME_FLOATS] */
static const double TURN_SECONDS = 4e-5, TOLERANCE = 1e-5;

/* ---- our three forms of one layer ---- */

typedef struct ours {
    gi_cell cell;
    const gi_kernels *kernels;
    float *packed, *h[2], *c[2], *out[2], *scratch, *blocks, *frame;
    gi_stream *stream;
    gi_cell_layout at;
    gi_layer layer;
} ours;

static void check(int status, const gi_error *err) {
    if (status >= 0) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static gi_view view(int tensor, int rank, int64_t n) {
    gi_view v = {.tensor = tensor, .rank = rank, .shape = {1, 1, 1}, .stride = {n, n, n}};
    v.shape[rank - 1] = n, v.stride[rank - 1] = 1;
    return v;
}

/* A program of the layer alone: x, h, c in, the states out and carried. */
static gi_stream *stream_of(const ours *o) {
    gi_error err;
    const int lstm = o->cell.kind == GI_LSTM;
    const int64_t I = o->cell.input_size, H = o->cell.hidden_size;
    gi_builder *b = gi_builder_create(o->kernels, &err);
    for (int i = 0; i < 5; i++) check(gi_builder_external(b, GI_F32, i ? H : I, &err), &err);
    const int packed = gi_builder_constant(b, GI_F32, gi_cell_packed_size(&o->cell, &err), o->packed, &err);
    gi_recurrent r = {.cell = o->cell, .packed = packed, .x = view(0, 3, I), .h0 = view(1, 2, H), .hn = view(2, 2, H),
                      .c0 = view(3, 2, H), .cn = view(4, 2, H), .y.tensor = -1, .lens.tensor = -1};
    if (!lstm) r.c0.tensor = r.cn.tensor = -1;
    check(gi_build_recurrent(b, &r, &err), &err);
    check(gi_builder_carry(b, 2, 1, &err), &err);
    if (lstm) check(gi_builder_carry(b, 4, 3, &err), &err);
    gi_stream *s = gi_stream_create(gi_builder_finish(b, &err), 1, &err);
    float *const memory[] = {o->frame, o->h[0], o->out[0], o->c[0], o->out[1]};
    for (int i = 0; i < 5; i++) check(gi_stream_bind(s, i, memory[i], &err), &err);
    return s;
}

static gi_layer layer_of(const ours *o, float *x) {
    const int64_t H = o->cell.hidden_size, span = gi_blocks(H) * GI_BLOCK, G = gi_cell_gates(&o->cell);
    gi_layer l = {.kernels = o->kernels, .cell = &o->cell, .at = &o->at, .packed = o->packed, .T = 1, .M = 1,
                  .x = {x, PEER_FRAME_FLOATS, PEER_FRAME_FLOATS}, .h = {{o->scratch, 0, H}, {o->scratch + span, 0, H}},
                  .pre = {o->blocks, G * span, G * span}, .pre_steps = FRAMES};
    if (o->cell.kind == GI_LSTM) l.c = (gi_series){o->scratch + 2 * span, 0, H};
    return l;
}

static ours *ours_of(const gi_kernels *kernels, const peer_layer *p, const float *W, const float *R, const float *B, float *x) {
    gi_error err;
    ours *o = malloc(sizeof *o);
    if (!o) exit(1);
    *o = (ours){.kernels = kernels, .cell = {.kind = p->kind == PEER_LSTM ? GI_LSTM : GI_GRU, .input_size = p->input_size,
              .hidden_size = p->hidden_size, .linear_before_reset = 1, .act = {{GI_SIGMOID, 0, 0}, {GI_TANH, 0, 0}, {GI_TANH, 0, 0}}}};
    float **const memory[] = {&o->h[0], &o->h[1], &o->c[0], &o->c[1], &o->out[0], &o->out[1], &o->frame};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) *memory[i] = memset(floats(MOST_HIDDEN), 0, MOST_HIDDEN * sizeof(float));
    o->packed = floats(gi_cell_packed_size(&o->cell, &err));
    check(gi_cell_pack(&o->cell, W, R, B, NULL, o->packed, &err), &err);
    o->at = gi_cell_place(&o->cell);
    o->scratch = floats(4 * MOST_HIDDEN), o->blocks = floats(4 * MOST_HIDDEN * FRAMES);
    o->stream = stream_of(o), o->layer = layer_of(o, x);
    return o;
}

static void run_stream(void *arg, const float *x, long count, float *y) {
    const ours *o = arg;
    for (long t = 0; t < count; t++) {
        memcpy(o->frame, x + t * PEER_FRAME_FLOATS, (size_t)o->cell.input_size * sizeof *x);
        gi_stream_step(o->stream, NULL);
    }
    memcpy(y, o->out[0], (size_t)o->cell.hidden_size * sizeof *y);
}

/* The layer's state goes back and forth between two places. */
static void aim(gi_layer *l, ours *o, long t) {
    const int64_t H = o->cell.hidden_size;
    l->h0 = (gi_series){o->h[t & 1], 0, H}, l->hn = (gi_series){o->h[~t & 1], 0, H};
    if (l->c.p) l->c0 = (gi_series){o->c[t & 1], 0, H}, l->cn = (gi_series){o->c[~t & 1], 0, H};
}

static void run_layer(void *arg, const float *x, long count, float *y) {
    ours *o = arg;
    gi_layer l = o->layer;
    l.pre.p = NULL;
    for (long t = 0; t < count; t++) {
        aim(&l, o, t);
        l.x.p = (float *)x + t * PEER_FRAME_FLOATS;
        gi_layer_run(&l);
    }
    memcpy(y, l.hn.p, (size_t)o->cell.hidden_size * sizeof *y);
}

static void run_block(void *arg, const float *x, long count, float *y) {
    ours *o = arg;
    gi_layer l = o->layer;
    aim(&l, o, 0);
    l.x.p = (float *)x, l.T = count;
    gi_layer_run(&l);
    memcpy(y, l.hn.p, (size_t)o->cell.hidden_size * sizeof *y);
}

/* ---- turns ---- */

typedef struct engine {
    char name[32];
    void *layer;
    void (*run)(void *layer, const float *x, long count, float *y);
    double seconds[ROUNDS];
} engine;

/* Seconds per step of one turn: all frames, over and over. */
static double turn(const engine *e) {
    float y[MOST_HIDDEN];
    const double start = now();
    double end;
    long calls = 0;
    do e->run(e->layer, frames, FRAMES, y), calls++, end = now(); while (end - start < TURN_SECONDS);
    return (end - start) / (double)(calls * FRAMES);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values) {
    double sorted[ROUNDS];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof *sorted, ascending);
    return sorted[ROUNDS / 2];
}

static double fastest(const engine *e) {
    double best = e->seconds[0];
    for (int r = 1; r < ROUNDS; r++) best = fmin(best, e->seconds[r]);
    return best;
}

static double ratio(const engine *a, const engine *b) {
    double of[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) of[r] = a->seconds[r] / b->seconds[r];
    return median(of);
}

/* Frame by frame, each engine's state next to our stream's; all states are zero before. */
static double difference(const engine *e, const engine *reference, int H) {
    float y[MOST_HIDDEN], expected[MOST_HIDDEN];
    double most = 0;
    for (int t = 0; t < FRAMES; t++) {
        const float *x = frames + t * PEER_FRAME_FLOATS;
        reference->run(reference->layer, x, 1, expected);
        e->run(e->layer, x, 1, y);
        for (int i = 0; i < H; i++) most = fmax(most, fabs((double)y[i] - expected[i]));
    }
    return most;
}

static void report(const peer_layer *p, engine *engines, int count) {
    for (int i = 0; i < count; i++) {
        const engine *e = &engines[i];
        printf("{\"cell\": \"%s\", \"input\": %d, \"hidden\": %d, \"engine\": \"%s\", \"ns\": %.1f, \"median_ns\": %.1f, \"ours\": %.3f, "
               "\"ours_layer\": %.3f}\n", p->kind == PEER_LSTM ? "lstm" : "gru", p->input_size, p->hidden_size, e->name,
               fastest(e) * 1e9, median(e->seconds) * 1e9, ratio(&engines[STREAM], e), ratio(&engines[LAYER], e));
    }
    fflush(stdout);
}

static const peer_layer *layers_of(const char *path, int *count) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fprintf(stderr, "%s\n", dlerror()), exit(2);
    peer_layers_fn *layers;
    *(void **)&layers = dlsym(library, "peer_layers");
    if (!layers) fprintf(stderr, "%s exports no peer_layers\n", path), exit(2);
    return layers(count);
}

static void name_engine(engine *e, const char *path) {
    const char *slash = strrchr(path, '/');
    snprintf(e->name, sizeof e->name, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(e->name, '.');
    if (dot) *dot = 0;
}

/* Our forms, then the peers that compute the same; returns how many. */
static int gather(engine *engines, const gi_kernels *kernels, int index, char **paths, int peers) {
    static const char *const names[] = {"stream", "layer", "block"};
    static void (*const runs[])(void *, const float *, long, float *) = {run_stream, run_layer, run_block};
    int count, n = 0;
    const peer_layer *p = layers_of(paths[0], &count) + index;
    const int G = p->kind == PEER_LSTM ? 4 : 3, I = p->input_size, H = p->hidden_size;
    float *W = floats(G * H * I), *R = floats(G * H * H), *B = floats(2 * G * H);
    for (; n < OURS; n++) {
        engines[n] = (engine){.layer = ours_of(kernels, p, W, R, B, frames), .run = runs[n]};
        strcpy(engines[n].name, names[n]);
    }
    for (int i = 0; i < peers && n < MOST_ENGINES; i++) {
        const peer_layer *theirs = layers_of(paths[i], &count) + index;
        const engine reference = {.run = run_stream, .layer = ours_of(kernels, p, W, R, B, frames)};
        engines[n] = (engine){.layer = theirs->create(W, R, B), .run = theirs->run};
        name_engine(&engines[n], paths[i]);
        const double off = difference(&engines[n], &reference, H);
        if (off <= TOLERANCE) n++;
        else fprintf(stderr, "%s computes something else: off by %g (I = %d, H = %d)\n", engines[n].name, off, I, H);
    }
    return n;
}

static void compare(const gi_kernels *kernels, int index, char **paths, int peers) {
    static engine engines[MOST_ENGINES];
    int layers;
    const int n = gather(engines, kernels, index, paths, peers);
    for (int r = -5; r < ROUNDS; r++)                                   /* the first rounds warm up */
        for (int i = 0; i < n; i++) engines[i].seconds[r < 0 ? 0 : r] = turn(&engines[i]);
    report(layers_of(paths[0], &layers) + index, engines, n);
}

int main(int argc, char **argv) {
    gi_error err;
    const int chosen = argc > 2 && !strcmp(argv[1], "-i"), first = chosen ? 3 : 1;
    const gi_kernels *kernels = gi_kernels_get(chosen ? argv[2] : "auto", &err);
    if (!kernels) return fprintf(stderr, "%s\n", err.text), 2;
    if (argc <= first) return fprintf(stderr, "usage: against [-i isa] peer.so...\n"), 2;
    int layers;
    layers_of(argv[first], &layers);
    frames = floats(FRAMES * PEER_FRAME_FLOATS);
    for (int i = 0; i < FRAMES * PEER_FRAME_FLOATS; i++) frames[i] *= 10;
    for (int i = 0; i < layers; i++) compare(kernels, i, argv + first, argc - first);
    return 0;
}

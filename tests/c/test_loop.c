/* Loops: states by pointer, scans with any stride, run-time counts and conditions, nests, limits, refusals. */
#include "check.h"
#include "gateinfer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static gi_error err;
static const gi_kernels *kernels;
enum { N = 5, T = 4, ROWS = 3 };

static gi_view vector(int tensor, int64_t n) { return (gi_view){tensor, 1, 0, {n}, {1}}; }
static gi_view scalar(int tensor) { return (gi_view){tensor, 0, 0, {0}, {0}}; }
static gi_view absent(void) { return (gi_view){.tensor = -1}; }
static int external(gi_builder *b, int dtype, int64_t n) { return gi_builder_external(b, dtype, n, &err); }

/* A loop without any part. */
static gi_loop empty_loop(int64_t trips) {
    return (gi_loop){.trips = trips, .trip_count = absent(), .condition = absent(), .iteration = -1, .condition_in = -1,
                     .condition_out = -1};
}

static void run(gi_program *p, int64_t rows, int n, const int *tensors, void *const *data, int expected) {
    gi_stream *s = gi_stream_create(p, rows, &err);
    for (int i = 0; i < n; i++) gi_stream_bind(s, tensors[i], data[i], &err);
    int status = gi_stream_step(s, &err);
    CHECK(status == expected, "status %d, expected %d: %s", status, expected, status < 0 ? err.text : "");
    gi_stream_free(s);
}

/* ---- a body: s' = s w + x, yields s'; x [N] is scanned, w [N] captured ---- */
typedef struct ids { gi_program *p; int s, x, w, out; } ids;

static ids make_body(void) {
    gi_builder *b = gi_builder_create(kernels, &err);
    ids body = {.s = external(b, GI_F32, N), .x = external(b, GI_F32, N), .w = external(b, GI_F32, N)};
    body.out = external(b, GI_F32, N);
    const int product = gi_builder_work(b, GI_F32, N, &err);
    gi_view s = vector(body.s, N), x = vector(body.x, N), w = vector(body.w, N), out = vector(body.out, N);
    gi_view p = vector(product, N);
    gi_build_binary(b, GI_MUL, &p, &s, &w, &err);
    gi_build_binary(b, GI_ADD, &out, &p, &x, &err);
    body.p = gi_builder_finish(b, &err);
    gi_builder_free(b);
    return body;
}

/* The states of a row after each turn. frames: where turn t finds its x. */
static void expect_states(const float *s0, const float *w, const float *x, int64_t first, int64_t step,
                          float states[T][N]) {
    for (int t = 0; t < T; t++)
        for (int i = 0; i < N; i++)
            states[t][i] = (float)((t ? states[t - 1][i] : s0[i]) * w[i]) + x[first + t * step + i];
}

/* Scanned forwards or backwards, with gaps; the yields go to a strided place; every row has data of its own. */
static void test_states_and_scans(int64_t step, int stacked) {
    const ids body = make_body();
    gi_builder *b = gi_builder_create(kernels, &err);
    const int s0 = external(b, GI_F32, N), w = external(b, GI_F32, N), x = external(b, GI_F32, 2 * T * N);
    const int end = external(b, GI_F32, N), y = external(b, GI_F32, 2 * T * N);
    const int64_t first = step < 0 ? -step * (T - 1) : 0;
    const gi_loop_link capture = {vector(w, N), body.w}, scan = {{x, 2, first, {T, N}, {step, 1}}, body.x};
    const gi_loop_link stack = {{y, 2, N, {T, N}, {2 * N, 1}}, body.out};
    const gi_loop_carry carry = {vector(s0, N), vector(end, N), body.s, body.out};
    gi_loop l = empty_loop(T);
    l.n_captures = l.n_carries = l.n_scan_inputs = 1, l.n_scan_outputs = stacked;
    l.captures = &capture, l.carries = &carry, l.scan_inputs = &scan, l.scan_outputs = &stack;
    int status = gi_build_loop(b, body.p, &l, &err);
    CHECK(status == GI_OK, "%s", err.text);
    gi_program *p = gi_builder_finish(b, &err);
    float S0[ROWS][N], W[ROWS][N], X[ROWS][2 * T * N], END[ROWS][N], Y[ROWS][2 * T * N], states[T][N];
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < N; i++) S0[r][i] = (float)((r + i) % 7) - 3, W[r][i] = 0.5f + (float)((r + i) % 3);
        for (int i = 0; i < 2 * T * N; i++) X[r][i] = (float)((r + i) % 11) / 4, Y[r][i] = -77;
    }
    run(p, ROWS, 5, (int[]){s0, w, x, end, y}, (void *[]){S0, W, X, END, Y}, GI_OK);
    for (int r = 0; r < ROWS; r++) {
        expect_states(S0[r], W[r], X[r], first, step, states);
        CHECK(!memcmp(END[r], states[T - 1], sizeof states[0]), "final state of row %d", r);
        for (int t = 0; t < T; t++) {
            CHECK(!stacked || !memcmp(&Y[r][N + t * 2 * N], states[t], sizeof states[0]), "yield %d of row %d", t, r);
            CHECK(Y[r][t * 2 * N] == -77, "a gap was written");
        }
    }
    gi_program_free(p), gi_builder_free(b), gi_program_free(body.p);
}

/* ---- counting: n' = n + step, goes on while n' < limit ---- */
typedef struct counter { gi_program *p; int n, out, step, on, turn; } counter;

static counter make_counter(int64_t limit) {
    static int64_t constants[64];
    static int used;
    constants[used] = limit;
    gi_builder *b = gi_builder_create(kernels, &err);
    counter c = {.n = external(b, GI_I64, 1), .out = external(b, GI_I64, 1), .step = external(b, GI_I64, 1),
                 .on = external(b, GI_BOOL, 1), .turn = external(b, GI_I64, 1)};
    gi_view n = scalar(c.n), out = scalar(c.out), step = scalar(c.step), on = scalar(c.on);
    gi_view most = scalar(gi_builder_constant(b, GI_I64, 1, &constants[used++], &err));
    gi_build_binary(b, GI_ADD, &out, &n, &step, &err);
    gi_build_binary(b, GI_LESS, &on, &out, &most, &err);
    c.p = gi_builder_finish(b, &err);
    gi_builder_free(b);
    return c;
}

/* Counts in a loop of at most `trips` turns, at most `count` at run time, with a first turn if `start`. */
static int64_t count_up(int64_t limit, int64_t trips, int64_t count, int start, int64_t step, int expected) {
    const counter c = make_counter(limit);
    gi_builder *b = gi_builder_create(kernels, &err);
    const int n0 = external(b, GI_I64, 1), by = external(b, GI_I64, 1), m = external(b, GI_I64, 1);
    const int go = external(b, GI_BOOL, 1);
    const int end = external(b, GI_I64, 1);
    const gi_loop_link capture = {scalar(by), c.step};
    const gi_loop_carry carry = {scalar(n0), scalar(end), c.n, c.out};
    gi_loop l = empty_loop(trips);
    l.trip_count = scalar(m), l.condition = scalar(go), l.condition_out = c.on, l.iteration = c.turn;
    l.n_captures = l.n_carries = 1, l.captures = &capture, l.carries = &carry;
    int status = gi_build_loop(b, c.p, &l, &err);
    CHECK(status == GI_OK, "%s", err.text);
    gi_program *p = gi_builder_finish(b, &err);
    int64_t N0 = 0, BY = step, M = count, END = -7;
    uint8_t GO = (uint8_t)start;
    run(p, 1, 5, (int[]){n0, by, m, go, end}, (void *[]){&N0, &BY, &M, &GO, &END}, expected);
    gi_program_free(p), gi_builder_free(b), gi_program_free(c.p);
    return END;
}

static void test_counts(void) {
    CHECK(count_up(10, 100, 100, 1, 1, GI_OK) == 10, "until the condition");
    CHECK(count_up(10, 100, 100, 1, 3, GI_OK) == 12, "past the condition");
    CHECK(count_up(10, 100, 4, 1, 1, GI_OK) == 4, "until the trip count");
    CHECK(count_up(10, 3, 100, 1, 1, GI_OK) == 3, "until the constant");
    CHECK(count_up(10, 100, 0, 1, 1, GI_OK) == 0 && count_up(10, 100, -5, 1, 1, GI_OK) == 0, "no turn by count");
    CHECK(count_up(10, 100, 100, 0, 1, GI_OK) == 0, "no turn by condition");
    CHECK(count_up(10, INT64_MAX, INT64_MAX, 1, 0, GI_ERR_LIMIT) == -7, "without end");
    CHECK(count_up(GI_LOOP_LIMIT, INT64_MAX, INT64_MAX, 1, 1, GI_OK) == GI_LOOP_LIMIT, "as long as may be");
}

/* ---- loops in loops: n' = n + 1 in `inner` turns of `outer` turns ---- */
static void test_nest(int64_t outer, int64_t inner, int expected) {
    const counter c = make_counter(INT64_MAX);
    gi_builder *middle = gi_builder_create(kernels, &err), *b = gi_builder_create(kernels, &err);
    const int n = external(middle, GI_I64, 1), out = external(middle, GI_I64, 1), one = external(middle, GI_I64, 1);
    const int waste = gi_builder_work(middle, GI_BOOL, inner, &err), turns = gi_builder_work(middle, GI_I64, 1, &err);
    const gi_view no_turns = scalar(turns);
    gi_build_fill(middle, &no_turns, 0, &err);
    gi_loop l = empty_loop(inner);
    const gi_loop_link captures[] = {{scalar(one), c.step}}, yields = {vector(waste, inner), c.on};
    const gi_loop_carry carry = {scalar(n), scalar(out), c.n, c.out};
    l.iteration = c.turn, l.n_captures = l.n_carries = l.n_scan_outputs = 1;
    l.captures = captures, l.carries = &carry, l.scan_outputs = &yields;
    CHECK(gi_build_loop(middle, c.p, &l, &err) == GI_OK, "%s", err.text);
    gi_program *body = gi_builder_finish(middle, &err);
    const int n0 = external(b, GI_I64, 1), by = external(b, GI_I64, 1), end = external(b, GI_I64, 1);
    const gi_loop_link capture = {scalar(by), one};
    const gi_loop_carry whole = {scalar(n0), scalar(end), n, out};
    l = empty_loop(outer);
    l.n_captures = l.n_carries = 1, l.captures = &capture, l.carries = &whole;
    CHECK(gi_build_loop(b, body, &l, &err) == GI_OK, "%s", err.text);
    gi_program *p = gi_builder_finish(b, &err);
    int64_t N0[2] = {5, 7}, BY[2] = {1, 2}, END[2] = {-1, -1};
    run(p, 2, 3, (int[]){n0, by, end}, (void *[]){N0, BY, END}, expected);
    if (expected == GI_OK)
        CHECK(END[0] == 5 + outer * inner && END[1] == 7 + 2 * outer * inner, "got %lld and %lld", (long long)END[0],
              (long long)END[1]);
    gi_program_free(p), gi_builder_free(b), gi_program_free(body), gi_builder_free(middle), gi_program_free(c.p);
}

/* ---- one state that leaves twice, and the condition and the turn as seen inside ---- */
static void test_shared_state(void) {
    gi_builder *inner = gi_builder_create(kernels, &err), *b = gi_builder_create(kernels, &err);
    const int i = external(inner, GI_I64, 1), on = external(inner, GI_BOOL, 1), a = external(inner, GI_F32, 1);
    const int s = external(inner, GI_F32, 1), out = external(inner, GI_F32, 1), seen = external(inner, GI_F32, 1);
    const int turn = gi_builder_work(inner, GI_F32, 1, &err);
    const gi_view vi = scalar(i), von = scalar(on), va = scalar(a), vs = scalar(s), vout = scalar(out);
    const gi_view vseen = scalar(seen), vturn = scalar(turn);
    gi_build_cast(inner, &vturn, &vi, &err);
    gi_build_binary(inner, GI_ADD, &vout, &vs, &vturn, &err);
    gi_build_binary(inner, GI_ADD, &vout, &vout, &va, &err);
    gi_build_cast(inner, &vseen, &von, &err);
    gi_program *body = gi_builder_finish(inner, &err);
    const int s0 = external(b, GI_F32, 1), ends = external(b, GI_F32, 2), y = external(b, GI_F32, 2 * T);
    const gi_loop_carry carries[] = {{scalar(s0), {ends, 0, 0, {0}, {0}}, s, out},
                                     {scalar(s0), {ends, 0, 1, {0}, {0}}, a, out}};
    const gi_loop_link stacks[] = {{vector(y, T), out}, {{y, 1, T, {T}, {1}}, seen}};
    gi_loop l = empty_loop(T);
    l.iteration = i, l.condition_in = on, l.n_carries = l.n_scan_outputs = 2;
    l.carries = carries, l.scan_outputs = stacks;
    CHECK(gi_build_loop(b, body, &l, &err) == GI_OK, "%s", err.text);
    gi_program *p = gi_builder_finish(b, &err);
    float S0 = 1, ENDS[2], Y[2 * T], state = 1;
    run(p, 1, 3, (int[]){s0, ends, y}, (void *[]){&S0, ENDS, Y}, GI_OK);
    for (int t = 0; t < T; t++) {
        state = state + (float)t + state;
        CHECK(Y[t] == state && Y[T + t] == 1, "turn %d: %g, %g", t, Y[t], Y[T + t]);
    }
    CHECK(ENDS[0] == state && ENDS[1] == state, "final states");
    gi_program_free(p), gi_builder_free(b), gi_program_free(body), gi_builder_free(inner);
}

/* A loop with scan outputs that ends early is an error: what it did not write would be nobody's. */
static void test_early_end(void) {
    const counter c = make_counter(2);
    gi_builder *b = gi_builder_create(kernels, &err);
    const int n0 = external(b, GI_I64, 1), by = external(b, GI_I64, 1), y = external(b, GI_I64, T);
    const gi_loop_link capture = {scalar(by), c.step}, stack = {vector(y, T), c.out};
    const gi_loop_carry carry = {scalar(n0), absent(), c.n, c.out};
    gi_loop l = empty_loop(T);
    l.iteration = c.turn, l.condition_out = c.on, l.n_captures = l.n_carries = l.n_scan_outputs = 1;
    l.captures = &capture, l.carries = &carry, l.scan_outputs = &stack;
    CHECK(gi_build_loop(b, c.p, &l, &err) == GI_OK, "%s", err.text);
    gi_program *p = gi_builder_finish(b, &err);
    int64_t N0 = 0, BY = 1, Y[T];
    run(p, 1, 3, (int[]){n0, by, y}, (void *[]){&N0, &BY, Y}, GI_ERR_DATA);
    gi_program_free(p), gi_builder_free(b), gi_program_free(c.p);
}

/* ---- refusals: each changes one thing of a loop that is fine ---- */
static void test_refusals(void) {
    const ids body = make_body();
    gi_builder *b = gi_builder_create(kernels, &err);
    const int s0 = external(b, GI_F32, N), x = external(b, GI_F32, T * N), end = external(b, GI_F32, N);
    const int k = external(b, GI_I64, N);
    static const float weights[N] = {1};
    const int w = gi_builder_constant(b, GI_F32, N, weights, &err);
    const gi_loop_link capture = {vector(w, N), body.w}, scan = {{x, 2, 0, {T, N}, {N, 1}}, body.x};
    const gi_loop_carry carry = {vector(s0, N), vector(end, N), body.s, body.out};
    gi_loop fine = empty_loop(T);
    fine.n_captures = fine.n_carries = fine.n_scan_inputs = 1;
    fine.captures = &capture, fine.carries = &carry, fine.scan_inputs = &scan;
    gi_loop_link bad_links[] = {{vector(w, N - 1), body.w}, {vector(k, N), body.w}, {vector(77, N), body.w},
                                {vector(w, N), 77},
                                {vector(w, N), body.s}, {{s0, 1, 4, {N}, {-1}}, body.w}, {vector(w, N), -1}};
    for (size_t i = 0; i < sizeof bad_links / sizeof *bad_links; i++) {
        gi_loop l = fine;
        l.captures = &bad_links[i];
        CHECK(gi_build_loop(b, body.p, &l, &err) < 0 && err.text[0], "capture %zu", i);
    }
    gi_loop_link bad_scans[] = {{{x, 2, 0, {T - 1, N}, {N, 1}}, body.x}, {{x, 2, 0, {T, N}, {1, T}}, body.x},
                                {{x, 2, N, {T, N}, {N, 1}}, body.x}, {scalar(x), body.x}};
    for (size_t i = 0; i < sizeof bad_scans / sizeof *bad_scans; i++) {
        gi_loop l = fine;
        l.scan_inputs = &bad_scans[i];
        CHECK(gi_build_loop(b, body.p, &l, &err) < 0 && err.text[0], "scan %zu", i);
    }
    gi_loop_carry bad_carries[] = {{vector(s0, N), vector(s0, N), body.s, body.out},
                                   {vector(s0, N), vector(w, N), body.s, body.out},
                                   {vector(s0, N), vector(end, N), body.s, body.s},
                                   {vector(s0, N), vector(end, N), body.out, body.out},
                                   {vector(s0, N), vector(k, N), body.s, body.out}};
    for (size_t i = 0; i < sizeof bad_carries / sizeof *bad_carries; i++) {
        gi_loop l = fine;
        l.carries = &bad_carries[i];
        CHECK(gi_build_loop(b, body.p, &l, &err) < 0 && err.text[0], "carry %zu", i);
    }
    gi_loop l = fine;
    l.n_captures = 0;
    CHECK(gi_build_loop(b, body.p, &l, &err) < 0 && strstr(err.text, "no role"), "an input without a role: %s",
          err.text);
    l = fine, l.n_captures = -1;
    CHECK(gi_build_loop(b, body.p, &l, &err) < 0, "a negative count");
    l = fine, l.n_captures = 1 << 20;
    CHECK(gi_build_loop(b, body.p, &l, &err) == GI_ERR_LIMIT, "a huge count");
    l = fine, l.trips = -1;
    CHECK(gi_build_loop(b, body.p, &l, &err) < 0, "negative trips");
    l = fine, l.trips = (int64_t)GI_LOOP_LIMIT + 1;
    CHECK(gi_build_loop(b, body.p, &l, &err) == GI_ERR_LIMIT, "too many trips");
    l = fine, l.iteration = body.x;
    CHECK(gi_build_loop(b, body.p, &l, &err) < 0, "an iteration of floats");
    l = fine, l.condition = scalar(k);
    CHECK(gi_build_loop(b, body.p, &l, &err) < 0, "a condition of integers");
    CHECK(gi_build_loop(b, NULL, &fine, &err) < 0, "no body");
    CHECK(gi_build_loop(b, body.p, &fine, &err) == GI_OK, "%s", err.text);
    gi_program *p = gi_builder_finish(b, &err);
    CHECK(p && gi_program_op_count(p) == 1, "refused loops must leave nothing behind");
    CHECK(gi_build_loop(b, body.p, &fine, &err) < 0, "a finished builder");
    gi_program_free(p), gi_builder_free(b), gi_program_free(body.p);
}

int main(void) {
    for (int index = 0; gi_kernels_list(index); index++) {
        kernels = gi_kernels_get(gi_kernels_list(index), &err);
        if (!kernels) continue;
        for (int stacked = 0; stacked < 2; stacked++) {
            test_states_and_scans(N, stacked);
            test_states_and_scans(2 * N, stacked);
            test_states_and_scans(-N, stacked);
            test_states_and_scans(0, stacked);
        }
        test_shared_state();
        test_early_end();
    }
    kernels = gi_kernels_get("scalar", &err);
    test_counts();
    test_nest(3, 4, GI_OK);
    test_nest(0, 4, GI_OK);
    test_nest(1 << 13, 1 << 12, GI_ERR_LIMIT);
    test_refusals();
    if (check_failures) printf("loop: %d checks failed\n", check_failures);
    else printf("loop: ok\n");
    return check_failures != 0;
}

/* Recurrent layers through the public API: every table against a float64 reference and bit by bit against scalar, program
 * rows against single rows, chunks against the whole, teams against one thread, weights that are not read, and what the builder must
 * refuse. Exit status 1 on any failure. */
#define _GNU_SOURCE
#include "check.h"
#include "kernels/cell_layout.h"
#include <sched.h>

enum { T_MAX = 29 /* more than two chunks, where they look ahead */, SIZE_MAX_ = 70, ROWS = 3 };

static gi_team *team;   /* for all streams */

/* In place of the C library's: teams of any size, whatever machine this is. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    (void)pid;
    memset(set, 255, size);
    return 0;
}

static float *random_floats(int64_t n, float scale) {
    float *p = malloc((size_t)(n ? n : 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = random_value(scale);
    return p;
}

typedef struct problem {
    gi_cell cell;
    int64_t T, N, G;
    int reverse;
    float *W, *R, *B, *P, *x, *h0, *c0;   /* x [ROWS, T, N, I], h0, c0 [ROWS, N, H] */
} problem;

static problem make_problem(int kind, int lbr, int64_t I, int64_t H, int64_t T, int64_t N) {
    problem p = {.T = T, .N = N, .G = kind == GI_LSTM ? 4 : kind == GI_GRU ? 3 : 1};
    p.cell = (gi_cell){.kind = kind, .linear_before_reset = lbr, .input_size = I, .hidden_size = H};
    p.cell.act[0].kind = kind == GI_RNN ? GI_TANH : GI_SIGMOID;
    p.cell.act[1].kind = p.cell.act[2].kind = GI_TANH;
    p.W = random_floats(p.G * H * I, 0.3f);
    p.R = random_floats(p.G * H * H, 0.3f / sqrtf((float)H));
    p.B = random_floats(2 * p.G * H, 0.2f);
    p.P = kind == GI_LSTM && H % 2 ? random_floats(3 * H, 0.2f) : NULL;
    p.x = random_floats(ROWS * T * N * I, 1.0f);
    for (int64_t i = 0; i < ROWS * T * N * I; i++)   /* every other vector is mostly zero */
        if (i / I % 2 && random_below(4)) p.x[i] = 0;
    p.h0 = random_floats(ROWS * N * H, 1.0f);
    p.c0 = random_floats(ROWS * N * H, 1.0f);
    return p;
}

static void free_problem(problem *p) {
    free(p->W), free(p->R), free(p->B), free(p->P), free(p->x), free(p->h0), free(p->c0);
}

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static double row_product(const float *w, int64_t n, const float *x32, const double *x64) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += (double)w[k] * (x32 ? x32[k] : x64[k]);
    return sum;
}

/* One step in float64. h, c [H] are replaced. */
static void reference_step(const problem *p, const float *x, double *h, double *c) {
    const int64_t I = p->cell.input_size, H = p->cell.hidden_size, G = p->G;
    double wx[4 * SIZE_MAX_], rh[4 * SIZE_MAX_], next[SIZE_MAX_], reset[SIZE_MAX_];
    for (int64_t g = 0; g < G * H; g++) {
        wx[g] = row_product(p->W + g * I, I, x, NULL) + p->B[g];
        rh[g] = row_product(p->R + g * H, H, NULL, h) + p->B[G * H + g];
    }
    for (int64_t j = 0; j < H; j++) {
        if (p->cell.kind == GI_RNN) next[j] = tanh(wx[j] + rh[j]);
        if (p->cell.kind == GI_GRU) reset[j] = sigmoid(wx[H + j] + rh[H + j]) * h[j];
        if (p->cell.kind != GI_LSTM) continue;
        const double *pre = wx;
        double i = sigmoid(pre[j] + rh[j] + (p->P ? p->P[j] * c[j] : 0));
        double f = sigmoid(pre[2 * H + j] + rh[2 * H + j] + (p->P ? p->P[2 * H + j] * c[j] : 0));
        c[j] = f * c[j] + i * tanh(pre[3 * H + j] + rh[3 * H + j]);
        next[j] = sigmoid(pre[H + j] + rh[H + j] + (p->P ? p->P[H + j] * c[j] : 0)) * tanh(c[j]);
    }
    for (int64_t j = 0; j < H && p->cell.kind == GI_GRU; j++) {
        double z = sigmoid(wx[j] + rh[j]), r = sigmoid(wx[H + j] + rh[H + j]);
        double linear = p->cell.linear_before_reset ? r * rh[2 * H + j]
                                                    : row_product(p->R + (2 * H + j) * H, H, NULL, reset) + p->B[G * H + 2 * H + j];
        next[j] = (1 - z) * tanh(wx[2 * H + j] + linear) + z * h[j];
    }
    memcpy(h, next, (size_t)H * sizeof *h);
}

static gi_view dense_view(int tensor, int rank, int64_t a, int64_t b, int64_t c) {
    gi_view v = {.tensor = tensor, .rank = rank, .shape = {a, b, c}, .stride = {1, 1, 1}};
    if (rank == 3) v.stride[0] = b * c, v.stride[1] = c;
    if (rank == 2) v.stride[0] = b;
    return v;
}

typedef struct built { gi_program *program; float *packed; int x, h0, c0, y, hn, cn; } built;

/* A program for `steps` steps of `p`, its state carried. */
static built build(const problem *p, const char *isa, int64_t steps) {
    gi_error err = {0};
    gi_builder *b = gi_builder_create(gi_kernels_get(isa, &err), &err);
    int64_t size = gi_cell_packed_size(&p->cell, &err), I = p->cell.input_size, H = p->cell.hidden_size, N = p->N;
    built made = {.packed = aligned_floats(size)};
    gi_cell_pack(&p->cell, p->W, p->R, p->B, p->P, made.packed, &err);
    made.x = gi_builder_external(b, GI_F32, steps * N * I, &err), made.y = gi_builder_external(b, GI_F32, steps * N * H, &err);
    made.h0 = gi_builder_external(b, GI_F32, N * H, &err), made.hn = gi_builder_external(b, GI_F32, N * H, &err);
    made.c0 = gi_builder_external(b, GI_F32, N * H, &err), made.cn = gi_builder_external(b, GI_F32, N * H, &err);
    int lstm = p->cell.kind == GI_LSTM;
    gi_recurrent layer = {.cell = p->cell, .reverse = p->reverse, .lens.tensor = -1, .x = dense_view(made.x, 3, steps, N, I),
                          .y = dense_view(made.y, 3, steps, N, H), .h0 = dense_view(made.h0, 2, N, H, 0),
                          .hn = dense_view(made.hn, 2, N, H, 0), .c0 = dense_view(lstm ? made.c0 : -1, 2, N, H, 0),
                          .cn = dense_view(lstm ? made.cn : -1, 2, N, H, 0)};
    layer.packed = gi_builder_constant(b, GI_F32, size, made.packed, &err);
    CHECK(gi_build_recurrent(b, &layer, &err) == GI_OK, "build: %s", err.text);
    CHECK(gi_builder_carry(b, made.hn, made.h0, &err) == GI_OK, "carry h: %s", err.text);
    if (lstm) CHECK(gi_builder_carry(b, made.cn, made.c0, &err) == GI_OK, "carry c: %s", err.text);
    made.program = gi_builder_finish(b, &err);
    CHECK(made.program != NULL, "finish: %s", err.text);
    gi_builder_free(b);
    return made;
}

/* Runs `rows` rows from row `first` over all T in chunks of `steps`, for which `made` is; y [rows, T, N, H], h [rows, N, H]. */
static void run_built(const problem *p, const built *made, int64_t steps, int64_t first, int64_t rows, float *y, float *h) {
    gi_error err = {0};
    const int64_t I = p->cell.input_size, H = p->cell.hidden_size, N = p->N, T = p->T;
    gi_stream *s = gi_stream_create(made->program, rows, &err);
    gi_stream_use_team(s, team);
    float *x = random_floats(rows * steps * N * I, 0), *out = random_floats(rows * steps * N * H, 0);
    float *c = random_floats(rows * N * H, 0), *hn = random_floats(rows * N * H, 0), *cn = random_floats(rows * N * H, 0);
    memcpy(h, p->h0 + first * N * H, (size_t)(rows * N * H) * sizeof *h);
    memcpy(c, p->c0 + first * N * H, (size_t)(rows * N * H) * sizeof *c);
    CHECK(gi_stream_step(s, &err) == GI_ERR_STATE, "unbound step: was not refused");
    gi_stream_bind(s, made->x, x, &err), gi_stream_bind(s, made->y, out, &err), gi_stream_bind(s, made->h0, h, &err);
    gi_stream_bind(s, made->hn, hn, &err), gi_stream_bind(s, made->c0, c, &err), gi_stream_bind(s, made->cn, cn, &err);
    for (int64_t t = 0; t < T; t += steps) {
        for (int64_t r = 0; r < rows; r++)
            memcpy(x + r * steps * N * I, p->x + ((first + r) * T + t) * N * I, (size_t)(steps * N * I) * sizeof *x);
        CHECK(gi_stream_step(s, &err) == GI_OK, "step: %s", err.text);
        for (int64_t r = 0; r < rows; r++)
            memcpy(y + (r * T + t) * N * H, out + r * steps * N * H, (size_t)(steps * N * H) * sizeof *y);
    }
    gi_stream_free(s);
    free(x), free(out), free(c), free(hn), free(cn);
}

static void run(const problem *p, const char *isa, int64_t steps, int64_t first, int64_t rows, float *y, float *h) {
    built made = build(p, isa, steps);
    run_built(p, &made, steps, first, rows, y, h);
    gi_program_free(made.program);
    free(made.packed);
}

static double worst_error(const problem *p, const float *y) {
    const int64_t I = p->cell.input_size, H = p->cell.hidden_size;
    double worst = 0;
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t n = 0; n < p->N; n++) {
            double h[SIZE_MAX_], c[SIZE_MAX_];
            for (int64_t j = 0; j < H; j++) h[j] = p->h0[(r * p->N + n) * H + j], c[j] = p->c0[(r * p->N + n) * H + j];
            for (int64_t s = 0; s < p->T; s++) {
                int64_t t = p->reverse ? p->T - 1 - s : s, at = (r * p->T + t) * p->N + n;
                reference_step(p, p->x + at * I, h, c);
                for (int64_t j = 0; j < H; j++) worst = fmax(worst, fabs(h[j] - y[at * H + j]));
            }
        }
    return worst;
}

/* 16-bit weights give the bits of a float32 layer with the rounded weights. */
static void check_half(problem *p, int format, const char *label) {
    const int64_t H = p->cell.hidden_size, ny = ROWS * p->T * p->N * H, nh = ROWS * p->N * H;
    const int64_t nw = p->G * H * p->cell.input_size, nr = p->G * H * H;
    float *expected = random_floats(ny, 0), *y = random_floats(ny, 0), *h = random_floats(nh, 0);
    problem rounded = *p;
    rounded.cell.weights = GI_WEIGHTS_F32;
    p->cell.weights = format;
    rounded.W = random_floats(nw, 0), rounded.R = random_floats(nr, 0);
    gi_round_weights(format, nw, p->W, rounded.W, NULL), gi_round_weights(format, nr, p->R, rounded.R, NULL);
    run(&rounded, "scalar", p->T, 0, ROWS, expected, h);
    for (int i = 0; gi_kernels_list(i); i++)
        for (int64_t rows = 1; gi_kernels_get(gi_kernels_list(i), NULL) && rows <= ROWS; rows += 2) {
            run(p, gi_kernels_list(i), p->T, 0, rows, y, h);
            CHECK(!memcmp(y, expected, (size_t)(ny / ROWS * rows) * sizeof *y), "%s: %s", label, gi_kernels_list(i));
        }
    p->cell.weights = GI_WEIGHTS_F32;
    free(rounded.W), free(rounded.R), free(expected), free(y), free(h);
}

static void check_problem(problem *p, const char *label) {
    const int64_t ny = ROWS * p->T * p->N * p->cell.hidden_size, nh = ROWS * p->N * p->cell.hidden_size;
    float *scalar = random_floats(ny, 0), *y = random_floats(ny, 0), *h = random_floats(nh, 0), *h_scalar = random_floats(nh, 0);
    run(p, "scalar", p->T, 0, ROWS, scalar, h_scalar);
    /* K terms of at most 0.3, rounded once each, through T contracting steps: far below 1e-5. */
    CHECK(worst_error(p, scalar) < 1e-5, "%s: scalar differs from float64", label);
    for (int i = 0; gi_kernels_list(i); i++) {
        const char *isa = gi_kernels_list(i);
        if (!gi_kernels_get(isa, NULL)) continue;
        run(p, isa, p->T, 0, ROWS, y, h);
        CHECK(!memcmp(y, scalar, (size_t)ny * sizeof *y) && !memcmp(h, h_scalar, (size_t)nh * sizeof *h), "%s: %s", label, isa);
        for (int64_t steps = 1; steps < p->T && !p->reverse; steps += 2) {
            if (p->T % steps) continue;
            run(p, isa, steps, 0, ROWS, y, h);
            CHECK(!memcmp(y, scalar, (size_t)ny * sizeof *y), "%s: chunks differ from the whole", label);
        }
        run(p, isa, p->T, 1, 1, y, h);
        CHECK(!memcmp(y, scalar + ny / ROWS, (size_t)(ny / ROWS) * sizeof *y), "%s: one row differs from three", label);
        if (p->reverse) continue;
        run(p, isa, 1, 1, 1, y, h);
        CHECK(!memcmp(y, scalar + ny / ROWS, (size_t)(ny / ROWS) * sizeof *y), "%s: single steps differ from the whole", label);
    }
    free(scalar), free(y), free(h), free(h_scalar);
}

static void check_cells(void) {
    static const int64_t sizes[] = {1, 3, 15, 16, 17, 33, 64, 70};
    for (int kind = GI_LSTM; kind <= GI_RNN; kind++)
        for (int lbr = 0; lbr <= (kind == GI_GRU); lbr++)
            for (int i = 0; i < 8; i++)
                for (int64_t N = 1; N <= 7; N += 3) {
                    problem p = make_problem(kind, lbr, sizes[(i * 3 + 1) % 8], sizes[i], T_MAX, N);
                    p.reverse = i % 3 == 2;
                    char label[80];
                    snprintf(label, sizeof label, "kind %d lbr %d H %d N %d", kind, lbr, (int)sizes[i], (int)N);
                    check_problem(&p, label);
                    check_half(&p, GI_WEIGHTS_BF16, label);
                    check_half(&p, GI_WEIGHTS_F16, label);
                    free_problem(&p);
                }
    printf("cells: float64, tables, chunks, rows, 16-bit weights\n");
}

enum { MOST_MEMBERS = 9 };

/* In chunks of T and of `steps` steps, `rows` program rows. */
static void check_members(const problem *p, int64_t rows, int64_t steps) {
    const int64_t H = p->cell.hidden_size, ny = rows * p->T * p->N * H, nh = rows * p->N * H;
    float *alone = random_floats(ny, 0), *y = random_floats(ny, 0), *h = random_floats(nh, 0), *h_alone = random_floats(nh, 0);
    run(p, "scalar", p->T, 0, rows, alone, h_alone);
    for (int members = 1; members <= MOST_MEMBERS; members++) {
        team = gi_team_create(members, 0, NULL);
        for (int part = 0; part < 2; part++) {
            run(p, "auto", part ? steps : p->T, 0, rows, y, h);
            CHECK(!memcmp(y, alone, (size_t)ny * sizeof *y), "team: other bits of %d rows, H = %d", (int)(rows * p->N), (int)H);
            CHECK(!memcmp(h, h_alone, (size_t)nh * sizeof *h), "team: other states");
        }
        gi_team_free(team);
        team = NULL;
    }
    free(alone), free(y), free(h), free(h_alone);
}

/* Large enough to be shared: units of every step, or rows, of some also backward in time. Blocks that leave a group of two, or
 * a half block. Wide ones by units also with many rows, and single steps of them in more shares than members. */
static void check_teams(void) {
    enum { I = 75 /* enough to look ahead with 48 KiB of L1 */ };
    static const struct { int64_t H, T, N, rows, steps; int weights, reverse; } cases[] = {
        {140, 27, 1, 1, 9, GI_WEIGHTS_F32, 0}, {140, 27, 11, 2, 9, GI_WEIGHTS_F32, 0}, {136, 27, 1, 3, 9, GI_WEIGHTS_F32, 0},
        {136, 27, 1, 1, 27, GI_WEIGHTS_F32, 1}, {508, 3, 1, 1, 1, GI_WEIGHTS_F32, 0},  {508, 3, 11, 1, 1, GI_WEIGHTS_F32, 0},
        {508, 3, 1, 3, 1, GI_WEIGHTS_F32, 0},  {508, 3, 1, 1, 3, GI_WEIGHTS_F32, 1},   {508, 3, 1, 1, 1, GI_WEIGHTS_F16, 0},
        {252, 3, 11, 1, 1, GI_WEIGHTS_F32, 0}, {252, 3, 11, 1, 1, GI_WEIGHTS_BF16, 0}, {248, 3, 11, 1, 1, GI_WEIGHTS_BF16, 0}};
    for (int kind = GI_LSTM; kind <= GI_RNN; kind++)
        for (int lbr = 0; lbr <= (kind == GI_GRU); lbr++)
            for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                const int64_t H = kind == GI_RNN && cases[i].H <= 140 ? 268 : cases[i].H;
                problem p = make_problem(kind, lbr, I, H, cases[i].T, cases[i].N);
                p.cell.weights = cases[i].weights, p.reverse = cases[i].reverse;
                check_members(&p, cases[i].rows, cases[i].steps);
                free_problem(&p);
            }
    printf("teams: 1 to %d members\n", MOST_MEMBERS);
}

/* A step does not read the weights of inputs that are zero: they may be NaN, if nobody says so. */
static void check_zero_inputs(void) {
    enum { I = 128, H = SIZE_MAX_ };
    float y[2][H], h[H];
    for (int i = 0; i < 3 * 4 * 2; i++) {
        const int kind = (const int[]){GI_LSTM, GI_GRU, GI_GRU, GI_RNN}[i / 3 % 4];
        const char *isa = gi_kernels_list(i % 3);
        if (!isa || !gi_kernels_get(isa, NULL)) continue;
        problem p = make_problem(kind, i / 3 % 4 == 2, I, H, 1, 1);
        for (int64_t k = 0; k < I; k++)
            if (k % 3) p.x[k] = 0;
        team = i < 12 ? NULL : gi_team_create(2, 0, NULL);
        built made = build(&p, isa, 1);
        run_built(&p, &made, 1, 0, 1, y[0], h);
        for (int64_t k = 0; k < p.G * H * I; k++)
            if (k % I % 3) p.W[k] = NAN;
        gi_cell_pack(&p.cell, p.W, p.R, p.B, p.P, made.packed, NULL);
        CHECK(made.packed[GI_W_IS_FINITE] == 0, "zeros: NaN is finite");
        made.packed[GI_W_IS_FINITE] = 1;
        run_built(&p, &made, 1, 0, 1, y[1], h);
        CHECK(!memcmp(y[0], y[1], sizeof y[0]), "zeros: %s kind %d reads their weights", isa, kind);
        gi_team_free(team);
        team = NULL;
        gi_program_free(made.program);
        free(made.packed), free_problem(&p);
    }
    printf("zeros: weights that are not read\n");
}

static void check_refusals(void) {
    gi_error err = {0};
    gi_builder *b = gi_builder_create(gi_kernels_get("scalar", &err), &err);
    gi_cell cell = {.kind = GI_RNN, .act = {{.kind = GI_TANH}}, .input_size = 2, .hidden_size = 4};
    static float packed[1024];
    int x = gi_builder_external(b, GI_F32, 6, &err), y = gi_builder_external(b, GI_F32, 12, &err);
    gi_recurrent layer = {.cell = cell, .x = dense_view(x, 3, 3, 1, 2), .y = dense_view(y, 3, 3, 1, 4), .lens.tensor = -1,
                          .h0.tensor = -1, .c0.tensor = -1, .hn.tensor = -1, .cn.tensor = -1};
    layer.packed = gi_builder_constant(b, GI_F32, 8, packed, &err);
    CHECK(gi_build_recurrent(b, &layer, &err) < 0, "small packed tensor: was accepted");
    layer.packed = gi_builder_constant(b, GI_F32, 1024, packed, &err);
    gi_recurrent wrong = layer;
    wrong.x.shape[0] = 4;
    CHECK(gi_build_recurrent(b, &wrong, &err) < 0, "x past its tensor: was accepted");
    wrong = layer, wrong.y = dense_view(x, 3, 3, 1, 2);
    CHECK(gi_build_recurrent(b, &wrong, &err) < 0, "y of another width: was accepted");
    wrong = layer, wrong.cell.act[0].kind = GI_EXP;
    CHECK(gi_build_recurrent(b, &wrong, &err) < 0, "an activation that is none: was accepted");
    wrong = layer, wrong.cell.hidden_size = INT64_MAX / 2;
    CHECK(gi_build_recurrent(b, &wrong, &err) < 0, "a huge hidden size: was accepted");
    CHECK(gi_builder_work(b, GI_F32, INT64_MAX / 8, &err) < 0, "a huge tensor: was accepted");
    CHECK(gi_builder_carry(b, x, y, &err) < 0, "carry of another size: was accepted");
    CHECK(gi_build_recurrent(b, &layer, &err) == GI_OK, "a good layer: %s", err.text);
    gi_builder_free(b);
    printf("refusals\n");
}

/* A profiled pass writes what a step writes, but carries nothing; multiply-adds of ops add up to the program's. */
static void check_profile(void) {
    enum { I = 3, H = 5 };
    gi_error err = {0};
    problem p = make_problem(GI_LSTM, 0, I, H, 1, 1);
    built made = build(&p, "scalar", 1);
    gi_stream *s = gi_stream_create(made.program, 1, &err);
    int64_t ns[2] = {-1, -1};
    CHECK(gi_stream_profile(s, ns, &err) == GI_ERR_STATE, "unbound profile: was not refused");
    float h[H], c[H], y[2][H], hn[H], cn[H];
    memcpy(h, p.h0, sizeof h), memcpy(c, p.c0, sizeof c);
    gi_stream_bind(s, made.x, p.x, &err), gi_stream_bind(s, made.h0, h, &err), gi_stream_bind(s, made.c0, c, &err);
    gi_stream_bind(s, made.hn, hn, &err), gi_stream_bind(s, made.cn, cn, &err), gi_stream_bind(s, made.y, y[0], &err);
    CHECK(gi_stream_profile(s, ns, &err) == GI_OK, "profile: %s", err.text);
    CHECK(gi_program_op_count(made.program) == 1 && ns[0] >= 0 && ns[1] == -1, "profile: times of other ops");
    CHECK(!memcmp(h, p.h0, sizeof h) && !memcmp(c, p.c0, sizeof c), "profile: carries state");
    gi_stream_bind(s, made.y, y[1], &err);
    CHECK(gi_stream_step(s, &err) == GI_OK && !memcmp(y[0], y[1], sizeof y[0]), "profile: differs from a step");
    CHECK(!memcmp(h, hn, sizeof h), "step: carries no state");
    const int64_t macs = 4 * H * (I + H);
    CHECK(gi_program_op_macs(made.program, 0) == macs && gi_program_macs(made.program) == macs, "multiply-adds: are others");
    CHECK(gi_program_op_macs(made.program, 1) == 0, "multiply-adds past the end: are not 0");
    gi_stream_free(s);
    gi_program_free(made.program);
    free(made.packed);
    free_problem(&p);
    printf("profile\n");
}

/* Three steps of rows [ROWS] from h0, c0; by hand: passes that carry nothing, and the states copied after each. All [5, rows, H]. */
static void run_carried(const problem *p, const char *isa, int64_t rows, int by_hand, float *all) {
    gi_error err = {0};
    const int64_t H = p->cell.hidden_size, n = rows * H;
    float *const y = all, *const h = all + n, *const c = all + 2 * n, *const hn = all + 3 * n, *const cn = all + 4 * n;
    built made = build(p, isa, 1);
    gi_stream *s = gi_stream_create(made.program, rows, &err);
    gi_stream_use_team(s, team);
    memcpy(h, p->h0, (size_t)n * sizeof *h), memcpy(c, p->c0, (size_t)n * sizeof *c);
    gi_stream_bind(s, made.x, p->x, &err), gi_stream_bind(s, made.y, y, &err), gi_stream_bind(s, made.h0, h, &err);
    gi_stream_bind(s, made.hn, hn, &err), gi_stream_bind(s, made.c0, c, &err), gi_stream_bind(s, made.cn, cn, &err);
    for (int t = 0; t < 3; t++) {
        int64_t ns;
        CHECK((by_hand ? gi_stream_profile(s, &ns, &err) : gi_stream_step(s, &err)) == GI_OK, "carried step: %s", err.text);
        if (by_hand) memcpy(h, hn, (size_t)n * sizeof *h);
        if (by_hand && p->cell.kind == GI_LSTM) memcpy(c, cn, (size_t)n * sizeof *c);
    }
    gi_stream_free(s);
    gi_program_free(made.program);
    free(made.packed);
}

/* Whoever carries a state, the cell or the stream, it is the same in all places. */
static void check_carries(void) {
    static const int64_t sizes[] = {1, 4, 8, 9, 16, 17, 40};
    for (int variant = 0; variant < 4; variant++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int64_t rows = 1; rows <= ROWS; rows += ROWS - 1) {
                problem p = make_problem((int[]){GI_LSTM, GI_GRU, GI_GRU, GI_RNN}[variant], variant == 1, 3, sizes[i], 1, 1);
                const int64_t n = 5 * rows * sizes[i];
                float *expected = calloc((size_t)n, sizeof *expected), *got = calloc((size_t)n, sizeof *got);
                run_carried(&p, "scalar", rows, 1, expected);
                for (int table = 0; gi_kernels_list(table); table++) {
                    if (!gi_kernels_get(gi_kernels_list(table), NULL)) continue;
                    run_carried(&p, gi_kernels_list(table), rows, 0, got);
                    CHECK(!memcmp(got, expected, (size_t)n * sizeof *got), "carried by: %s", gi_kernels_list(table));
                }
                team = gi_team_create(2, 0, NULL);
                run_carried(&p, "auto", rows, 0, got);
                CHECK(!memcmp(got, expected, (size_t)n * sizeof *got), "carried by: a team");
                gi_team_free(team);
                team = NULL;
                free(expected), free(got), free_problem(&p);
            }
    printf("carries: by cells, streams and hand\n");
}

int main(void) {
    check_cells();
    check_carries();
    check_teams();
    check_zero_inputs();
    check_refusals();
    check_profile();
    if (check_failures) printf("recurrent: %d checks failed\n", check_failures);
    else puts("recurrent: ok");
    return check_failures != 0;
}

/* matmul, conv and pool against naive loops in the order that kernels.h promises: most results agree bit by bit. */
#include "ops_harness.h"
#include "kernels/dense.h"

#define VIEW(i) (&c->at[i].v)
static float real(void) { return (float)pick(-1000000, 1000000) * 2e-6f; }

static void fill_real(operand *o) {
    for (int64_t i = 0; i < o->elements * o->rows; i++) ((float *)o->data)[i] = real();
}

/* ---- matmul ---- */
static int build_matmul(gi_builder *b, const test_case *c, gi_error *err) {
    return gi_build_matmul(b, VIEW(0), VIEW(1), VIEW(2), err);
}

static number expect_matmul(const test_case *c, int64_t row, const int64_t *i) {
    int last = c->at[0].v.rank - 1;
    int64_t lhs[GI_MAX_RANK], rhs[GI_MAX_RANK];
    float sum = 0;
    memcpy(lhs, i, sizeof lhs[0] * (size_t)(last + 1)), memcpy(rhs, i, sizeof rhs[0] * (size_t)(last + 1));
    for (int64_t k = 0; k < c->at[1].v.shape[last]; k++) {
        lhs[last] = rhs[last - 1] = k;
        sum = fmaf((float)get(&c->at[1], row, lhs), (float)get(&c->at[2], row, rhs), sum);
    }
    return sum;
}

static void test_matmul(int64_t rows) {
    int batch = (int)pick(0, 2);
    int64_t M = pick(0, 30) ? pick(1, 12) : 0, N = pick(0, 3) ? pick(1, 12) : pick(13, 90);
    int64_t K = pick(0, 15) ? pick(1, 70) : 0;
    int64_t out[4] = {pick(1, 3), pick(1, 2)}, lhs[4], rhs[4];
    memcpy(lhs, out, sizeof out), memcpy(rhs, out, sizeof out);
    out[batch] = lhs[batch] = M, out[batch + 1] = rhs[batch + 1] = N, lhs[batch + 1] = rhs[batch] = K;
    test_case c = {0};
    add_operand(&c, GI_F32, batch + 2, out, rows);
    fill_real(add_operand(&c, GI_F32, batch + 2, lhs, rows));
    fill_real(add_operand(&c, GI_F32, batch + 2, rhs, rows));
    check_case(&c, build_matmul, expect_matmul, 0);
    free_case(&c);
}

/* Lets the channels of [N, C, h, w] be neighbours in memory, if what was allocated has room for that. */
static void put_channels_last(operand *o) {
    const int64_t *n = o->v.shape;
    const int64_t count = n[0] * n[1] * n[2] * n[3];
    if (!count || o->elements < count) return;
    o->v.offset = 0;
    o->v.stride[1] = 1, o->v.stride[3] = n[1], o->v.stride[2] = n[1] * n[3], o->v.stride[0] = n[1] * n[2] * n[3];
}

/* ---- conv ---- */
typedef struct conv_settings {
    gi_window window;
    int64_t groups;
    int64_t C, M;                            /* channels of one group */
    float *weight, *bias;                    /* [groups][M][kh][kw][C], [groups][M] */
} conv_settings;

static int build_conv(gi_builder *b, const test_case *c, gi_error *err) {
    const conv_settings *s = c->settings;
    return gi_build_conv(b, VIEW(0), VIEW(1), c->at[2].v.tensor, s->groups, &s->window, err);
}

/* The input under tap (i, j) of output position (y, x), 0 in the padding. */
static float tap(const test_case *c, const gi_window *w, int64_t row, const int64_t *at, int64_t channel, int64_t i,
                 int64_t j) {
    int64_t index[4] = {at[0], channel, at[2] * w->stride[0] - w->pad_begin[0] + i * w->dilation[0],
                        at[3] * w->stride[1] - w->pad_begin[1] + j * w->dilation[1]};
    const gi_view *v = &c->at[1].v;
    if (index[2] < 0 || index[2] >= v->shape[2] || index[3] < 0 || index[3] >= v->shape[3]) return 0.0f;
    return (float)get(&c->at[1], row, index);
}

static number expect_conv(const test_case *c, int64_t row, const int64_t *at) {
    const conv_settings *s = c->settings;
    int64_t g = at[1] / s->M, K = s->C * s->window.kernel[0] * s->window.kernel[1];
    const float *weight = s->weight + at[1] * K;
    float sum = s->bias[at[1]], x[12 * 5 * 5];
    int64_t k = 0;
    for (int64_t i = 0; i < s->window.kernel[0]; i++)
        for (int64_t j = 0; j < s->window.kernel[1]; j++)
            for (int64_t channel = 0; channel < s->C; channel++)
                x[k++] = tap(c, &s->window, row, at, g * s->C + channel, i, j);
    if (gi_dense_is_striped(K, s->M)) return sum + gi_kernels_scalar.dot(x, weight, K);
    for (k = 0; k < K; k++) sum = fmaf(weight[k], x[k], sum);
    return sum;
}

static gi_window random_window(const int64_t *in, int64_t *out) {
    gi_window w;
    for (int axis = 0; axis < 2; axis++) {
        w.kernel[axis] = pick(0, 1) ? 1 : pick(1, 5);
        w.stride[axis] = pick(0, 1) ? 1 : pick(1, 4);
        w.dilation[axis] = pick(0, 2) ? 1 : pick(1, 3);
        w.pad_begin[axis] = pick(0, 1) ? 0 : pick(0, 4);
        int64_t room = in[axis] + w.pad_begin[axis] + pick(0, 3) - (w.kernel[axis] - 1) * w.dilation[axis];
        out[axis] = room > 0 ? (room - 1) / w.stride[axis] + 1 : pick(0, 1);
    }
    return w;
}

/* Packed weights as a constant operand. */
static void add_weights(test_case *c, conv_settings *s) {
    int64_t K = s->C * s->window.kernel[0] * s->window.kernel[1], size = gi_dense_packed_size(GI_WEIGHTS_F32, K, s->M, NULL);
    operand *o = &c->at[c->n++];
    *o = (operand){.dtype = GI_F32, .is_constant = 1, .rows = 1, .elements = size * s->groups};
    o->data = malloc((size_t)o->elements * sizeof(float));
    s->weight = malloc((size_t)(s->groups * s->M * K) * sizeof(float));
    s->bias = malloc((size_t)(s->groups * s->M) * sizeof(float));
    for (int64_t i = 0; i < s->groups * s->M * K; i++) s->weight[i] = real();
    for (int64_t i = 0; i < s->groups * s->M; i++) s->bias[i] = real();
    for (int64_t g = 0; g < s->groups; g++)
        gi_dense_pack(GI_WEIGHTS_F32, K, s->M, s->weight + g * s->M * K, 1, K, s->bias + g * s->M, (float *)o->data + g * size, NULL);
}

static void test_conv(int64_t rows) {
    int64_t h = pick(0, 2) ? pick(1, 9) : 1, w = pick(0, 9) ? pick(1, 14) : pick(200, 600);
    conv_settings s = {.groups = pick(0, 2) ? 1 : pick(1, 4)};
    s.C = pick(0, 1) ? pick(1, 3) : pick(1, 12), s.M = pick(0, 1) ? pick(1, 7) : pick(8, 70);
    if (pick(0, 3) == 0) s.C = s.M = 1;
    int64_t N = pick(1, 2), in[] = {N, s.groups * s.C, h, w}, out[4] = {N, s.groups * s.M};
    s.window = random_window(in + 2, out + 2);
    test_case c = {.settings = &s};
    operand *to = add_operand(&c, GI_F32, 4, out, rows), *from = add_operand(&c, GI_F32, 4, in, rows);
    if (pick(0, 2) == 0) put_channels_last(from);
    if (pick(0, 2) == 0) put_channels_last(to);
    fill_real(from);
    add_weights(&c, &s);
    check_case(&c, build_conv, expect_conv, 0);
    free(s.weight), free(s.bias);
    free_case(&c);
}

/* ---- pool ---- */
typedef struct pool_settings { gi_window window; int maximum, count_pad; } pool_settings;

static int build_pool(gi_builder *b, const test_case *c, gi_error *err) {
    const pool_settings *s = c->settings;
    return gi_build_pool(b, VIEW(0), VIEW(1), &s->window, s->maximum, s->count_pad, err);
}

static number expect_pool(const test_case *c, int64_t row, const int64_t *at) {
    const pool_settings *s = c->settings;
    const gi_window *w = &s->window;
    const int64_t *shape = c->at[1].v.shape;
    int64_t count = 0;
    float best = -INFINITY, sum = 0;
    for (int64_t i = 0; i < w->kernel[0]; i++)
        for (int64_t j = 0; j < w->kernel[1]; j++) {
            int64_t y = at[2] * w->stride[0] - w->pad_begin[0] + i * w->dilation[0];
            int64_t x = at[3] * w->stride[1] - w->pad_begin[1] + j * w->dilation[1];
            if (y < 0 || y >= shape[2] || x < 0 || x >= shape[3]) continue;
            float value = tap(c, w, row, at, at[1], i, j);
            if (value > best || value != value) best = value;
            if (best != best) return NAN;
            sum += value, count++;
        }
    if (s->maximum) return best;
    return count ? sum / (float)(s->count_pad ? w->kernel[0] * w->kernel[1] : count) : 0;
}

static void test_pool(int64_t rows) {
    int64_t N = pick(1, 2), C = pick(0, 1) ? pick(1, 4) : pick(16, 20), in[] = {N, C, pick(1, 8), pick(1, 12)};
    int64_t out[4] = {N, C};
    pool_settings s = {.maximum = (int)pick(0, 1), .count_pad = (int)pick(0, 1)};
    s.window = random_window(in + 2, out + 2);
    test_case c = {.settings = &s};
    operand *to = add_operand(&c, GI_F32, 4, out, rows), *o = add_operand(&c, GI_F32, 4, in, rows);
    if (pick(0, 1)) put_channels_last(to), put_channels_last(o);
    fill_real(o);
    if (s.maximum && pick(0, 1)) ((float *)o->data)[pick(0, o->elements - 1)] = NAN;
    check_case(&c, build_pool, expect_pool, 0);
    free_case(&c);
}

/* ---- refusals ---- */
static void test_refusals(void) {
    static const float zeros[4096];
    const gi_window good = {{3, 3}, {1, 1}, {1, 1}, {1, 1}};
    gi_error err = {0};
    gi_builder *b = gi_builder_create(gi_kernels_get("scalar", &err), &err);
    int f = gi_builder_work(b, GI_F32, 64, &err), g = gi_builder_work(b, GI_F32, 64, &err);
    int k = gi_builder_constant(b, GI_F32, 4096, zeros, &err), tiny = gi_builder_constant(b, GI_F32, 100, zeros, &err);
    gi_view out = {f, 4, 0, {1, 4, 4, 4}, {64, 16, 4, 1}}, in = out;
    in.tensor = g;
    gi_window bad[6] = {good, good, good, good, good, good};
    bad[0].kernel[0] = 0, bad[1].stride[1] = 0, bad[2].dilation[0] = -1, bad[3].pad_begin[1] = -1;
    bad[4].kernel[1] = INT64_MAX, bad[5].dilation[0] = INT64_MAX / 2;
    for (int i = 0; i < 6; i++) {
        CHECK(gi_build_pool(b, &out, &in, &bad[i], 1, 0, &err) < 0, "pool took window %d", i);
        CHECK(gi_build_conv(b, &out, &in, k, 1, &bad[i], &err) < 0, "conv took window %d", i);
    }
    CHECK(gi_build_conv(b, &out, &in, k, 1, &good, &err) == GI_OK, "%s", err.text);
    gi_view flat = {g, 3, 0, {4, 4, 4}, {16, 4, 1}}, vector = {g, 1, 0, {4}, {1}};
    CHECK(gi_build_conv(b, &out, &in, k, 3, &good, &err) < 0, "groups that do not divide");
    CHECK(gi_build_conv(b, &out, &in, k, 0, &good, &err) < 0, "no groups");
    CHECK(gi_build_conv(b, &out, &in, tiny, 1, &good, &err) < 0, "too few weights");
    CHECK(gi_build_conv(b, &out, &in, -1, 1, &good, &err) < 0, "no weights");
    CHECK(gi_build_conv(b, &out, &flat, k, 1, &good, &err) < 0, "rank 3");
    CHECK(gi_build_conv(b, &in, &in, k, 1, &good, &err) < 0, "in place");
    gi_view lhs = {g, 2, 0, {4, 5}, {5, 1}}, rhs = {k, 2, 0, {5, 6}, {6, 1}}, product = {f, 2, 0, {4, 6}, {6, 1}};
    CHECK(gi_build_matmul(b, &product, &lhs, &rhs, &err) == GI_OK, "%s", err.text);
    CHECK(gi_build_matmul(b, &product, &rhs, &lhs, &err) < 0, "shapes that do not chain");
    CHECK(gi_build_matmul(b, &out, &lhs, &rhs, &err) < 0, "matmul of other rank");
    CHECK(gi_build_matmul(b, &product, &vector, &rhs, &err) < 0, "matmul of a vector");
    gi_view batch = {g, 4, 0, {2, 2, 4, 4}, {32, 16, 4, 1}}, half = {f, 4, 0, {1, 2, 4, 4}, {64, 16, 4, 1}};
    CHECK(gi_build_pool(b, &out, &flat, &good, 1, 0, &err) < 0, "pool of rank 3");
    CHECK(gi_build_pool(b, &out, &batch, &good, 1, 0, &err) < 0, "pool of another batch");
    CHECK(gi_build_pool(b, &half, &in, &good, 1, 0, &err) < 0, "pool of other channels");
    int late = gi_builder_work(b, GI_F32, 4096, &err);
    CHECK(gi_build_conv(b, &out, &in, late, 1, &good, &err) == GI_ERR_ARGUMENT, "weights that are not constant");
    gi_builder_free(b);
}

int main(void) {
    for (int round = 0; round < 300; round++)
        for (int64_t rows = 1; rows <= 3; rows += 2) {
            test_matmul(rows);
            test_conv(rows);
            test_pool(rows);
        }
    test_refusals();
    return report("products and windows");
}

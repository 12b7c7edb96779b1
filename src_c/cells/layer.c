/* A layer over time: the input products of a chunk of steps (hoist.c), then the recurrent steps one by one. A team shares the
 * units of every step, or many rows if that is better; neither changes a bit. Every member goes through all steps with a
 * record of its own, so that it knows where each step reads and writes. */
#include "../base/fpmode.h"
#include "hoist.h"
#include <string.h>

static void copy_rows(const gi_series *to, const float *from, int64_t from_stride, int64_t M, int64_t H) {
    for (int64_t m = 0; m < M; m++) memcpy(to->p + m * to->m_stride, from + m * from_stride, (size_t)H * sizeof(float));
}

static void zero_rows(const gi_series *to, int64_t M, int64_t H) {
    for (int64_t m = 0; m < M; m++) memset(to->p + m * to->m_stride, 0, (size_t)H * sizeof(float));
}

/* All of the step record that stays the same over time; the state starts at h0, c0 or zero. Field by field: clearing the record
 * first and copying it takes as long as a small cell. */
static void start_step(gi_step *s, const gi_layer *l) {
    const gi_series *h = l->h0.p ? &l->h0 : &l->h[0], *c = l->c0.p ? &l->c0 : &l->c;
    s->cell = l->cell, s->packed = l->packed, s->at = l->at, s->rows = l->M;
    s->first_block = 0, s->end_block = gi_blocks(l->cell->hidden_size);
    s->x_stride = l->x.m_stride, s->pre_stride = l->pre.m_stride;
    s->h_again = s->c_again = NULL;
    s->pre = NULL, s->ahead = NULL, s->gate = l->gate.p, s->gate_stride = l->gate.m_stride;
    s->h = h->p, s->h_stride = h->m_stride;
    s->c = c->p, s->c_stride = c->m_stride;
}

static void zero_absent_state(const gi_layer *l) {
    const int64_t H = l->cell->hidden_size;
    if (!l->h0.p) zero_rows(&l->h[0], l->M, H);
    if (!l->c0.p && l->c.p) zero_rows(&l->c, l->M, H);
}

/* Where step `index` writes: into Y, else into hn when it is the last, else into the scratch that h is not in. */
static void aim_step(const gi_layer *l, gi_step *s, int64_t index, int64_t t) {
    const int last = index == l->T - 1;
    const gi_series *h = l->y.p ? &l->y : last && l->hn.p ? &l->hn : &l->h[(index + 1) & 1];
    const gi_series *c = last && l->cn.p ? &l->cn : &l->c;
    s->h_next = h->p + (l->y.p ? t * h->t_stride : 0), s->h_next_stride = h->m_stride;
    s->c_next = c->p, s->c_next_stride = c->m_stride;
}

static int64_t r_size(const gi_cell *cell) { return gi_cell_gates(cell) * cell->hidden_size * cell->hidden_size; }

/* Nanoseconds of a step, roughly: in one of them a core makes about 1 multiply-add of R h per lane of a vector, beside those of W x
 * (0.3 with one lane, 1.5 with eight); with two rows 2, with more 3, since a weight serves several. */
static int64_t step_ns(const gi_layer *l) {
    return l->M * r_size(l->cell) / (l->kernels->lanes * (l->M < 3 ? l->M : 3));
}

static int64_t unit_width(const gi_cell *cell) {
    const int grouped = cell->kind == GI_RNN || (cell->kind == GI_GRU && !cell->linear_before_reset);
    return grouped ? GI_DENSE_GROUP : 1;
}

/* One kernel over the units of a step; members take parts of its blocks. */
typedef struct kernel_call { void (*kernel)(const gi_step *s); const gi_step *step; } kernel_call;

static void unit_share(void *arg, int share, int shares) {
    const kernel_call *call = arg;
    const gi_cell *cell = call->step->cell;
    const gi_block_range units = gi_share_of_groups(gi_blocks(cell->hidden_size), unit_width(cell), share, shares);
    gi_step part = *call->step;
    part.first_block = units.first, part.end_block = units.end;
    call->kernel(&part);
}

/* A layer of one step for which members are woken: shares of each, so that when one comes, 15 to 25 us late, some of its own are
 * left. From LATE_NS on, a single share of two members takes longer than that by far. */
enum { LATE_SHARES = 8, LATE_NS = 130 * 1000 };

static int shares_of_each(const gi_layer *l) {
    return l->T == 1 && !gi_team_is_hot(l->team) && step_ns(l) < LATE_NS ? LATE_SHARES : 1;
}

/* Small cells take less time than the record of a share. */
static void run_kernel(const gi_layer *l, gi_seat *seat, void (*kernel)(const gi_step *s), const gi_step *s) {
    if (!seat->team) kernel(s);
    else gi_team_phase(seat, shares_of_each(l), unit_share, &(kernel_call){kernel, s});
}

static void cell_step(const gi_layer *l, gi_seat *seat, const gi_step *s) {
    const gi_cell_way way = gi_cell_way_of(l->kernels, l->cell, l->M);
    run_kernel(l, seat, way.kernel, s);
    if (way.then) run_kernel(l, seat, way.then, s);
}

/* All steps. The state of the last one is where `s` points then. */
static void run_steps(const gi_layer *l, gi_seat *seat, gi_step *s) {
    gi_hoist hoist;
    if (l->pre.p) gi_hoist_start(&hoist, l);
    for (int64_t index = 0; index < l->T; index++) {
        const int64_t t = l->reverse ? l->T - 1 - index : index;
        if (l->pre.p) gi_hoist_aim(&hoist, seat, s, index);
        s->x = gi_series_at(&l->x, t);
        s->backward = (index & 1) != l->backward;
        aim_step(l, s, index, t);
        if (l->sparse.p && !seat->team) gi_hoist_sparse(l->kernels, s, l->sparse.p);
        cell_step(l, seat, s);
        s->h = s->h_next, s->h_stride = s->h_next_stride;
        s->c = s->c_next, s->c_stride = s->c_next_stride;
    }
}

static void share_units(void *arg, gi_seat *seat) {
    const gi_layer *l = arg;
    const int64_t H = l->cell->hidden_size;
    gi_step s;
    start_step(&s, l);
    run_steps(l, seat, &s);
    if (seat->member) return;
    gi_team_meet(seat);
    if (l->hn.p && s.h != l->hn.p) copy_rows(&l->hn, s.h, s.h_stride, l->M, H);
    if (l->cn.p && s.c != l->cn.p) copy_rows(&l->cn, s.c, s.c_stride, l->M, H);
}

static void run_alone(const gi_layer *l) { share_units((void *)l, &(gi_seat){0}); }

static void row_share(void *arg, int share, int shares) {
    const gi_layer *whole = arg;
    int64_t first;
    const int64_t count = gi_share_of(whole->M, 1, share, shares, &first);
    gi_layer rows = gi_layer_rows(whole, first, count);
    if (count) run_alone(&rows);
}

static void share_rows(void *arg, gi_seat *seat) { gi_team_phase(seat, 1, row_share, arg); }

gi_layer gi_layer_rows(const gi_layer *whole, int64_t first, int64_t count) {
    gi_layer part = *whole;
    gi_series *all[] = {&part.x, &part.y, &part.h0, &part.c0, &part.hn, &part.cn,
                        &part.h[0], &part.h[1], &part.c, &part.gate, &part.ahead, &part.sparse, &part.pre};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->p) all[i]->p += first * all[i]->m_stride;
    part.M = count;
    return part;
}

/* Waking a thread takes some microseconds and a meeting a fraction of one: smaller work is done sooner alone. A layer is shared from
 * TEAM_NS on, from HOT_NS if nobody has to be woken, and by units from STEP_NS in a step. Many rows are shared by units only from
 * FAR_R floats of R on: then a core keeps its part of the weights, of which all do not fit in its L2. */
enum { TEAM_NS = 25 * 1000, HOT_NS = 3 * 1000, STEP_NS = 3 * 1000, FAR_R = 100 * 1000, TEAM_ROWS = 8 };

/* No member has more than an eighth more to do by units than by rows. */
static int is_even(const gi_layer *l) {
    const int64_t groups = gi_groups(gi_blocks(l->cell->hidden_size), unit_width(l->cell)), members = gi_team_size(l->team);
    return 8 * gi_groups(groups, members) * l->M <= 9 * gi_groups(l->M, members) * groups;
}

static gi_team_work *how_to_share(const gi_layer *l) {
    if (!l->team || step_ns(l) * l->T < (gi_team_is_hot(l->team) ? HOT_NS : TEAM_NS)) return NULL;
    if (l->M >= TEAM_ROWS && (r_size(l->cell) < FAR_R || !is_even(l))) return share_rows;
    return step_ns(l) >= STEP_NS ? share_units : NULL;
}

int gi_layer_is_shared(const gi_layer *layer) { return how_to_share(layer) != NULL; }

void gi_layer_run(const gi_layer *layer) {
    gi_team_work *const work = how_to_share(layer);
    zero_absent_state(layer);
    if (!work || !gi_team_run(layer->team, work, (void *)layer)) run_alone(layer);
}

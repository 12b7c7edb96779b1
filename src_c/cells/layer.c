/* A layer over time: the input product hoisted over a chunk of steps, then the recurrent steps one by one. */
#include "cells.h"
#include <string.h>

static void copy_rows(const gi_series *to, const float *from, int64_t from_stride, int64_t M, int64_t H) {
    for (int64_t m = 0; m < M; m++) memcpy(to->p + m * to->m_stride, from + m * from_stride, (size_t)H * sizeof(float));
}

static void zero_rows(const gi_series *to, int64_t M, int64_t H) {
    for (int64_t m = 0; m < M; m++) memset(to->p + m * to->m_stride, 0, (size_t)H * sizeof(float));
}

/* pre [steps, M, G * span] = bias + W x for the times first .. first + steps - 1. Any grouping of rows gives the same bits. */
static void hoist_input(const gi_layer *l, int64_t first, int64_t steps) {
    const gi_cell_layout at = gi_cell_place(l->cell);
    const int64_t G = gi_cell_gates(l->cell), M = l->M;
    const int merged = l->x.t_stride == M * l->x.m_stride && l->pre.t_stride == M * l->pre.m_stride;
    const int by_row = !merged && M <= steps;
    const int64_t calls = merged ? 1 : by_row ? M : steps;
    gi_product p = {.weights = l->cell->weights, .rows = merged ? M * steps : by_row ? steps : M, .K = l->cell->input_size,
                    .width = gi_blocks(l->cell->hidden_size) * GI_BLOCK * G, .lines = G == 1 ? GI_DENSE_GROUP : G,
                    .x_stride = by_row ? l->x.t_stride : l->x.m_stride, .panels = l->packed + at.w,
                    .bias = l->packed + at.bias, .out_stride = by_row ? l->pre.t_stride : l->pre.m_stride};
    for (int64_t i = 0; i < calls; i++) {
        p.x = l->x.p + first * l->x.t_stride + i * (by_row ? l->x.m_stride : l->x.t_stride);
        p.out = l->pre.p + i * (by_row ? l->pre.m_stride : l->pre.t_stride);
        l->kernels->product(&p);
    }
}

/* The step record with all that stays the same over time; the state starts at h0, c0 or zero. */
static gi_step start_step(const gi_layer *l) {
    const int64_t H = l->cell->hidden_size;
    gi_step s = {.cell = l->cell, .rows = l->M, .end_block = gi_blocks(H), .x_stride = l->x.m_stride, .pre_stride = l->pre.m_stride, .packed = l->packed,
                 .gate = l->gate.p, .gate_stride = l->gate.m_stride, .h = l->h0.p, .h_stride = l->h0.m_stride, .c = l->c0.p,
                 .c_stride = l->c0.m_stride};
    if (!s.h) {
        zero_rows(&l->h[0], l->M, H);
        s.h = l->h[0].p, s.h_stride = l->h[0].m_stride;
    }
    if (!s.c && l->c.p) {
        zero_rows(&l->c, l->M, H);
        s.c = l->c.p, s.c_stride = l->c.m_stride;
    }
    return s;
}

/* Where step `index` writes: into Y, else into hn when it is the last, else into the scratch that h is not in. */
static void aim_step(const gi_layer *l, gi_step *s, int64_t index, int64_t t) {
    const int last = index == l->T - 1;
    const gi_series *h = l->y.p ? &l->y : last && l->hn.p ? &l->hn : &l->h[(index + 1) & 1];
    const gi_series *c = last && l->cn.p ? &l->cn : &l->c;
    s->h_next = h->p + (l->y.p ? t * h->t_stride : 0), s->h_next_stride = h->m_stride;
    s->c_next = c->p, s->c_next_stride = c->m_stride;
}

static void cell_step(const gi_layer *l, const gi_step *s) {
    switch (l->cell->kind) {
    case GI_LSTM: l->kernels->lstm_step(s); break;
    case GI_RNN: l->kernels->rnn_step(s); break;
    default:
        if (l->cell->linear_before_reset) {
            l->kernels->gru_reset_after_step(s);
        } else {
            l->kernels->gru_reset_before_step(s);
            l->kernels->gru_candidate_step(s);
        }
    }
}

static void run_steps(const gi_layer *l, gi_step *s) {
    int64_t chunk_first = 0, chunk_end = 0;   /* steps whose input product is in pre */
    for (int64_t index = 0; index < l->T; index++) {
        const int64_t t = l->reverse ? l->T - 1 - index : index;
        if (l->pre.p && index == chunk_end) {
            chunk_first = chunk_end;
            chunk_end = l->T - chunk_first < l->pre_steps ? l->T : chunk_first + l->pre_steps;
            hoist_input(l, l->reverse ? l->T - chunk_end : chunk_first, chunk_end - chunk_first);
        }
        const int64_t slot = l->reverse ? chunk_end - 1 - index : index - chunk_first;
        s->pre = gi_series_at(&l->pre, slot);
        s->x = gi_series_at(&l->x, t);
        s->backward = index & 1;
        aim_step(l, s, index, t);
        cell_step(l, s);
        s->h = s->h_next, s->h_stride = s->h_next_stride;
        s->c = s->c_next, s->c_stride = s->c_next_stride;
    }
}

void gi_layer_run(const gi_layer *l) {
    const int64_t H = l->cell->hidden_size;
    gi_step s = start_step(l);
    run_steps(l, &s);
    if (l->hn.p && s.h != l->hn.p) copy_rows(&l->hn, s.h, s.h_stride, l->M, H);
    if (l->cn.p && s.c != l->cn.p) copy_rows(&l->cn, s.c, s.c_stride, l->M, H);
}

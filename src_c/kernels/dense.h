/* Dense products on packed weights, for the ops that use them. Layout of a packed weight set (kernels/pack.c):
 * bias [blocks * 16], then a panel per group of blocks (gi_group_lines); or, when the outputs are too few to fill
 * lanes (see gi_dense_is_striped), bias [N] padded to 16, then rows [N][K] for dot products. */
#ifndef GI_DENSE_H
#define GI_DENSE_H
#include "kernels.h"

/* A property of the weight's shape alone, so that the order of summation is, too. */
static inline int gi_dense_is_striped(int64_t K, int64_t N) { return N * 4 <= GI_BLOCK && K >= 2 * GI_BLOCK; }

/* out [rows, N] = x [rows, K] W + bias. Row strides in floats. */
void gi_dense_run(const gi_kernels *kernels, int weights, const float *packed, int64_t rows, int64_t K, int64_t N,
                  const float *x, int64_t x_stride, float *out, int64_t out_stride);

#endif

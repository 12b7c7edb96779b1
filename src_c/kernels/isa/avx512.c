/* AVX-512 F, DQ, BW, VL: x86-64-v4. The pragma lets this file alone use the instructions: build flags stay those
 * of the oldest CPU. */
#if defined(__x86_64__)
#include "../cell_layout.h"
#include "../kernels.h"
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma,f16c")
#endif

#include "vec_avx512.h"

#include "../body/math.inc.h"
#include "../body/panel.inc.h"
#include "../body/band.inc.h"
#include "../body/product.inc.h"
#include "../body/reduce.inc.h"
#include "../body/slide.inc.h"
#include "../body/ahead.inc.h"
#include "../body/cell.inc.h"
#include "../body/tiles.inc.h"
#include "../body/lstm.inc.h"
#include "../body/gru.inc.h"
#include "../body/side.inc.h"
#include "../body/rnn.inc.h"
#include "../body/sparse.inc.h"
#include "../body/map.inc.h"

#define GI_TABLE gi_kernels_avx512
#define GI_TABLE_NAME "avx512"
#define GI_TABLE_NARROWER &gi_kernels_avx2
#include "../body/table.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int gi_no_avx512; /* ISO C wants something in every file */
#endif

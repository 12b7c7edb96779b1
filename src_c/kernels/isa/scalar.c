/* The portable table: plain C11 and libm, the oracle of the others. */
#include "../cell_layout.h"
#include "../kernels.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vec_scalar.h"

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

#define GI_TABLE gi_kernels_scalar
#define GI_TABLE_NAME "scalar"
#define GI_TABLE_NARROWER NULL
#include "../body/table.inc.h"

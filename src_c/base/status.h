/* Status codes with one sentence of text. */
#ifndef GI_STATUS_H
#define GI_STATUS_H
#include "../gateinfer.h"

/* Fills `err` (may be NULL) with a printf-style sentence and returns `status`. */
int gi_fail(gi_error *err, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif

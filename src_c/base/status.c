#include "status.h"
#include <stdarg.h>
#include <stdio.h>

int gi_fail(gi_error *err, int status, const char *format, ...) {
    if (!err) return status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    err->status = status;
    return status;
}

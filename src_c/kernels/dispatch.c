/* The ladder of kernel tables: what this build has, what this CPU runs, what the environment allows. */
#include "../base/cpu.h"
#include "../base/status.h"
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

typedef struct gi_rung {
    const gi_kernels *table;
    unsigned needs; /* GI_CPU_* bits */
} gi_rung;

/* Narrowest first. */
static const gi_rung ladder[] = {
    {&gi_kernels_scalar, 0},
#if defined(__x86_64__)
    {&gi_kernels_avx2, GI_CPU_AVX2},
    {&gi_kernels_avx512, GI_CPU_AVX512},
#endif
};
enum { RUNGS = sizeof ladder / sizeof ladder[0] };

/* The names of this build for messages. */
#if defined(__x86_64__)
#define GI_KERNEL_NAMES "scalar, avx2, avx512"
#else
#define GI_KERNEL_NAMES "scalar"
#endif

static int find(const char *name) {
    for (int i = 0; i < RUNGS; i++)
        if (strcmp(ladder[i].table->name, name) == 0) return i;
    return -1;
}

static int runs(int rung) { return (gi_cpu_features() & ladder[rung].needs) == ladder[rung].needs; }

/* The highest rung GATEINFER_ISA allows; unset, empty and "auto" allow all. */
static int ceiling(gi_error *err) {
    const char *value = getenv("GATEINFER_ISA");
    if (!value || !*value || strcmp(value, "auto") == 0) return RUNGS - 1;
    int rung = find(value);
    if (rung < 0)
        gi_fail(err, GI_ERR_NOT_COMPILED, "GATEINFER_ISA is \"%.40s\"; this build knows auto, " GI_KERNEL_NAMES, value);
    return rung;
}

static const gi_kernels *widest(gi_error *err) {
    for (int i = ceiling(err); i >= 0; i--)
        if (runs(i)) return ladder[i].table;
    return NULL;
}

const gi_kernels *gi_kernels_get(const char *name, gi_error *err) {
    if (!name || strcmp(name, "auto") == 0) return widest(err);
    int rung = find(name);
    if (rung < 0) {
        gi_fail(err, GI_ERR_NOT_COMPILED, "no kernels called \"%.40s\" in this build; it has auto, " GI_KERNEL_NAMES,
                name);
        return NULL;
    }
    if (!runs(rung)) {
        gi_fail(err, GI_ERR_CANNOT_RUN, "this CPU cannot run the kernels \"%s\"; use \"auto\"", name);
        return NULL;
    }
    return ladder[rung].table;
}

const char *gi_kernels_name(const gi_kernels *kernels) { return kernels->name; }

int gi_kernels_lanes(const gi_kernels *kernels) { return kernels->lanes; }

const char *gi_kernels_list(int index) { return index >= 0 && index < RUNGS ? ladder[index].table->name : NULL; }

/* The floating-point mode of the calling thread: denormals are flushed inside the engine, because a state that decays into
 * them costs 100 cycles per operation. Rounding is to nearest and nothing traps, whatever the caller has set, so that
 * results do not depend on it. The caller's mode and flags come back afterwards. */
#ifndef GI_FPMODE_H
#define GI_FPMODE_H
#include <stdint.h>

#if defined(__x86_64__)
typedef uint32_t gi_fpmode;
/* From memory to memory: a move of what stmxcsr has just stored waits until all before it is done, and a small cell
 * could not begin before the one before it ends. */
static inline void gi_fpmode_leave(const gi_fpmode *caller) {
    __asm__ volatile("ldmxcsr %0" : : "m"(*caller) : "memory");
}
static inline void gi_fpmode_enter(gi_fpmode *caller) {
    static const gi_fpmode ours = 0x9fc0;   /* FTZ, DAZ, every exception masked, round to nearest */
    __asm__ volatile("stmxcsr %0" : "=m"(*caller) : : "memory");
    gi_fpmode_leave(&ours);
}
#elif defined(__aarch64__)
typedef uint64_t gi_fpmode;
static inline void gi_fpmode_enter(gi_fpmode *caller) {
    __asm__ volatile("mrs %0, fpcr" : "=r"(*caller));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));   /* FZ alone */
}
static inline void gi_fpmode_leave(const gi_fpmode *caller) { __asm__ volatile("msr fpcr, %0" : : "r"(*caller)); }
#else
typedef int gi_fpmode;
static inline void gi_fpmode_enter(gi_fpmode *caller) { *caller = 0; }
static inline void gi_fpmode_leave(const gi_fpmode *caller) { (void)caller; }
#endif

#endif

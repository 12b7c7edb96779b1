/* The floating-point mode of the calling thread: denormals are flushed inside the engine, because a state that decays into
 * them costs 100 cycles per operation. Rounding is to nearest and nothing traps, whatever the caller has set, so that
 * results do not depend on it. The caller's mode and flags come back afterwards. */
#ifndef GI_FPMODE_H
#define GI_FPMODE_H
#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
typedef unsigned int gi_fpmode;
enum { GI_FPMODE = 0x9fc0 };   /* FTZ, DAZ, every exception masked, round to nearest */
static inline gi_fpmode gi_fpmode_enter(void) {
    gi_fpmode caller = _mm_getcsr();
    _mm_setcsr(GI_FPMODE);
    return caller;
}
static inline void gi_fpmode_leave(gi_fpmode caller) { _mm_setcsr(caller); }
#elif defined(__aarch64__)
typedef uint64_t gi_fpmode;
static inline gi_fpmode gi_fpmode_enter(void) {
    gi_fpmode caller;
    __asm__ volatile("mrs %0, fpcr" : "=r"(caller));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));   /* FZ alone */
    return caller;
}
static inline void gi_fpmode_leave(gi_fpmode caller) { __asm__ volatile("msr fpcr, %0" : : "r"(caller)); }
#else
typedef int gi_fpmode;
static inline gi_fpmode gi_fpmode_enter(void) { return 0; }
static inline void gi_fpmode_leave(gi_fpmode caller) { (void)caller; }
#endif

#endif

/* The floating-point environment of kernels, the same in every thread.
 *
 * The calling thread brings its own: a program may have switched rounding or flushing, which the
 * pool's threads would not know of, and the result would depend on how the work was split. So each
 * thread sets the environment for the length of a step: round to nearest, no traps, denormal
 * numbers as 0. Flushing is what 32-bit ARM's NEON does anyway, so every target agrees, and states
 * that fade towards 0 do not slow a step down (a denormal operand costs Intel cores some hundred
 * cycles).
 */
#ifndef SHIFTEDGE_FLOAT_ENV_H
#define SHIFTEDGE_FLOAT_ENV_H

#include <stdint.h>

#if defined(__SSE2__)
#include <xmmintrin.h>

/* MXCSR: bit 15 flush to zero, bits 12..7 all traps masked, bit 6 denormals are zero, rounding
 * (14..13) nearest. Intel 64 manual, volume 1, 10.2.3. */
static inline uint64_t shiftedge_float_enter(void) {
    uint32_t before = _mm_getcsr();
    _mm_setcsr(0x9fc0u);
    return before;
}

static inline void shiftedge_float_leave(uint64_t before) { _mm_setcsr((uint32_t)before); }

#elif defined(__aarch64__)

/* FPCR: bit 24 flush to zero, rounding (23..22) nearest, no traps. Arm ARM, C5.2.8. */
static inline uint64_t shiftedge_float_enter(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24) : "memory");
    return before;
}

static inline void shiftedge_float_leave(uint64_t before) {
    __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory");
}

#elif defined(__arm__) && defined(__ARM_FP)

/* FPSCR, the same bits: for scalar arithmetic, as NEON's vectors always flush and round so. */
static inline uint64_t shiftedge_float_enter(void) {
    uint32_t before;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(before));
    __asm__ volatile("vmsr fpscr, %0" : : "r"((uint32_t)1 << 24) : "memory");
    return before;
}

static inline void shiftedge_float_leave(uint64_t before) {
    __asm__ volatile("vmsr fpscr, %0" : : "r"((uint32_t)before) : "memory");
}

#else

static inline uint64_t shiftedge_float_enter(void) { return 0; }
static inline void shiftedge_float_leave(uint64_t before) { (void)before; }

#endif

#endif

/* The plan of a step on the CPU: a constant table of kernels, and how the step runs it.
 *
 * A step runs the kernels in order. Each kernel has `units` units of work, cut into one contiguous
 * range per thread, or several; all are done before the next kernel begins, so a kernel sees
 * everything that earlier ones wrote. Which thread runs a unit depends on the number of threads and
 * on chance, what a unit computes must not: it writes only what is its own, and reads nothing that
 * another unit of the same kernel writes.
 */
#ifndef SHIFTEDGE_CPU_KERNELS_H
#define SHIFTEDGE_CPU_KERNELS_H

#include <stdint.h>

#include "buffers.h"
#include "executor.h"

/* Compute units begin .. end-1; never called for none. Returns 0, or a number that the error message
 * will carry. Must not allocate, start threads, keep anything from one call to the next, or change
 * its constants. Runs with round-to-nearest and with denormal numbers taken as 0 (see float_env.h).
 * The code generator makes plain C functions, and the table's function is a line of C:
 *
 *     void conv_0(const uint8_t *, const float *, float *, float *, int32_t, int32_t);
 *     static int32_t run_conv_0(void *const *b, int32_t begin, int32_t end) {
 *         conv_0(b[0], b[1], b[2], b[3], begin, end);
 *         return 0;
 *     }
 */
typedef int32_t (*shiftedge_kernel_function)(void *const *buffers, int32_t begin, int32_t end);

typedef struct shiftedge_kernel {
    shiftedge_kernel_function function;
    const shiftedge_buffer *buffers; /* its arguments, in order */
    uint32_t buffer_count;           /* at most SHIFTEDGE_BUFFERS_MOST */
    int32_t units;                   /* at least 1 */
    int32_t pieces; /* chunks that each thread's share may be cut into, so that others can take
                       over what it has not begun; 0 is 1: a call repeats work of its neighbour */
} shiftedge_kernel;

#define SHIFTEDGE_BUFFERS_MOST 24

typedef struct shiftedge_cpu_plan {
    const shiftedge_kernel *kernels; /* as many as the program has names for */
    uint64_t workspace_bytes;        /* may be 0 */
    uint64_t scratch_bytes; /* of one thread, the most that a kernel needs; may be 0 */
    uint64_t weights_bytes; /* may be 0 */
    const void *weights;    /* in a section mapped read-only, at a multiple of 64 bytes */
    int32_t frame_alignment;  /* bytes, a power of two up to 64 that the first kernel's loads rely
                                 on; a caller's frame elsewhere is copied first. 1: never */
    const char *cpu_features; /* what the CPU must have for the kernels' instructions: names of the
                                 line flags or Features in Linux's /proc/cpuinfo that cpu_features.c
                                 knows, with spaces between; NULL or "": the architecture's
                                 baseline */
} shiftedge_cpu_plan;

extern const shiftedge_executor shiftedge_cpu_executor;

#endif

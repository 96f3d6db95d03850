/* The plan of a step on an NVIDIA GPU: its code as text that the driver compiles (PTX), and a constant
 * table of launches.
 *
 * A step's launches run one after another. Each has blocks of threads; a block sees nothing that
 * another block of the same launch writes, and everything that earlier launches wrote. All of a
 * kernel's parameters are addresses, in the order of its buffers.
 */
#ifndef SHIFTEDGE_CUDA_LAUNCHES_H
#define SHIFTEDGE_CUDA_LAUNCHES_H

#include <stdint.h>

#include "buffers.h"
#include "executor.h"

typedef struct shiftedge_cuda_launch {
    const char *function; /* an .entry of the text */
    uint32_t blocks;      /* at least 1 */
    uint32_t threads;     /* of a block, 1 to 1024 */
    const shiftedge_buffer *buffers;
    uint32_t buffer_count; /* 1 to SHIFTEDGE_CUDA_BUFFERS_MOST */
} shiftedge_cuda_launch;

/* A launch's parameters may take 4 KB. */
#define SHIFTEDGE_CUDA_BUFFERS_MOST 512

typedef struct shiftedge_cuda_plan {
    const shiftedge_cuda_launch *launches; /* as many as the program has names for */
    const char *text;                      /* PTX, ended by a 0 */
    uint64_t workspace_bytes;              /* may be 0 */
    uint64_t weights_bytes;                /* may be 0 */
    const void *weights;
    int32_t capability; /* ten times the compute capability that the text is for, such as 53; a
                           device must have that or more */
    int32_t driver;     /* as cuDriverGetVersion counts: 1000 times the major version of CUDA and
                           10 times the minor one, that the text's version came with */
} shiftedge_cuda_plan;

extern const shiftedge_executor shiftedge_cuda_executor;

#endif

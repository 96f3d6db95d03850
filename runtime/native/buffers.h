/* Where a kernel's arguments lie, the same for every executor: the table of a model names places, the
 * executor has the memory. */
#ifndef SHIFTEDGE_BUFFERS_H
#define SHIFTEDGE_BUFFERS_H

#include <stdint.h>

#include "executor.h"

/* Memory that a kernel's argument lies in. All begin at a multiple of 64 bytes but FRAME of cpu/. No
 * two overlap. */
typedef enum shiftedge_buffer_kind {
    SHIFTEDGE_FRAME = 0,      /* read: the frame, uint8 (height, width, 3) BGR, rows packed, of cpu/
                                 at a multiple of `frame_alignment`; not a byte past its end may be
                                 read */
    SHIFTEDGE_WEIGHTS = 1,    /* read: constants of the library */
    SHIFTEDGE_STATE = 2,      /* read: the states as the last frame left them */
    SHIFTEDGE_NEXT_STATE = 3, /* write: the states for the next frame, same offsets as in STATE, all
                                 of their bytes */
    SHIFTEDGE_WORKSPACE = 4,  /* read and write: what kernels leave for later ones, of undefined
                                 content when a step begins */
    SHIFTEDGE_LOGITS = 5,     /* write: float (classes) */
    SHIFTEDGE_SCRATCH = 6,    /* of cpu/ alone, read and write: a block that each thread has for
                                 itself, of undefined content when a kernel is called */
} shiftedge_buffer_kind;

typedef struct shiftedge_buffer {
    uint32_t kind;     /* shiftedge_buffer_kind */
    uint32_t reserved; /* 0 */
    uint64_t offset;   /* bytes from the beginning of that memory */
} shiftedge_buffer;

/* Bytes of the memory whose size only the plan tells. */
typedef struct shiftedge_buffer_sizes {
    uint64_t weights;
    uint64_t workspace;
    uint64_t scratch; /* 0 where the executor has none */
} shiftedge_buffer_sizes;

/* NULL, or what is wrong with a kernel's arguments: each must begin within its memory. */
const char *shiftedge_check_buffers(const shiftedge_program *program,
                                    const shiftedge_buffer_sizes *sizes,
                                    const shiftedge_buffer *buffers, uint32_t count);

#endif

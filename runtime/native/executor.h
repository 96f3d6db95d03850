/* The seam between what every backend shares and what runs a model's kernels on one kind of device.
 *
 * Shared (model.c): options and arguments and every refusal of bad ones, the state block and
 * who owns it, one step at a time, the fork, the sentences, the commit. An executor (cpu/, cuda/) gets a
 * frame and the states as the last frame left them, and leaves the next states and the logits in
 * memory of its own. It never writes to the caller's memory: what it staged is copied there when the
 * whole step is right, so a step that fails leaves all as it was.
 *
 * Why copy: with two sets in the block and a flag that says which counts, nothing need be copied, but
 * a snapshot doubles, and two equal streams differ in their bytes. The copy's cost is in cpu/pool.h
 * beside the other figures.
 *
 * A device of its own memory (cuda/) keeps to the same: the states stay bytes of the host, which go up
 * with the frame and come down with the logits, so that memset, memcpy and a move to another process
 * remain what they are.
 */
#ifndef SHIFTEDGE_EXECUTOR_H
#define SHIFTEDGE_EXECUTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "shiftedge.h"

typedef struct shiftedge_program shiftedge_program;

typedef struct shiftedge_frame {
    const uint8_t *bgr;
    int32_t stride_bytes; /* at least 3 * width */
    const void *states;   /* program->state_bytes of them, at a multiple of 64 */
    double *profile;      /* one number a kernel to fill with seconds; or NULL */
} shiftedge_frame;

/* Valid until the next step. Bytes that belong to no state (padding between them) are 0. */
typedef struct shiftedge_staged {
    const void *states;
    const float *logits;
} shiftedge_staged;

/* Each returns a shiftedge_status, with a sentence (error.h) where it is not SHIFTEDGE_OK. */
typedef struct shiftedge_executor {
    /* Whether the plan is right (SHIFTEDGE_ERROR_PROGRAM) and this machine has what it needs
     * (SHIFTEDGE_ERROR_CPU, SHIFTEDGE_ERROR_DEVICE). May run no code of the plan: that could be
     * what this machine lacks. */
    int (*check)(const shiftedge_program *program);

    /* Take memory and threads, bring the weights in. What is opened is given to step and close; on
     * failure there is nothing to close. */
    int (*open)(const shiftedge_program *program, const shiftedge_options *options, void **opened);

    /* One frame, one call at a time. Allocates nothing. */
    int (*step)(void *opened, const shiftedge_frame *frame, shiftedge_staged *staged);

    /* forked: in a child process, where threads (and a device) that were opened are not. */
    void (*close)(void *opened, bool forked);
} shiftedge_executor;

#endif

/* What model.c builds at open and step.c runs. */
#ifndef SHIFTEDGE_MODEL_H
#define SHIFTEDGE_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "pool.h"
#include "program.h"
#include "shiftedge.h"

#pragma GCC visibility push(hidden)

/* What a thread of the pool reports when its kernel failed. */
typedef struct shiftedge_failure {
    int32_t code; /* 0: it did not */
    char text[SHIFTEDGE_KERNEL_TEXT_BYTES];
} shiftedge_failure;

struct shiftedge_model {
    const shiftedge_program *program;
    pid_t process; /* that opened it */
    int32_t threads;
    pool *pool; /* NULL with one thread */

    /* One step at a time: workspace and threads are the model's. */
    pthread_mutex_t turn;

    /* One allocation, cut into parts at multiples of 64 bytes. */
    unsigned char *memory;
    size_t workspace_at;
    size_t next_state_at;
    size_t logits_at;
    size_t frame_at; /* for frames whose rows are not packed */
    size_t scratch_at;
    size_t scratch_stride; /* from one thread's scratch to the next */

    /* Arguments of all kernels, one after another, for each thread; filled in anew by each step. */
    void **arguments;
    size_t argument_stride; /* from one thread's arguments to the next */
    /* Of the step that runs, as addresses: a thread that comes late to one step may look at them
     * while the next begins, and then does nothing with them. */
    _Atomic uintptr_t states;
    _Atomic uintptr_t frame;
    pool_item *items; /* one a kernel; NULL with one thread */

    double *profile; /* of the caller, one number a kernel; or NULL */

    /* 1 + the index of the kernel that failed in this step, 0 if none has. */
    _Atomic uint32_t failed;
    shiftedge_failure failures[SHIFTEDGE_THREADS_MOST];
};

/* All kernels of run `run`, as thread `index` of the pool does its part of them. */
void shiftedge_run_kernels(void *model, int32_t index, uint32_t run);

/* Bytes of a frame with packed rows. */
static inline size_t shiftedge_frame_bytes(const shiftedge_program *program) {
    return (size_t)program->frame_height * (size_t)program->frame_width * 3;
}

static inline size_t shiftedge_round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* What threads write side by side lies two cache lines apart (see pool.c). */
#define SHIFTEDGE_APART 128

#pragma GCC visibility pop

#endif

/* What open.c builds and step.c runs. */
#ifndef SHIFTEDGE_CPU_H
#define SHIFTEDGE_CPU_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"
#include "pool.h"
#include "program.h"

typedef struct shiftedge_cpu {
    const shiftedge_program *program;
    const shiftedge_cpu_plan *plan;
    int32_t threads;
    pool *pool; /* NULL with one thread */

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

    double *profile; /* of the step that runs: see executor.h */

    /* 1 + the index of the kernel that failed in this step, 0 if none has, and what each of its
     * chunks returned. */
    _Atomic uint32_t failed;
    int32_t returned[POOL_CHUNKS_MOST];
} shiftedge_cpu;

/* All kernels of run `run`, as thread `index` of the pool does its part of them. */
void shiftedge_run_kernels(void *cpu, int32_t index, uint32_t run);

/* shiftedge_executor.step. */
int shiftedge_cpu_step(void *cpu, const shiftedge_frame *frame, shiftedge_staged *staged);

/* What threads write side by side lies two cache lines apart (see pool.c). */
#define SHIFTEDGE_APART 128

#endif

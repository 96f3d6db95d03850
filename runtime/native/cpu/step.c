#define _GNU_SOURCE /* clock_gettime under -std=c11 */
/* One frame: run the kernels, leave states and logits in memory of our own. Allocates nothing. */
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "cpu.h"
#include "error.h"
#include "float_env.h"

/* The frame as kernels want it: the caller's own, or a copy. */
static const uint8_t *pack_frame(shiftedge_cpu *cpu, const uint8_t *bgr, int32_t stride_bytes) {
    size_t row = (size_t)cpu->program->spec->width * 3;
    uintptr_t alignment = (uintptr_t)cpu->plan->frame_alignment;
    if ((size_t)stride_bytes == row && (uintptr_t)bgr % alignment == 0) {
        return bgr;
    }
    unsigned char *packed = cpu->memory + cpu->frame_at;
    for (size_t y = 0; y < (size_t)cpu->program->spec->height; y++) {
        memcpy(packed + y * row, bgr + y * (size_t)stride_bytes, row);
    }
    return packed;
}

/* This thread's pointers for all kernels, one after another. */
static void *const *fill_arguments(const shiftedge_cpu *cpu, int32_t index) {
    /* Kernels take one kind of pointer; that they only read FRAME, WEIGHTS and STATE is their
     * contract, and for WEIGHTS the page table's. */
    void *bases[] = {
        [SHIFTEDGE_FRAME] =
            (void *)atomic_load_explicit(&cpu->frame, memory_order_relaxed),
        [SHIFTEDGE_WEIGHTS] = (void *)(uintptr_t)cpu->plan->weights,
        [SHIFTEDGE_STATE] =
            (void *)atomic_load_explicit(&cpu->states, memory_order_relaxed),
        [SHIFTEDGE_NEXT_STATE] = cpu->memory + cpu->next_state_at,
        [SHIFTEDGE_WORKSPACE] = cpu->memory + cpu->workspace_at,
        [SHIFTEDGE_LOGITS] = cpu->memory + cpu->logits_at,
        [SHIFTEDGE_SCRATCH] =
            cpu->memory + cpu->scratch_at + (size_t)index * cpu->scratch_stride,
    };
    void **arguments = cpu->arguments + (size_t)index * cpu->argument_stride;
    void **next = arguments;
    for (uint32_t k = 0; k < cpu->program->kernel_count; k++) {
        const shiftedge_kernel *kernel = &cpu->plan->kernels[k];
        for (uint32_t i = 0; i < kernel->buffer_count; i++) {
            const shiftedge_buffer *buffer = &kernel->buffers[i];
            *next++ = (unsigned char *)bases[buffer->kind] + buffer->offset;
        }
    }
    return arguments;
}

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* One chunk; a failure is kept under the chunk's number. */
static void run_chunk(shiftedge_cpu *cpu, uint32_t k, void *const *arguments, int32_t chunk,
                      int32_t count) {
    const shiftedge_kernel *kernel = &cpu->plan->kernels[k];
    int32_t begin = pool_split(kernel->units, chunk, count);
    int32_t end = pool_split(kernel->units, chunk + 1, count);
    if (begin >= end) {
        return;
    }
    int32_t code = kernel->function(arguments, begin, end);
    if (code != 0) {
        cpu->returned[chunk] = code;
        atomic_store_explicit(&cpu->failed, k + 1, memory_order_relaxed);
    }
}

/* Into how many chunks kernel `kernel` is cut. */
static int32_t chunks_of(const shiftedge_kernel *kernel, int32_t threads) {
    int32_t count = threads * (kernel->pieces > 1 ? kernel->pieces : 1);
    count = count < POOL_CHUNKS_MOST ? count : POOL_CHUNKS_MOST;
    return count < kernel->units ? count : kernel->units;
}

/* A kernel's chunks: this thread's own first, then those that others have not begun. False: the
 * run is over. Behind a kernel that failed, chunks are claimed and left alone, so that no thread
 * that comes late begins one. */
static bool share_kernel(shiftedge_cpu *cpu, uint32_t k, void *const *arguments, int32_t index,
                         uint32_t run) {
    const shiftedge_kernel *kernel = &cpu->plan->kernels[k];
    pool_item *item = &cpu->items[k];
    int32_t count = chunks_of(kernel, cpu->threads);
    int32_t first = count * index / cpu->threads;
    uint32_t failed = atomic_load_explicit(&cpu->failed, memory_order_relaxed);
    bool dead = failed != 0 && failed <= k;
    for (;;) {
        int32_t chunk = pool_claim(item, run, count, first);
        if (chunk < 0) {
            break;
        }
        if (!dead) {
            run_chunk(cpu, k, arguments, chunk, count);
        }
        pool_finish(cpu->pool, item, count);
    }
    return pool_wait(cpu->pool, item, run, count, index);
}

void shiftedge_run_kernels(void *context, int32_t index, uint32_t run) {
    shiftedge_cpu *cpu = context;
    const shiftedge_program *program = cpu->program;
    uint64_t environment = shiftedge_float_enter();
    void *const *arguments = fill_arguments(cpu, index);
    double *profile = index == 0 ? cpu->profile : NULL;
    double before = profile != NULL ? now_s() : 0;
    for (uint32_t k = 0; k < program->kernel_count; k++) {
        if (cpu->pool == NULL) {
            run_chunk(cpu, k, arguments, 0, 1);
            if (atomic_load_explicit(&cpu->failed, memory_order_relaxed) != 0) {
                break;
            }
        } else if (!share_kernel(cpu, k, arguments, index, run)) {
            break;
        }
        arguments += cpu->plan->kernels[k].buffer_count;
        if (profile != NULL) {
            double after = now_s();
            profile[k] = after - before;
            before = after;
        }
    }
    shiftedge_float_leave(environment);
}

static int explain_failure(shiftedge_cpu *cpu, uint32_t failed) {
    const int32_t *first = cpu->returned; /* of the lowest chunk: always the same */
    while (*first == 0) {
        first++;
    }
    int status = shiftedge_fail(SHIFTEDGE_ERROR_KERNEL,
                                "Kernel %s failed with code %d; the state is as it was.",
                                cpu->program->kernel_names[failed - 1], (int)*first);
    memset(cpu->returned, 0, sizeof cpu->returned);
    return status;
}

int shiftedge_cpu_step(void *opened, const shiftedge_frame *frame, shiftedge_staged *staged) {
    shiftedge_cpu *cpu = opened;
    const uint8_t *bgr = pack_frame(cpu, frame->bgr, frame->stride_bytes);
    cpu->profile = frame->profile;
    atomic_store_explicit(&cpu->states, (uintptr_t)frame->states, memory_order_relaxed);
    atomic_store_explicit(&cpu->frame, (uintptr_t)bgr, memory_order_relaxed);
    atomic_store_explicit(&cpu->failed, 0, memory_order_relaxed);
    shiftedge_run_kernels(cpu, 0, cpu->pool == NULL ? 0 : pool_begin(cpu->pool));
    uint32_t failed = atomic_load_explicit(&cpu->failed, memory_order_relaxed);
    if (failed != 0) {
        return explain_failure(cpu, failed);
    }
    staged->states = cpu->memory + cpu->next_state_at;
    staged->logits = (const float *)(const void *)(cpu->memory + cpu->logits_at);
    return SHIFTEDGE_OK;
}

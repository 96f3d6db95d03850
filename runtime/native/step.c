#define _GNU_SOURCE /* clock_gettime under -std=c11 */
/* One frame: check the caller, run the kernels, commit the states. Allocates nothing. */
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "float_env.h"
#include "model.h"

/* The state's owner word. While a step runs it holds a number made of the process and the block's
 * address, so that whoever finds it knows whether the block is in use right here, or is a copy that
 * was taken in the middle of a step. */
static uint64_t owner_of(const shiftedge_model *model, const void *state) {
    uint64_t mixed = ((uint64_t)(uintptr_t)state ^ ((uint64_t)(uint32_t)model->process << 40)) *
                     UINT64_C(0x9e3779b97f4a7c15); /* odd, so different inputs stay different */
    return mixed == 0 ? 1 : mixed;
}

static int claim(shiftedge_state_header *header, uint64_t owner) {
    uint64_t found = 0;
    if (__atomic_compare_exchange_n(&header->owner, &found, owner, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED)) {
        return SHIFTEDGE_OK;
    }
    if (found == owner) {
        return shiftedge_fail(SHIFTEDGE_ERROR_BUSY,
                              "This state is being stepped by another thread; use one state per "
                              "thread.");
    }
    return shiftedge_fail(SHIFTEDGE_ERROR_STATE,
                          "This state block was never zeroed, or was copied while a step was "
                          "writing it; zero it with memset, or restore an older copy.");
}

static void release(shiftedge_state_header *header) {
    __atomic_store_n(&header->owner, 0, __ATOMIC_RELEASE);
}

/* Whether the block is fresh or one of this model's. Called by its owner. */
static int check_header(const shiftedge_state_header *header, const shiftedge_program *program) {
    const uint64_t *rest = header->reserved;
    uint64_t reserved = rest[0] | rest[1] | rest[2] | rest[3];
    if (header->magic == 0 && header->version == 0 && header->block_bytes == 0 &&
        header->fingerprint == 0 && reserved == 0) {
        return SHIFTEDGE_OK;
    }
    if (header->magic != SHIFTEDGE_STATE_MAGIC || header->version != SHIFTEDGE_STATE_VERSION ||
        reserved != 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_STATE,
                              "This block is neither zeroed nor a state of this version; zero "
                              "shiftedge_state_size() bytes with memset.");
    }
    if (header->block_bytes != shiftedge_state_size()) {
        return shiftedge_fail(SHIFTEDGE_ERROR_STATE,
                              "This state block has %llu bytes; this model's has %zu.",
                              (unsigned long long)header->block_bytes, shiftedge_state_size());
    }
    if (header->fingerprint != program->fingerprint) {
        return shiftedge_fail(SHIFTEDGE_ERROR_STATE,
                              "This state is of another model; zero it with memset to begin anew.");
    }
    return SHIFTEDGE_OK;
}

static int check_arguments(const shiftedge_model *model, const void *state, const uint8_t *bgr,
                           int32_t stride_bytes, const float *logits) {
    if (model == NULL || state == NULL || bgr == NULL || logits == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT, "shiftedge_step was given no %s (NULL).",
                              model == NULL   ? "model"
                              : state == NULL ? "state"
                              : bgr == NULL   ? "frame"
                                              : "logits");
    }
    if (model->process != getpid()) {
        return shiftedge_fail(SHIFTEDGE_ERROR_FORKED,
                              "This model was opened before a fork, by process %ld, and its "
                              "threads stayed there; open a model of its own in this process.",
                              (long)model->process);
    }
    if ((uintptr_t)state % SHIFTEDGE_STATE_ALIGNMENT != 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "The state begins at %p; expected a multiple of %d bytes, as from "
                              "aligned_alloc(%d, shiftedge_state_size()).",
                              state, SHIFTEDGE_STATE_ALIGNMENT, SHIFTEDGE_STATE_ALIGNMENT);
    }
    if ((uintptr_t)logits % sizeof(float) != 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "The logits begin at %p; expected a multiple of %zu bytes.",
                              (const void *)logits, sizeof(float));
    }
    int32_t row = model->program->frame_width * 3;
    if (stride_bytes < row) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "The stride is %d bytes; a row of %d pixels has %d, so expected at "
                              "least that.",
                              (int)stride_bytes, (int)model->program->frame_width, (int)row);
    }
    return SHIFTEDGE_OK;
}

/* The frame as kernels want it: the caller's own, or a copy. */
static const uint8_t *pack_frame(shiftedge_model *model, const uint8_t *bgr, int32_t stride_bytes) {
    size_t row = (size_t)model->program->frame_width * 3;
    uintptr_t alignment = (uintptr_t)model->program->frame_alignment;
    if ((size_t)stride_bytes == row && (uintptr_t)bgr % alignment == 0) {
        return bgr;
    }
    unsigned char *packed = model->memory + model->frame_at;
    for (size_t y = 0; y < (size_t)model->program->frame_height; y++) {
        memcpy(packed + y * row, bgr + y * (size_t)stride_bytes, row);
    }
    return packed;
}

/* This thread's pointers for all kernels, one after another. */
static void *const *fill_arguments(const shiftedge_model *model, int32_t index) {
    /* Kernels take one kind of pointer; that they only read FRAME, WEIGHTS and STATE is their
     * contract, and for WEIGHTS the page table's. */
    void *bases[] = {
        [SHIFTEDGE_FRAME] =
            (void *)atomic_load_explicit(&model->frame, memory_order_relaxed),
        [SHIFTEDGE_WEIGHTS] = (void *)(uintptr_t)model->program->weights,
        [SHIFTEDGE_STATE] =
            (void *)atomic_load_explicit(&model->states, memory_order_relaxed),
        [SHIFTEDGE_NEXT_STATE] = model->memory + model->next_state_at,
        [SHIFTEDGE_WORKSPACE] = model->memory + model->workspace_at,
        [SHIFTEDGE_LOGITS] = model->memory + model->logits_at,
        [SHIFTEDGE_SCRATCH] =
            model->memory + model->scratch_at + (size_t)index * model->scratch_stride,
    };
    void **arguments = model->arguments + (size_t)index * model->argument_stride;
    void **next = arguments;
    for (uint32_t k = 0; k < model->program->kernel_count; k++) {
        const shiftedge_kernel *kernel = &model->program->kernels[k];
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
static void run_chunk(shiftedge_model *model, uint32_t k, void *const *arguments, int32_t chunk,
                      int32_t count) {
    const shiftedge_kernel *kernel = &model->program->kernels[k];
    int32_t begin = pool_split(kernel->units, chunk, count);
    int32_t end = pool_split(kernel->units, chunk + 1, count);
    if (begin >= end) {
        return;
    }
    int32_t code = kernel->function(arguments, begin, end);
    if (code != 0) {
        model->failures[chunk].code = code;
        shiftedge_kernel_text_take(model->failures[chunk].text);
        atomic_store_explicit(&model->failed, k + 1, memory_order_relaxed);
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
static bool share_kernel(shiftedge_model *model, uint32_t k, void *const *arguments,
                         int32_t index, uint32_t run) {
    const shiftedge_kernel *kernel = &model->program->kernels[k];
    pool_item *item = &model->items[k];
    int32_t count = chunks_of(kernel, model->threads);
    int32_t first = count * index / model->threads;
    uint32_t failed = atomic_load_explicit(&model->failed, memory_order_relaxed);
    bool dead = failed != 0 && failed <= k;
    for (;;) {
        int32_t chunk = pool_claim(item, run, count, first);
        if (chunk < 0) {
            break;
        }
        if (!dead) {
            run_chunk(model, k, arguments, chunk, count);
        }
        pool_finish(model->pool, item, count);
    }
    return pool_wait(model->pool, item, run, count, index);
}

void shiftedge_run_kernels(void *context, int32_t index, uint32_t run) {
    shiftedge_model *model = context;
    const shiftedge_program *program = model->program;
    uint64_t environment = shiftedge_float_enter();
    void *const *arguments = fill_arguments(model, index);
    double *profile = index == 0 ? model->profile : NULL;
    double before = profile != NULL ? now_s() : 0;
    for (uint32_t k = 0; k < program->kernel_count; k++) {
        if (model->pool == NULL) {
            run_chunk(model, k, arguments, 0, 1);
            if (atomic_load_explicit(&model->failed, memory_order_relaxed) != 0) {
                break;
            }
        } else if (!share_kernel(model, k, arguments, index, run)) {
            break;
        }
        arguments += program->kernels[k].buffer_count;
        if (profile != NULL) {
            double after = now_s();
            profile[k] = after - before;
            before = after;
        }
    }
    shiftedge_float_leave(environment);
}

static int explain_failure(shiftedge_model *model, uint32_t failed) {
    const shiftedge_kernel *kernel = &model->program->kernels[failed - 1];
    const shiftedge_failure *first = model->failures; /* of the lowest chunk: always the same */
    while (first->code == 0) {
        first++;
    }
    int status = shiftedge_fail(SHIFTEDGE_ERROR_KERNEL,
                                "Kernel %s failed with code %d%s%s%s; the state is as it was.",
                                kernel->name, (int)first->code, first->text[0] ? " (" : "",
                                first->text, first->text[0] ? ")" : "");
    memset(model->failures, 0, sizeof model->failures);
    return status;
}

static void commit(shiftedge_model *model, shiftedge_state_header *header, float *logits) {
    const shiftedge_program *program = model->program;
    memcpy(header + 1, model->memory + model->next_state_at, (size_t)program->state_bytes);
    memcpy(logits, model->memory + model->logits_at, (size_t)program->classes * sizeof *logits);
    header->magic = SHIFTEDGE_STATE_MAGIC;
    header->version = SHIFTEDGE_STATE_VERSION;
    header->block_bytes = shiftedge_state_size();
    header->fingerprint = program->fingerprint;
}

/* With the model's turn taken and the state owned. */
static int run(shiftedge_model *model, shiftedge_state_header *header, const uint8_t *bgr,
               int32_t stride_bytes, float *logits) {
    const uint8_t *frame = pack_frame(model, bgr, stride_bytes);
    atomic_store_explicit(&model->states, (uintptr_t)(header + 1), memory_order_relaxed);
    atomic_store_explicit(&model->frame, (uintptr_t)frame, memory_order_relaxed);
    atomic_store_explicit(&model->failed, 0, memory_order_relaxed);
    shiftedge_run_kernels(model, 0, model->pool == NULL ? 0 : pool_begin(model->pool));
    uint32_t failed = atomic_load_explicit(&model->failed, memory_order_relaxed);
    if (failed != 0) {
        return explain_failure(model, failed);
    }
    commit(model, header, logits);
    return SHIFTEDGE_OK;
}

int shiftedge_step(shiftedge_model *model, void *state, const uint8_t *bgr, int32_t stride_bytes,
                   float *logits) {
    int status = check_arguments(model, state, bgr, stride_bytes, logits);
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    shiftedge_state_header *header = state;
    status = claim(header, owner_of(model, state));
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    status = check_header(header, model->program);
    if (status == SHIFTEDGE_OK) {
        /* The state first, the turn second: a second thread on one state is told at once, not
         * after it has waited. */
        pthread_mutex_lock(&model->turn);
        status = run(model, header, bgr, stride_bytes, logits);
        pthread_mutex_unlock(&model->turn);
    }
    release(header);
    return status;
}

uint32_t shiftedge_kernel_count(void) { return shiftedge_program_table.kernel_count; }

const char *shiftedge_kernel_name(uint32_t kernel) {
    const shiftedge_program *program = &shiftedge_program_table;
    return kernel < program->kernel_count ? program->kernels[kernel].name : "";
}

int shiftedge_profile(shiftedge_model *model, double *seconds) {
    if (model == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "shiftedge_profile was given no model (NULL).");
    }
    pthread_mutex_lock(&model->turn);
    model->profile = seconds;
    pthread_mutex_unlock(&model->turn);
    return SHIFTEDGE_OK;
}

/* Open, step, close: what is the same whatever runs the kernels. See executor.h. */
#define _POSIX_C_SOURCE 200809L /* getpid */

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "error.h"
#include "options.h"
#include "program.h"

struct shiftedge_model {
    const shiftedge_program *program;
    void *opened;  /* the executor's */
    pid_t process; /* that opened it */
    /* One step at a time: memory and threads are the model's. */
    pthread_mutex_t turn;
    double *profile; /* of the caller, one number a kernel; or NULL */
};

uint32_t shiftedge_abi_version(void) { return SHIFTEDGE_ABI_VERSION; }

const shiftedge_spec *shiftedge_get_spec(void) { return shiftedge_program_table.spec; }

const char *shiftedge_spec_json(void) { return shiftedge_program_table.spec_json; }

size_t shiftedge_state_size(void) {
    return sizeof(shiftedge_state_header) +
           shiftedge_round_up((size_t)shiftedge_program_table.state_bytes);
}

static int read_options(const shiftedge_options *given, shiftedge_options *options) {
    *options = (shiftedge_options){0};
    if (given == NULL) {
        return SHIFTEDGE_OK;
    }
    const size_t least = offsetof(shiftedge_options, threads) + sizeof given->threads;
    int status = shiftedge_read_options(options, sizeof *options, given, least, "shiftedge_options");
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    if (options->threads < 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "options.threads is %d; expected a number from 1, or 0 for the "
                              "default.",
                              (int)options->threads);
    }
    if (options->device < 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "options.device is %d; expected the number of a GPU, from 0.",
                              (int)options->device);
    }
    if ((options->flags & ~SHIFTEDGE_FLAG_OVERSUBSCRIBE) != 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT, "options.flags is %#x; known is %#x.",
                              (unsigned)options->flags, SHIFTEDGE_FLAG_OVERSUBSCRIBE);
    }
    return SHIFTEDGE_OK;
}

/* NULL, or what is wrong with the table. What a compiler can get wrong without a crash at build
 * time should not become one on a board. */
static const char *check_program(const shiftedge_program *program) {
    const shiftedge_spec *spec = program->spec;
    if (spec == NULL || program->spec_json == NULL || program->executor == NULL ||
        program->plan == NULL || program->fingerprint == 0 || program->kernel_count < 1 ||
        program->kernel_names == NULL) {
        return "its spec, kernels, plan or fingerprint are missing";
    }
    for (uint32_t i = 0; i < program->kernel_count; i++) {
        if (program->kernel_names[i] == NULL) {
            return "a kernel has no name";
        }
    }
    if (spec->height < 1 || spec->height > 8192 || spec->width < 1 || spec->width > 8192 ||
        spec->classes < 1 || spec->classes > 1 << 20) {
        return "its frame or its classes are out of range";
    }
    return program->state_bytes <= (uint64_t)1 << 28 ? NULL : "its state is too large";
}

int shiftedge_open(const shiftedge_options *options, shiftedge_model **model) {
    if (model == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "shiftedge_open was given no place for the model (NULL).");
    }
    *model = NULL;
    shiftedge_options settings;
    int status = read_options(options, &settings);
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    const shiftedge_program *program = &shiftedge_program_table;
    const char *wrong = check_program(program);
    if (wrong != NULL) {
        return shiftedge_fail_program(wrong);
    }
    status = program->executor->check(program);
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    shiftedge_model *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for a model.");
    }
    status = program->executor->open(program, &settings, &opened->opened);
    if (status != SHIFTEDGE_OK) {
        free(opened);
        return status;
    }
    opened->program = program;
    opened->process = getpid();
    pthread_mutex_init(&opened->turn, NULL); /* cannot fail on Linux with default attributes */
    *model = opened;
    return SHIFTEDGE_OK;
}

void shiftedge_close(shiftedge_model *model) {
    if (model == NULL) {
        return;
    }
    /* In a child the lock may be held for ever. */
    bool forked = model->process != getpid();
    model->program->executor->close(model->opened, forked);
    if (!forked) {
        pthread_mutex_destroy(&model->turn);
    }
    free(model);
}

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
    int32_t row = model->program->spec->width * 3;
    if (stride_bytes < row) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "The stride is %d bytes; a row of %d pixels has %d, so expected at "
                              "least that.",
                              (int)stride_bytes, (int)model->program->spec->width, (int)row);
    }
    return SHIFTEDGE_OK;
}

/* What was staged, over the caller's. */
static void commit(const shiftedge_program *program, const shiftedge_staged *staged,
                   shiftedge_state_header *header, float *logits) {
    memcpy(header + 1, staged->states, (size_t)program->state_bytes);
    memcpy(logits, staged->logits, (size_t)program->spec->classes * sizeof *logits);
    header->magic = SHIFTEDGE_STATE_MAGIC;
    header->version = SHIFTEDGE_STATE_VERSION;
    header->block_bytes = shiftedge_state_size();
    header->fingerprint = program->fingerprint;
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
        shiftedge_staged staged;
        shiftedge_frame frame = {bgr, stride_bytes, header + 1, NULL};
        /* The state first, the turn second: a second thread on one state is told at once, not
         * after it has waited. */
        pthread_mutex_lock(&model->turn);
        frame.profile = model->profile;
        status = model->program->executor->step(model->opened, &frame, &staged);
        if (status == SHIFTEDGE_OK) {
            commit(model->program, &staged, header, logits);
        }
        pthread_mutex_unlock(&model->turn);
    }
    release(header);
    return status;
}

uint32_t shiftedge_kernel_count(void) { return shiftedge_program_table.kernel_count; }

const char *shiftedge_kernel_name(uint32_t kernel) {
    const shiftedge_program *program = &shiftedge_program_table;
    return kernel < program->kernel_count ? program->kernel_names[kernel] : "";
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

#define _GNU_SOURCE /* sched_getaffinity */

#include "model.h"

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu.h"

/* Threads for one step where none are asked for: past four cores a frame's step gains little and
 * the rest of the board starves. */
#define THREADS_DEFAULT_MOST 4

/* No real options struct is longer: what is, was never set. */
#define OPTIONS_BYTES_MOST 4096

uint32_t shiftedge_abi_version(void) { return SHIFTEDGE_ABI_VERSION; }

const char *shiftedge_spec_json(void) { return shiftedge_program_table.spec_json; }

size_t shiftedge_state_size(void) {
    return sizeof(shiftedge_state_header) +
           shiftedge_round_up((size_t)shiftedge_program_table.state_bytes);
}

/* Cores that this process may run on. */
static int32_t usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (int32_t)CPU_COUNT(&set);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more than 1,024 cores */
    return online < 1 ? 1 : (int32_t)online;
}

/* Take what the caller's header knew; leave the rest zero. */
static int read_options(const shiftedge_options *given, shiftedge_options *options) {
    memset(options, 0, sizeof *options);
    if (given == NULL) {
        return SHIFTEDGE_OK;
    }
    uint32_t size = given->size;
    if (size < offsetof(shiftedge_options, threads) + sizeof given->threads ||
        size > OPTIONS_BYTES_MOST) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "options.size is %u; set it to sizeof(shiftedge_options), %zu.",
                              (unsigned)size, sizeof *options);
    }
    const unsigned char *bytes = (const unsigned char *)given;
    for (size_t i = sizeof *options; i < size; i++) {
        if (bytes[i] != 0) {
            return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                                  "The options ask for something that this libmodel.so does not "
                                  "know: compile the model with a newer shiftedge.");
        }
    }
    memcpy(options, given, size < sizeof *options ? size : sizeof *options);
    if (options->threads < 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "options.threads is %d; expected a number from 1, or 0 for the "
                              "default.",
                              (int)options->threads);
    }
    if ((options->flags & ~SHIFTEDGE_FLAG_OVERSUBSCRIBE) != 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT, "options.flags is %#x; known is %#x.",
                              (unsigned)options->flags, SHIFTEDGE_FLAG_OVERSUBSCRIBE);
    }
    return SHIFTEDGE_OK;
}

static int32_t choose_threads(const shiftedge_options *options, int32_t cores) {
    int32_t threads = options->threads;
    if (threads == 0) {
        threads = cores < THREADS_DEFAULT_MOST ? cores : THREADS_DEFAULT_MOST;
    }
    if (threads > cores && (options->flags & SHIFTEDGE_FLAG_OVERSUBSCRIBE) == 0) {
        threads = cores;
    }
    return threads < SHIFTEDGE_THREADS_MOST ? threads : SHIFTEDGE_THREADS_MOST;
}

/* Bytes that arguments of this kind may begin within. */
static uint64_t region_bytes(const shiftedge_program *program, uint32_t kind) {
    switch (kind) {
    case SHIFTEDGE_FRAME:
        return shiftedge_frame_bytes(program);
    case SHIFTEDGE_WEIGHTS:
        return program->weights_bytes;
    case SHIFTEDGE_STATE:
    case SHIFTEDGE_NEXT_STATE:
        return program->state_bytes;
    case SHIFTEDGE_WORKSPACE:
        return program->workspace_bytes;
    case SHIFTEDGE_LOGITS:
        return (uint64_t)program->classes * sizeof(float);
    case SHIFTEDGE_SCRATCH:
        return program->scratch_bytes;
    default:
        return 0;
    }
}

/* NULL, or what is wrong with the table. What a compiler can get wrong without a crash at build
 * time should not become one on a board. */
static const char *check_kernel(const shiftedge_program *program, const shiftedge_kernel *kernel) {
    if (kernel->name == NULL || kernel->function == NULL) {
        return "a kernel has no name or no code";
    }
    if (kernel->units < 1) {
        return "a kernel has no work units";
    }
    if (kernel->buffer_count > SHIFTEDGE_BUFFERS_MOST ||
        (kernel->buffers == NULL && kernel->buffer_count > 0)) {
        return "a kernel has too many arguments, or none where it should";
    }
    for (uint32_t i = 0; i < kernel->buffer_count; i++) {
        const shiftedge_buffer *buffer = &kernel->buffers[i];
        if (buffer->offset >= region_bytes(program, buffer->kind)) {
            return "a kernel's argument lies outside its memory";
        }
    }
    return NULL;
}

static const char *check_program(const shiftedge_program *program) {
    const uint64_t most = (uint64_t)1 << 28; /* bytes */
    const int32_t alignment = program->frame_alignment;
    if (program->abi != SHIFTEDGE_PROGRAM_ABI) {
        return "its kernel table is of another version";
    }
    if (program->frame_height < 1 || program->frame_height > 8192 || program->frame_width < 1 ||
        program->frame_width > 8192 || program->classes < 1 || program->classes > 1 << 20) {
        return "its frame or its classes are out of range";
    }
    if (alignment < 1 || alignment > 64 || (alignment & (alignment - 1)) != 0) {
        return "its frame's alignment is not a power of two up to 64";
    }
    if (program->state_bytes > most || program->workspace_bytes > most ||
        program->scratch_bytes > most / SHIFTEDGE_THREADS_MOST) {
        return "its state, workspace or scratch is too large";
    }
    if (program->spec_json == NULL || program->kernels == NULL || program->kernel_count < 1 ||
        program->fingerprint == 0 || (program->weights == NULL && program->weights_bytes > 0)) {
        return "its spec, kernels, fingerprint or weights are missing";
    }
    if ((uintptr_t)program->weights % 64 != 0) {
        return "its weights are not aligned to 64 bytes";
    }
    for (uint32_t i = 0; i < program->kernel_count; i++) {
        const char *wrong = check_kernel(program, &program->kernels[i]);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}

/* Read a byte of every page, so that the first frame need not wait for the disk. */
static void touch_weights(const shiftedge_program *program) {
    const volatile unsigned char *weights = program->weights;
    for (uint64_t i = 0; i < program->weights_bytes; i += 4096) {
        (void)weights[i];
    }
}

/* The next part of the model's memory: where it begins, in bytes. */
static size_t place(size_t *end, size_t bytes) {
    size_t begin = *end;
    *end += shiftedge_round_up(bytes);
    return begin;
}

static bool allocate(shiftedge_model *model) {
    const shiftedge_program *program = model->program;
    size_t threads = (size_t)model->threads;
    size_t end = 0;
    model->workspace_at = place(&end, (size_t)program->workspace_bytes);
    model->next_state_at = place(&end, (size_t)program->state_bytes);
    model->logits_at = place(&end, (size_t)program->classes * sizeof(float));
    model->frame_at = place(&end, shiftedge_frame_bytes(program));
    end += SHIFTEDGE_APART;
    model->scratch_stride = shiftedge_round_up((size_t)program->scratch_bytes) + SHIFTEDGE_APART;
    model->scratch_at = place(&end, model->scratch_stride * threads);
    model->memory = aligned_alloc(64, end);

    size_t count = SHIFTEDGE_APART / sizeof(void *);
    for (uint32_t i = 0; i < program->kernel_count; i++) {
        count += program->kernels[i].buffer_count;
    }
    model->argument_stride = count;
    model->arguments = calloc(count * threads, sizeof *model->arguments);
    if (model->memory == NULL || model->arguments == NULL) {
        return false;
    }
    /* Touches every page, and keeps the padding between states 0 for ever. */
    memset(model->memory, 0, end);
    return true;
}

static void release(shiftedge_model *model) {
    free(model->items);
    free(model->arguments);
    free(model->memory);
    free(model);
}

static int start_threads(shiftedge_model *model, int32_t cores) {
    if (model->threads > 1) {
        bool out_of_memory;
        model->items = calloc(model->program->kernel_count, sizeof *model->items);
        if (model->items == NULL) {
            return shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for threads.");
        }
        model->pool = pool_open(model->threads, model->threads <= cores, shiftedge_run_kernels,
                                model, &out_of_memory);
        if (model->pool == NULL) {
            return out_of_memory
                       ? shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for threads.")
                       : shiftedge_fail(SHIFTEDGE_ERROR_THREADS,
                                        "The system gives no %d threads (see ulimit -u); open the "
                                        "model with fewer.",
                                        (int)model->threads);
        }
    }
    pthread_mutex_init(&model->turn, NULL); /* cannot fail on Linux with default attributes */
    return SHIFTEDGE_OK;
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
        return shiftedge_fail(SHIFTEDGE_ERROR_PROGRAM,
                              "This libmodel.so is not right (%s): compile the model again.", wrong);
    }
    status = shiftedge_check_cpu(program->cpu_features);
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    shiftedge_model *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for a model.");
    }
    int32_t cores = usable_cores();
    opened->program = program;
    opened->process = getpid();
    opened->threads = choose_threads(&settings, cores);
    if (!allocate(opened)) {
        release(opened);
        return shiftedge_fail(SHIFTEDGE_ERROR_MEMORY,
                              "There is no memory for the workspace of %llu bytes.",
                              (unsigned long long)program->workspace_bytes);
    }
    status = start_threads(opened, cores);
    if (status != SHIFTEDGE_OK) {
        release(opened);
        return status;
    }
    touch_weights(program);
    *model = opened;
    return SHIFTEDGE_OK;
}

void shiftedge_close(shiftedge_model *model) {
    if (model == NULL) {
        return;
    }
    if (model->process != getpid()) {
        /* The parent's threads are not here, and its lock may be held for ever. */
        if (model->pool != NULL) {
            pool_abandon(model->pool);
        }
        release(model);
        return;
    }
    if (model->pool != NULL) {
        pool_close(model->pool);
    }
    pthread_mutex_destroy(&model->turn);
    release(model);
}

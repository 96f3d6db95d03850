#define _GNU_SOURCE /* sched_getaffinity */

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu.h"
#include "error.h"
#include "cpu_features.h"

/* Threads for one step where none are asked for: past four cores a frame's step gains little and
 * the rest of the board starves. */
#define THREADS_DEFAULT_MOST 4

/* Cores that this process may run on. */
static int32_t usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (int32_t)CPU_COUNT(&set);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more than 1,024 cores */
    return online < 1 ? 1 : (int32_t)online;
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

static const char *check_kernel(const shiftedge_program *program, const shiftedge_kernel *kernel) {
    if (kernel->function == NULL) {
        return "a kernel has no code";
    }
    if (kernel->units < 1) {
        return "a kernel has no work units";
    }
    if (kernel->buffer_count > SHIFTEDGE_BUFFERS_MOST ||
        (kernel->buffers == NULL && kernel->buffer_count > 0)) {
        return "a kernel has too many arguments, or none where it should";
    }
    const shiftedge_cpu_plan *plan = program->plan;
    const shiftedge_buffer_sizes sizes = {plan->weights_bytes, plan->workspace_bytes,
                                          plan->scratch_bytes};
    return shiftedge_check_buffers(program, &sizes, kernel->buffers, kernel->buffer_count);
}

/* NULL, or what is wrong with the plan. */
static const char *check_plan(const shiftedge_program *program) {
    const shiftedge_cpu_plan *plan = program->plan;
    const uint64_t most = (uint64_t)1 << 28; /* bytes */
    const int32_t alignment = plan->frame_alignment;
    if (alignment < 1 || alignment > 64 || (alignment & (alignment - 1)) != 0) {
        return "its frame's alignment is not a power of two up to 64";
    }
    if (plan->workspace_bytes > most || plan->scratch_bytes > most / SHIFTEDGE_THREADS_MOST) {
        return "its workspace or scratch is too large";
    }
    if (plan->kernels == NULL || (plan->weights == NULL && plan->weights_bytes > 0)) {
        return "its kernels or weights are missing";
    }
    if ((uintptr_t)plan->weights % 64 != 0) {
        return "its weights are not aligned to 64 bytes";
    }
    for (uint32_t i = 0; i < program->kernel_count; i++) {
        const char *wrong = check_kernel(program, &plan->kernels[i]);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}

static int check(const shiftedge_program *program) {
    const shiftedge_cpu_plan *plan = program->plan;
    const char *wrong = check_plan(program);
    return wrong != NULL ? shiftedge_fail_program(wrong) : shiftedge_check_cpu(plan->cpu_features);
}

/* Read a byte of every page, so that the first frame need not wait for the disk. */
static void touch_weights(const shiftedge_cpu_plan *plan) {
    const volatile unsigned char *weights = plan->weights;
    for (uint64_t i = 0; i < plan->weights_bytes; i += 4096) {
        (void)weights[i];
    }
}

/* The next part of the model's memory: where it begins, in bytes. */
static size_t place(size_t *end, size_t bytes) {
    size_t begin = *end;
    *end += shiftedge_round_up(bytes);
    return begin;
}

static bool allocate(shiftedge_cpu *cpu) {
    const shiftedge_program *program = cpu->program;
    const shiftedge_cpu_plan *plan = cpu->plan;
    size_t threads = (size_t)cpu->threads;
    size_t end = 0;
    cpu->workspace_at = place(&end, (size_t)plan->workspace_bytes);
    cpu->next_state_at = place(&end, (size_t)program->state_bytes);
    cpu->logits_at = place(&end, (size_t)program->spec->classes * sizeof(float));
    cpu->frame_at = place(&end, shiftedge_frame_bytes(program));
    end += SHIFTEDGE_APART;
    cpu->scratch_stride = shiftedge_round_up((size_t)plan->scratch_bytes) + SHIFTEDGE_APART;
    cpu->scratch_at = place(&end, cpu->scratch_stride * threads);
    cpu->memory = aligned_alloc(64, end);

    size_t count = SHIFTEDGE_APART / sizeof(void *);
    for (uint32_t i = 0; i < program->kernel_count; i++) {
        count += plan->kernels[i].buffer_count;
    }
    cpu->argument_stride = count;
    cpu->arguments = calloc(count * threads, sizeof *cpu->arguments);
    if (cpu->memory == NULL || cpu->arguments == NULL) {
        return false;
    }
    /* Touches every page, and keeps the padding between states 0 for ever. */
    memset(cpu->memory, 0, end);
    return true;
}

static void release(shiftedge_cpu *cpu) {
    free(cpu->items);
    free(cpu->arguments);
    free(cpu->memory);
    free(cpu);
}

static int start_threads(shiftedge_cpu *cpu, int32_t cores) {
    if (cpu->threads == 1) {
        return SHIFTEDGE_OK;
    }
    bool out_of_memory = true;
    cpu->items = calloc(cpu->program->kernel_count, sizeof *cpu->items);
    if (cpu->items != NULL) {
        cpu->pool = pool_open(cpu->threads, cpu->threads <= cores, shiftedge_run_kernels, cpu,
                              &out_of_memory);
    }
    if (cpu->pool != NULL) {
        return SHIFTEDGE_OK;
    }
    return out_of_memory ? shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for threads.")
                         : shiftedge_fail(SHIFTEDGE_ERROR_THREADS,
                                          "The system gives no %d threads (see ulimit -u); open the "
                                          "model with fewer.",
                                          (int)cpu->threads);
}

static int open_cpu(const shiftedge_program *program, const shiftedge_options *options,
                    void **opened) {
    if (options->device != 0) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "options.device is %d, and this library runs on the processor: leave "
                              "it 0, or open the bundle's library for GPUs.",
                              (int)options->device);
    }
    shiftedge_cpu *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for a model.");
    }
    int32_t cores = usable_cores();
    int status = SHIFTEDGE_OK;
    cpu->program = program;
    cpu->plan = program->plan;
    cpu->threads = choose_threads(options, cores);
    if (!allocate(cpu)) {
        status = shiftedge_fail(SHIFTEDGE_ERROR_MEMORY,
                                "There is no memory for the workspace of %llu bytes.",
                                (unsigned long long)cpu->plan->workspace_bytes);
    } else {
        status = start_threads(cpu, cores);
    }
    if (status != SHIFTEDGE_OK) {
        release(cpu);
        return status;
    }
    touch_weights(cpu->plan);
    *opened = cpu;
    return SHIFTEDGE_OK;
}

static void close_cpu(void *opened, bool forked) {
    shiftedge_cpu *cpu = opened;
    if (cpu->pool != NULL) {
        (forked ? pool_abandon : pool_close)(cpu->pool);
    }
    release(cpu);
}

const shiftedge_executor shiftedge_cpu_executor = {check, open_cpu, shiftedge_cpu_step, close_cpu};

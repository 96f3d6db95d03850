#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "gpu.h"

#define JIT_LOG_BYTES 4096
#define OTHERWISE "run the model on the processor (device cpu)."

static const char *check_launch(const shiftedge_program *program,
                                const shiftedge_cuda_launch *launch) {
    if (launch->function == NULL) {
        return "a kernel has no code";
    }
    if (launch->blocks < 1 || launch->blocks > INT32_MAX || launch->threads < 1 ||
        launch->threads > 1024) {
        return "a kernel has too few or too many blocks or threads";
    }
    if (launch->buffers == NULL || launch->buffer_count < 1 ||
        launch->buffer_count > SHIFTEDGE_CUDA_BUFFERS_MOST) {
        return "a kernel has too many arguments, or none where it should";
    }
    const shiftedge_cuda_plan *plan = program->plan;
    const shiftedge_buffer_sizes sizes = {plan->weights_bytes, plan->workspace_bytes, 0};
    return shiftedge_check_buffers(program, &sizes, launch->buffers, launch->buffer_count);
}

/* NULL, or what is wrong with the plan. */
static const char *check_plan(const shiftedge_program *program) {
    const shiftedge_cuda_plan *plan = program->plan;
    const uint64_t most = (uint64_t)1 << 31; /* bytes */
    if (plan->launches == NULL || plan->text == NULL ||
        (plan->weights == NULL && plan->weights_bytes > 0)) {
        return "its kernels or weights are missing";
    }
    if (plan->workspace_bytes > most || plan->weights_bytes > most) {
        return "its workspace or weights are too large";
    }
    for (uint32_t i = 0; i < program->kernel_count; i++) {
        const char *wrong = check_launch(program, &plan->launches[i]);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}

static int check(const shiftedge_program *program) {
    const shiftedge_cuda_plan *plan = program->plan;
    const cuda_driver *driver = NULL;
    int version = 0;
    const char *wrong = check_plan(program);
    if (wrong != NULL) {
        return shiftedge_fail_program(wrong);
    }
    int status = cuda_load(&driver);
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    int error = driver->driver_version(&version);
    if (error != CUDA_OK) {
        return cuda_fail(driver, error, "does not tell its driver's version", "; " OTHERWISE);
    }
    if (version < plan->driver) {
        return shiftedge_fail(SHIFTEDGE_ERROR_DEVICE,
                              "The NVIDIA driver of this system is of CUDA %d.%d, and the model needs "
                              "one of %d.%d or newer: update the driver (on a Jetson its JetPack), or "
                              OTHERWISE, version / 1000, version % 1000 / 10, plan->driver / 1000,
                              plan->driver % 1000 / 10);
    }
    return SHIFTEDGE_OK;
}

/* The device that is asked for, if it can run the plan's code. */
static int choose_device(shiftedge_gpu *gpu, int32_t number) {
    const cuda_driver *driver = gpu->driver;
    int count = 0, major = 0, minor = 0;
    char name[128] = "";
    int error = driver->device_count(&count);
    if (error == CUDA_OK && number >= count) {
        return shiftedge_fail(SHIFTEDGE_ERROR_DEVICE,
                              count == 0 ? "The NVIDIA driver of this system finds no GPU: " OTHERWISE
                                         : "There is no GPU %d, of the %d that are counted from 0: "
                                           "name another, or " OTHERWISE,
                              (int)number, count);
    }
    error = error == CUDA_OK ? driver->device_get(&gpu->device, number) : error;
    if (error == CUDA_OK) {
        error = driver->device_attribute(&major, CUDA_CAPABILITY_MAJOR, gpu->device);
    }
    if (error == CUDA_OK) {
        error = driver->device_attribute(&minor, CUDA_CAPABILITY_MINOR, gpu->device);
    }
    if (error != CUDA_OK) {
        return cuda_fail(driver, error, "does not answer", "; " OTHERWISE);
    }
    if (10 * major + minor < gpu->plan->capability) {
        (void)driver->device_name(name, sizeof name - 1, gpu->device);
        return shiftedge_fail(SHIFTEDGE_ERROR_DEVICE,
                              "GPU %d, %s, has the compute capability %d.%d, and the model was "
                              "compiled for %d.%d or higher: compile it for this GPU, or " OTHERWISE,
                              (int)number, name, major, minor, (int)gpu->plan->capability / 10,
                              (int)gpu->plan->capability % 10);
    }
    return SHIFTEDGE_OK;
}

/* The next part of a memory: where it begins, in bytes. */
static size_t place(size_t *end, size_t bytes) {
    size_t begin = *end;
    *end += shiftedge_round_up(bytes);
    return begin;
}

static int allocate(shiftedge_gpu *gpu) {
    const shiftedge_program *program = gpu->program;
    const cuda_driver *driver = gpu->driver;
    size_t states = (size_t)program->state_bytes;
    (void)place(&gpu->up_bytes, states);
    gpu->frame_at = place(&gpu->up_bytes, shiftedge_frame_bytes(program));
    (void)place(&gpu->down_bytes, states);
    gpu->logits_at = place(&gpu->down_bytes, (size_t)program->spec->classes * sizeof(float));
    gpu->host_down = gpu->up_bytes;
    const struct {
        cuda_address *to;
        uint64_t bytes;
    } wanted[] = {
        {&gpu->weights, gpu->plan->weights_bytes},
        {&gpu->workspace, gpu->plan->workspace_bytes},
        {&gpu->up, gpu->up_bytes},
        {&gpu->down, gpu->down_bytes},
    };
    int error = CUDA_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && error == CUDA_OK; i++) {
        error = wanted[i].bytes > 0 ? driver->allocate(wanted[i].to, (size_t)wanted[i].bytes) : error;
    }
    void *host = NULL;
    if (error == CUDA_OK) {
        error = driver->host_allocate(&host, gpu->up_bytes + gpu->down_bytes);
    }
    if (error != CUDA_OK) {
        char what[96];
        (void)snprintf(what, sizeof what, "has no room for a model of %llu bytes",
                       (unsigned long long)(gpu->plan->weights_bytes + gpu->plan->workspace_bytes +
                                            gpu->up_bytes + gpu->down_bytes));
        return cuda_fail(driver, error, what, "; close what else uses it, or " OTHERWISE);
    }
    gpu->host = host;
    memset(gpu->host, 0, gpu->up_bytes + gpu->down_bytes);
    return SHIFTEDGE_OK;
}

/* Weights up; and zeros, which the padding between states keeps for ever. */
static int upload(shiftedge_gpu *gpu) {
    const cuda_driver *driver = gpu->driver;
    int error = driver->stream_create(&gpu->stream, CUDA_STREAM_NON_BLOCKING);
    if (error == CUDA_OK && gpu->plan->weights_bytes > 0) {
        error = driver->up(gpu->weights, gpu->plan->weights, (size_t)gpu->plan->weights_bytes,
                           gpu->stream);
    }
    if (error == CUDA_OK) {
        error = driver->fill(gpu->down, 0, gpu->down_bytes, gpu->stream);
    }
    if (error == CUDA_OK) {
        error = driver->stream_wait(gpu->stream);
    }
    return error == CUDA_OK ? SHIFTEDGE_OK
                            : cuda_fail(driver, error, "does not take the model's weights", "; " OTHERWISE);
}

/* The driver compiles the text for the device; what it said of it, in one line. */
static int load_code(shiftedge_gpu *gpu) {
    const cuda_driver *driver = gpu->driver;
    char log[JIT_LOG_BYTES] = "", then[JIT_LOG_BYTES / 16 + 64];
    int names[] = {CUDA_JIT_ERROR_LOG, CUDA_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(uintptr_t)(sizeof log - 1)};
    int error = driver->module_load(&gpu->module, gpu->plan->text, 2, names, values);
    if (error != CUDA_OK) {
        gpu->module = NULL;
        char *line = log + strspn(log, " \t\r\n");
        line[strcspn(line, "\r\n")] = '\0';
        (void)snprintf(then, sizeof then, *line != '\0' ? "; its compiler says: %.200s"
                                                           : "; update its driver.%s", line);
        return cuda_fail(driver, error, "does not take the model's code", then);
    }
    for (uint32_t k = 0; k < gpu->program->kernel_count; k++) {
        const char *function = gpu->plan->launches[k].function;
        error = driver->module_function(&gpu->functions[k], gpu->module, function);
        if (error != CUDA_OK) {
            (void)snprintf(then, sizeof then, ": the kernel %.100s; compile the model again.",
                           function);
            return cuda_fail(driver, error, "finds no kernel", then);
        }
    }
    return SHIFTEDGE_OK;
}

/* The arguments of all launches: addresses, which stay what they are. */
static void fill_arguments(shiftedge_gpu *gpu) {
    const cuda_address bases[] = {
        [SHIFTEDGE_FRAME] = gpu->up + gpu->frame_at, [SHIFTEDGE_WEIGHTS] = gpu->weights,
        [SHIFTEDGE_STATE] = gpu->up,                 [SHIFTEDGE_NEXT_STATE] = gpu->down,
        [SHIFTEDGE_WORKSPACE] = gpu->workspace,      [SHIFTEDGE_LOGITS] = gpu->down + gpu->logits_at,
    };
    size_t next = 0;
    for (uint32_t k = 0; k < gpu->program->kernel_count; k++) {
        const shiftedge_cuda_launch *launch = &gpu->plan->launches[k];
        for (uint32_t i = 0; i < launch->buffer_count; i++, next++) {
            gpu->addresses[next] = bases[launch->buffers[i].kind] + launch->buffers[i].offset;
            gpu->arguments[next] = &gpu->addresses[next];
        }
    }
}

/* What was had goes back, in the other order; errors of a device that is gone are nobody's. */
static void release(shiftedge_gpu *gpu, bool forked) {
    const cuda_driver *driver = gpu->driver;
    cuda_context *before = NULL;
    /* In a child the device is the parent's, and so is all that lies there. */
    if (gpu->context != NULL && !forked) {
        bool current = driver->context_push(gpu->context) == CUDA_OK;
        for (uint32_t i = 0; gpu->events != NULL && i <= gpu->program->kernel_count; i++) {
            if (gpu->events[i] != NULL) {
                (void)driver->event_destroy(gpu->events[i]);
            }
        }
        if (gpu->graph != NULL) {
            (void)driver->graph_exec_destroy(gpu->graph);
        }
        if (gpu->module != NULL) {
            (void)driver->module_unload(gpu->module);
        }
        if (gpu->stream != NULL) {
            (void)driver->stream_destroy(gpu->stream);
        }
        if (gpu->host != NULL) {
            (void)driver->host_free(gpu->host);
        }
        const cuda_address had[] = {gpu->down, gpu->up, gpu->workspace, gpu->weights};
        for (size_t i = 0; i < sizeof had / sizeof *had; i++) {
            if (had[i] != 0) {
                (void)driver->free(had[i]);
            }
        }
        if (current) {
            (void)driver->context_pop(&before);
        }
        (void)driver->context_release(gpu->device);
    }
    free(gpu->events);
    free(gpu->arguments);
    free(gpu->addresses);
    free(gpu->functions);
    free(gpu);
}

/* A step of zeros, its parts one by one: what is loaded late by the driver is loaded before anything is
 * recorded, and a device that cannot run the code is found out while there is another choice. */
static int try_once(const shiftedge_gpu *gpu) {
    int error = gpu_enqueue(gpu, NULL);
    int waited = gpu->driver->stream_wait(gpu->stream);
    error = error == CUDA_OK ? waited : error;
    return error == CUDA_OK ? SHIFTEDGE_OK
                            : cuda_fail(gpu->driver, error, "failed in a first step", "; " OTHERWISE);
}

/* All that takes the device's context to be current. */
static int prepare(shiftedge_gpu *gpu) {
    int status = allocate(gpu);
    if (status == SHIFTEDGE_OK) {
        status = load_code(gpu);
    }
    if (status == SHIFTEDGE_OK) {
        status = upload(gpu);
    }
    if (status == SHIFTEDGE_OK) {
        fill_arguments(gpu);
        status = try_once(gpu);
    }
    if (status == SHIFTEDGE_OK) {
        gpu_record(gpu);
    }
    return status;
}

static int start(shiftedge_gpu *gpu, int32_t device) {
    const cuda_driver *driver = gpu->driver;
    cuda_context *before = NULL;
    int status = choose_device(gpu, device);
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    int error = driver->context_retain(&gpu->context, gpu->device);
    if (error != CUDA_OK) {
        gpu->context = NULL;
        return cuda_fail(driver, error, "does not open", "; " OTHERWISE);
    }
    error = driver->context_push(gpu->context);
    if (error != CUDA_OK) {
        return cuda_fail(driver, error, "does not open", "; " OTHERWISE);
    }
    status = prepare(gpu);
    (void)driver->context_pop(&before);
    return status;
}

static int open_gpu(const shiftedge_program *program, const shiftedge_options *options,
                    void **opened) {
    shiftedge_gpu *gpu = calloc(1, sizeof *gpu);
    if (gpu == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for a model.");
    }
    size_t count = 0;
    gpu->program = program;
    gpu->plan = program->plan;
    for (uint32_t k = 0; k < program->kernel_count; k++) {
        count += gpu->plan->launches[k].buffer_count;
    }
    gpu->functions = calloc(program->kernel_count, sizeof *gpu->functions);
    gpu->addresses = calloc(count, sizeof *gpu->addresses);
    gpu->arguments = calloc(count, sizeof *gpu->arguments);
    int status = SHIFTEDGE_OK;
    if (gpu->functions == NULL || gpu->addresses == NULL || gpu->arguments == NULL) {
        status = shiftedge_fail(SHIFTEDGE_ERROR_MEMORY, "There is no memory for a model.");
    } else {
        status = cuda_load(&gpu->driver);
    }
    if (status == SHIFTEDGE_OK) {
        status = start(gpu, options->device);
    }
    if (status != SHIFTEDGE_OK) {
        release(gpu, false);
        return status;
    }
    *opened = gpu;
    return SHIFTEDGE_OK;
}

static void close_gpu(void *opened, bool forked) { release(opened, forked); }

const shiftedge_executor shiftedge_cuda_executor = {check, open_gpu, gpu_step, close_gpu};

/* One frame on a GPU: up, the launches, down. Allocates nothing, but for the first profiled step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "gpu.h"

int gpu_enqueue(const shiftedge_gpu *gpu, cuda_event *const *events) {
    const cuda_driver *driver = gpu->driver;
    void **arguments = gpu->arguments;
    int error = driver->up(gpu->up, gpu->host, gpu->up_bytes, gpu->stream);
    if (error == CUDA_OK && events != NULL) {
        error = driver->event_record(events[0], gpu->stream);
    }
    for (uint32_t k = 0; k < gpu->program->kernel_count && error == CUDA_OK; k++) {
        const shiftedge_cuda_launch *launch = &gpu->plan->launches[k];
        error = driver->launch(gpu->functions[k], launch->blocks, 1, 1, launch->threads, 1, 1, 0,
                               gpu->stream, arguments, NULL);
        arguments += launch->buffer_count;
        if (error == CUDA_OK && events != NULL) {
            error = driver->event_record(events[k + 1], gpu->stream);
        }
    }
    if (error == CUDA_OK) {
        error = driver->down(gpu->host + gpu->host_down, gpu->down, gpu->down_bytes, gpu->stream);
    }
    return error;
}

static int begin_capture(const shiftedge_gpu *gpu) {
    const cuda_driver *driver = gpu->driver;
    return driver->capture_begin != NULL
               ? driver->capture_begin(gpu->stream, CUDA_CAPTURE_OF_THIS_THREAD)
               : driver->capture_begin_10_0(gpu->stream);
}

static int make_graph(shiftedge_gpu *gpu, cuda_graph *graph) {
    const cuda_driver *driver = gpu->driver;
    return driver->graph_make != NULL ? driver->graph_make(&gpu->graph, graph, 0)
                                      : driver->graph_make_10_0(&gpu->graph, graph, NULL, NULL, 0);
}

void gpu_record(shiftedge_gpu *gpu) {
    const cuda_driver *driver = gpu->driver;
    cuda_graph *graph = NULL;
    bool begins = driver->capture_begin != NULL || driver->capture_begin_10_0 != NULL;
    bool makes = driver->graph_make != NULL || driver->graph_make_10_0 != NULL;
    if (!begins || !makes || driver->capture_end == NULL || driver->graph_launch == NULL ||
        driver->graph_exec_destroy == NULL || driver->graph_destroy == NULL) {
        return;
    }
    if (begin_capture(gpu) != CUDA_OK) {
        return;
    }
    int error = gpu_enqueue(gpu, NULL);
    int ended = driver->capture_end(gpu->stream, &graph); /* whatever came before, or nothing runs */
    if (error == CUDA_OK && ended == CUDA_OK && make_graph(gpu, graph) != CUDA_OK) {
        gpu->graph = NULL;
    }
    if (ended == CUDA_OK && graph != NULL) {
        (void)driver->graph_destroy(graph);
    }
}

/* Frame and states, where the device reaches them. */
static void stage(shiftedge_gpu *gpu, const shiftedge_frame *frame) {
    size_t row = (size_t)gpu->program->spec->width * 3;
    unsigned char *packed = gpu->host + gpu->frame_at;
    memcpy(gpu->host, frame->states, (size_t)gpu->program->state_bytes);
    if ((size_t)frame->stride_bytes == row) {
        memcpy(packed, frame->bgr, shiftedge_frame_bytes(gpu->program));
        return;
    }
    for (size_t y = 0; y < (size_t)gpu->program->spec->height; y++) {
        memcpy(packed + y * row, frame->bgr + y * (size_t)frame->stride_bytes, row);
    }
}

static int make_events(shiftedge_gpu *gpu) {
    uint32_t count = gpu->program->kernel_count + 1;
    if (gpu->events == NULL) {
        gpu->events = calloc(count, sizeof *gpu->events);
    }
    int error = gpu->events != NULL ? CUDA_OK : CUDA_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < count && error == CUDA_OK; i++) {
        if (gpu->events[i] == NULL) {
            error = gpu->driver->event_create(&gpu->events[i], CUDA_EVENT_DEFAULT);
        }
    }
    return error;
}

static int read_events(const shiftedge_gpu *gpu, double *seconds) {
    int error = CUDA_OK;
    for (uint32_t k = 0; k < gpu->program->kernel_count && error == CUDA_OK; k++) {
        float ms = 0;
        error = gpu->driver->event_ms(&ms, gpu->events[k], gpu->events[k + 1]);
        seconds[k] = 1e-3 * (double)ms;
    }
    return error;
}

/* A CUresult. The stream is waited for whatever happened: nothing of this step may still run when the
 * next is staged. */
static int run(shiftedge_gpu *gpu, double *profile) {
    const cuda_driver *driver = gpu->driver;
    int error = CUDA_OK;
    if (profile != NULL) {
        error = make_events(gpu);
        error = error == CUDA_OK ? gpu_enqueue(gpu, gpu->events) : error;
    } else {
        error = gpu->graph != NULL ? driver->graph_launch(gpu->graph, gpu->stream)
                                   : gpu_enqueue(gpu, NULL);
    }
    int waited = driver->stream_wait(gpu->stream);
    error = error == CUDA_OK ? waited : error;
    return error == CUDA_OK && profile != NULL ? read_events(gpu, profile) : error;
}

int gpu_step(void *opened, const shiftedge_frame *frame, shiftedge_staged *staged) {
    shiftedge_gpu *gpu = opened;
    if (gpu->ended) {
        return shiftedge_fail(SHIFTEDGE_ERROR_DEVICE, "%s", gpu->why);
    }
    cuda_context *before = NULL;
    int error = gpu->driver->context_push(gpu->context);
    if (error == CUDA_OK) {
        stage(gpu, frame);
        error = run(gpu, frame->profile);
        (void)gpu->driver->context_pop(&before);
    }
    if (error != CUDA_OK) {
        /* What a kernel did wrong, or a device that is gone, is answered by every later call too. */
        int status = cuda_fail(gpu->driver, error, "failed in a step",
                               "; the state is as it was. This model takes no more steps: open it "
                               "anew, which may take a new process, or run it on the processor.");
        gpu->ended = true;
        (void)snprintf(gpu->why, sizeof gpu->why, "%s", shiftedge_last_error());
        return status;
    }
    staged->states = gpu->host + gpu->host_down;
    staged->logits = (const float *)(const void *)(gpu->host + gpu->host_down + gpu->logits_at);
    return SHIFTEDGE_OK;
}

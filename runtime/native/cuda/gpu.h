/* What open.c builds and step.c runs. */
#ifndef SHIFTEDGE_GPU_H
#define SHIFTEDGE_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda.h"
#include "launches.h"
#include "program.h"

typedef struct shiftedge_gpu {
    const shiftedge_program *program;
    const shiftedge_cuda_plan *plan;
    const cuda_driver *driver;
    int device;
    cuda_context *context; /* the device's primary one, which the process shares; NULL: not held */
    cuda_module *module;
    cuda_stream *stream;

    /* Of the device: what goes up (states, frame), what comes down (next states, logits), in one copy
     * each. 0: not had. */
    cuda_address weights, workspace, up, down;
    size_t frame_at, up_bytes; /* in `up`, behind the states */
    size_t logits_at, down_bytes;
    /* Of the host, where the device can reach it itself: the same two, `down` behind `up`. */
    unsigned char *host;
    size_t host_down;

    cuda_function **functions; /* one a launch */
    cuda_address *addresses;   /* the arguments of all launches, one after another */
    void **arguments;          /* where each of those stands */
    cuda_graph_exec *graph;    /* the step, recorded; NULL: its parts are launched one by one */
    cuda_event **events;       /* kernel_count + 1, made by the first step that is profiled; or NULL */

    bool ended; /* by a failure, whose sentence is kept */
    char why[512];
} shiftedge_gpu;

/* Put a step's copies and launches into the stream; with `events`, one before the first launch and one
 * behind each. Returns a CUresult. */
int gpu_enqueue(const shiftedge_gpu *gpu, cuda_event *const *events);

/* Record the step as a graph, where driver and device can. Otherwise `gpu->graph` stays NULL. */
void gpu_record(shiftedge_gpu *gpu);

/* shiftedge_executor.step. */
int gpu_step(void *gpu, const shiftedge_frame *frame, shiftedge_staged *staged);

#endif

/* A camera's frames with their times in, steps and events out, in the order of
 * shiftedge/runtime/live.py: clock, fit, cut, step, decode. */
#ifndef RUNNER_LIVE_H
#define RUNNER_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "cuts.h"
#include "decode.h"
#include "failure.h"
#include "fit.h"
#include "library.h"
#include "spec.h"

typedef struct live {
    library library;
    spec spec;
    fit fit;
    frame_clock clock;
    cut_detector cuts;
    decoder decoder;
    float *logits; /* one for each label */
} live;

/* What one camera frame led to. */
typedef struct live_result {
    int64_t steps; /* 0: the frame was skipped; otherwise live.logits are those of the last step */
    reset_reason reset;
    bool has_event;
    gesture_event event;
    double step_s; /* seconds inside the model, all steps together */
} live_result;

/* Open a model (see library_open) for frames of `video`. On failure there is nothing to close. */
bool live_open(live *live, const char *model, int threads, const video *video, failure *failure);

/* Take the camera's next frame, of video_frame_bytes(). Allocates nothing. */
bool live_feed(live *live, const uint8_t *frame, double time_s, live_result *result,
               failure *failure);

void live_close(live *live);

#endif

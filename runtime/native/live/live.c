#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "live.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "cuts.h"
#include "decode.h"
#include "error.h"
#include "fit.h"
#include "options.h"
#include "video.h"

struct shiftedge_live {
    shiftedge_model *model;
    const shiftedge_spec *spec;
    void *state;
    float *logits; /* one for each label */
    size_t frame_bytes;
    fit fit;
    frame_clock clock;
    bool one_scene;
    cut_detector cuts;
    decoder decoder;
    shiftedge_event event;
    shiftedge_live_result result;
};

static int bad(const char *what, long value, const char *expected) {
    return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT, "options.%s is %ld; expected %s.", what, value,
                          expected);
}

static int read_video(const shiftedge_live_options *options, video *video) {
    *video = (struct video){
        .width = options->width,
        .height = options->height,
        .format = (shiftedge_format)options->format,
        .full_range = (options->flags & SHIFTEDGE_LIVE_FULL_RANGE) != 0,
        .stride = options->stride_bytes,
    };
    if (options->format >= VIDEO_FORMATS) {
        return bad("format", (long)options->format, "a shiftedge_format");
    }
    if ((options->flags & ~(SHIFTEDGE_LIVE_FULL_RANGE | SHIFTEDGE_LIVE_ONE_SCENE)) != 0) {
        return bad("flags", (long)options->flags, "SHIFTEDGE_LIVE_...");
    }
    bool subsampled = video_subsampled(video->format);
    const char *sides = subsampled ? "even pixels from 2 to 16384" : "pixels from 1 to 16384";
    if (video->width < 1 || video->width > VIDEO_SIDE_MOST || (subsampled && video->width % 2)) {
        return bad("width", video->width, sides);
    }
    if (video->height < 1 || video->height > VIDEO_SIDE_MOST || (subsampled && video->height % 2)) {
        return bad("height", video->height, sides);
    }
    if (video->full_range && !subsampled) {
        return bad("flags", (long)options->flags, "no SHIFTEDGE_LIVE_FULL_RANGE but for YUV");
    }
    int stride = video->stride;
    if (stride != 0 && (stride < (int)video_row_bytes(video) || stride > VIDEO_STRIDE_MOST ||
                        (subsampled && stride % 2))) {
        return bad("stride_bytes", stride,
                   "0, or the bytes of a row to 131072, for YUV an even number");
    }
    return SHIFTEDGE_OK;
}

static void empty(shiftedge_live *live) {
    memset(live->state, 0, shiftedge_state_size());
    decode_reset(&live->decoder);
    cuts_reset(&live->cuts);
}

void shiftedge_live_reset(shiftedge_live *live) {
    if (live != NULL) {
        clock_reset(&live->clock);
        empty(live);
    }
}

static bool allocate(shiftedge_live *live, const video *video) {
    const shiftedge_spec *spec = live->spec;
    live->state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
    live->logits = malloc((size_t)spec->classes * sizeof *live->logits);
    return live->state != NULL && live->logits != NULL &&
           fit_open(&live->fit, video, spec->height, spec->width, spec->resize_short_side) &&
           decode_open(&live->decoder, spec);
}

int shiftedge_live_open(shiftedge_model *model, const shiftedge_live_options *options,
                        shiftedge_live **live) {
    shiftedge_live_options settings;
    video video;
    if (live != NULL) {
        *live = NULL;
    }
    if (model == NULL || options == NULL || live == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "shiftedge_live_open was given no %s (NULL).",
                              model == NULL     ? "model"
                              : options == NULL ? "options"
                                                : "place for the stream");
    }
    int status = shiftedge_read_options(&settings, sizeof settings, options, sizeof settings,
                                        "shiftedge_live_options");
    if (status == SHIFTEDGE_OK) {
        status = read_video(&settings, &video);
    }
    if (status != SHIFTEDGE_OK) {
        return status;
    }
    shiftedge_live *opened = calloc(1, sizeof *opened);
    if (opened != NULL) {
        opened->model = model;
        opened->spec = shiftedge_get_spec();
        opened->frame_bytes = video_frame_bytes(&video);
        opened->one_scene = (settings.flags & SHIFTEDGE_LIVE_ONE_SCENE) != 0;
    }
    if (opened == NULL || !allocate(opened, &video)) {
        shiftedge_live_close(opened);
        return shiftedge_fail(SHIFTEDGE_ERROR_MEMORY,
                              "There is no memory left for a stream of frames of %dx%d.",
                              video.width, video.height);
    }
    clock_open(&opened->clock, opened->spec->frame_rate_hz, opened->spec->max_gap_s);
    cuts_open(&opened->cuts, opened->spec->height, opened->spec->width);
    empty(opened);
    *live = opened;
    return SHIFTEDGE_OK;
}

size_t shiftedge_live_frame_bytes(const shiftedge_live *live) {
    return live != NULL ? live->frame_bytes : 0;
}

static double now_s(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int check_logits(const shiftedge_live *live) {
    for (int i = 0; i < live->spec->classes; i++) {
        if (!isfinite(live->logits[i])) {
            return shiftedge_fail(SHIFTEDGE_ERROR_NUMERICS,
                                  "The model %.100s gave logits that are not finite; its weights or "
                                  "its compiled form are damaged.",
                                  live->spec->name);
        }
    }
    return SHIFTEDGE_OK;
}

static int step(shiftedge_live *live, const uint8_t *fitted) {
    for (int64_t i = 0; i < live->result.steps; i++) {
        int status = shiftedge_step(live->model, live->state, fitted, 3 * live->spec->width,
                                    live->logits);
        status = status == SHIFTEDGE_OK ? check_logits(live) : status;
        if (status != SHIFTEDGE_OK) {
            empty(live);
            return status;
        }
    }
    return SHIFTEDGE_OK;
}

/* What a frame that is due leads to. */
static int take(shiftedge_live *live, const uint8_t *frame, double time_s) {
    shiftedge_live_result *result = &live->result;
    double begin_s = now_s();
    const uint8_t *fitted = fit_frame(&live->fit, frame);
    if (!live->one_scene && cuts_update(&live->cuts, fitted)) {
        memset(live->state, 0, shiftedge_state_size());
        decode_reset(&live->decoder);
        result->reset = SHIFTEDGE_RESET_CUT;
        result->steps = 1; /* the other ticks of this frame lie in the time of the scene before */
    }
    double middle_s = now_s();
    int status = step(live, fitted);
    result->fit_s = middle_s - begin_s;
    result->step_s = now_s() - middle_s;
    result->logits = live->logits;
    if (status == SHIFTEDGE_OK &&
        decode_update(&live->decoder, live->logits, time_s, &live->event)) {
        result->event = &live->event;
    }
    return status;
}

int shiftedge_live_feed(shiftedge_live *live, const uint8_t *frame, double time_s,
                        const shiftedge_live_result **result) {
    if (result != NULL) {
        *result = NULL;
    }
    if (live == NULL || frame == NULL || result == NULL) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "shiftedge_live_feed was given no %s (NULL).",
                              live == NULL    ? "stream"
                              : frame == NULL ? "frame"
                                              : "place for the result");
    }
    if (!isfinite(time_s)) {
        return shiftedge_fail(SHIFTEDGE_ERROR_ARGUMENT,
                              "The frame's time is %g; expected a finite number of seconds.", time_s);
    }
    tick tick = clock_tick(&live->clock, time_s);
    live->result = (shiftedge_live_result){.steps = tick.steps, .reset = (int32_t)tick.reset};
    if (tick.reset != SHIFTEDGE_RESET_NONE) {
        empty(live);
    }
    int status = tick.steps == 0 ? SHIFTEDGE_OK : take(live, frame, time_s);
    *result = status == SHIFTEDGE_OK ? &live->result : NULL;
    return status;
}

void shiftedge_live_close(shiftedge_live *live) {
    if (live != NULL) {
        decode_close(&live->decoder);
        fit_close(&live->fit);
        free(live->logits);
        free(live->state);
        free(live);
    }
}

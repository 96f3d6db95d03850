/* The C twin of shiftedge.LiveStream: a camera's frames with their times in, events out.
 * Exported by libmodel.so, like shiftedge.h.
 *
 *     shiftedge_live_options options = {.size = sizeof options, .format = SHIFTEDGE_NV12,
 *                                       .width = 640, .height = 480};
 *     shiftedge_live *live = NULL;
 *     if (shiftedge_live_open(model, &options, &live)) die(shiftedge_last_error());
 *     while (camera(frame, &time_s)) {
 *         const shiftedge_live_result *result;
 *         if (shiftedge_live_feed(live, frame, time_s, &result)) die(shiftedge_last_error());
 *         if (result->event != NULL) puts(result->event->label);
 *     }
 *     shiftedge_live_close(live);
 *
 * For each frame: clock (is it due, once or several times), scale, look for a cut, step, decode. As
 * in Python, after a pause past the model's limit, a time that goes back or a scene cut the stream
 * starts anew. A frame allocates nothing.
 *
 * Any number of streams of one model, each with states of its own; one thread at a time for each
 * stream. The model outlives its streams, and the same holds for forks as in shiftedge.h.
 */
#ifndef SHIFTEDGE_LIVE_H
#define SHIFTEDGE_LIVE_H

#include "shiftedge.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a pixel in memory order. YUV is BT.601, its sides even. */
typedef enum shiftedge_format {
    SHIFTEDGE_BGR24 = 0,
    SHIFTEDGE_RGB24 = 1,
    SHIFTEDGE_BGRX = 2, /* four bytes, the last one ignored */
    SHIFTEDGE_RGBX = 3,
    SHIFTEDGE_GRAY = 4,
    SHIFTEDGE_YUV420P = 5, /* planes Y, U, V */
    SHIFTEDGE_NV12 = 6,    /* planes Y, UV */
} shiftedge_format;

/* For shiftedge_live_options.flags. */
#define SHIFTEDGE_LIVE_FULL_RANGE 1u /* YUV from 0 to 255, as JPEG has it, instead of 16 to 235 */
#define SHIFTEDGE_LIVE_ONE_SCENE 2u  /* do not look for cuts: the source shows one scene only */

/* Zero what you do not set; see shiftedge_options. */
typedef struct shiftedge_live_options {
    uint32_t size;        /* bytes: sizeof(shiftedge_live_options) */
    uint32_t format;      /* shiftedge_format of the camera's frames */
    int32_t width;        /* of them, pixels, at most 16384 */
    int32_t height;
    int32_t stride_bytes; /* from row to row where they are padded, of Y where there are planes, a
                             row of yuv420p's U or V then having half of them; 0: not padded */
    uint32_t flags;       /* SHIFTEDGE_LIVE_... */
} shiftedge_live_options;

/* Why the states are emptied before a frame. */
typedef enum shiftedge_reset {
    SHIFTEDGE_RESET_NONE = 0,
    SHIFTEDGE_RESET_GAP = 1,   /* the pause before it was longer than the model's limit */
    SHIFTEDGE_RESET_CLOCK = 2, /* its time lies before the last one's */
    SHIFTEDGE_RESET_CUT = 3,   /* the scene was cut */
} shiftedge_reset;

/* One recognised gesture. Times in seconds, of the frames' clock. */
typedef struct shiftedge_event {
    double time_s;     /* of the frame that settled it */
    double start_s;    /* when it began */
    double confidence; /* 0..1 */
    int32_t index;     /* of the label, among the spec's */
    const char *label;
} shiftedge_event;

/* What one frame led to. Later versions may add to the end. */
typedef struct shiftedge_live_result {
    const shiftedge_event *event; /* NULL: none */
    const float *logits;          /* of the last step, one for each label; NULL: no step */
    int64_t steps;                /* 0: the frame was skipped; more than 1: it was repeated */
    int32_t reset;                /* shiftedge_reset */
    double fit_s;                 /* seconds for scaling the frame and looking for a cut */
    double step_s;                /* seconds inside the model, all steps together */
} shiftedge_live_result;

typedef struct shiftedge_live shiftedge_live;

/* Open a stream of a model. live: receives the handle, NULL after an error; the caller closes it.
 * Returns a shiftedge_status. */
SHIFTEDGE_API int shiftedge_live_open(shiftedge_model *model, const shiftedge_live_options *options,
                                      shiftedge_live **live);

/* Bytes of one of the camera's frames, for who reads them from a pipe. */
SHIFTEDGE_API size_t shiftedge_live_frame_bytes(const shiftedge_live *live);

/* Take the camera's next frame, whatever its rate.
 *
 * frame: shiftedge_live_frame_bytes() of the stream's format.
 * time_s: when it was taken, in seconds of any steady clock.
 * result: receives what came of it, the stream's own and valid until its next call; NULL after an
 *     error.
 *
 * Returns a shiftedge_status. After SHIFTEDGE_ERROR_ARGUMENT nothing has changed; after any other
 * error everything but the clock starts anew with the next frame. */
SHIFTEDGE_API int shiftedge_live_feed(shiftedge_live *live, const uint8_t *frame, double time_s,
                                      const shiftedge_live_result **result);

/* Start anew: empty states, decoder, clock and cut detector. */
SHIFTEDGE_API void shiftedge_live_reset(shiftedge_live *live);

/* Free the stream; NULL is allowed. */
SHIFTEDGE_API void shiftedge_live_close(shiftedge_live *live);

#ifdef __cplusplus
}
#endif

#endif

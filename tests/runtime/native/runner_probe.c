/* The runner's parts as plain functions, for tests that repeat them in Python. */
#include <stdlib.h>
#include <string.h>

#include "live/clock.h"
#include "live/cuts.h"
#include "live/decode.h"
#include "live/fit.h"
#include "runner/clip.h"
#include "runner/fitting.h"
#include "runner/output.h"
#include "runner/sha256.h"

#define PROBE __attribute__((visibility("default")))

/* 0: no memory, or no such format. */
PROBE int probe_fit(const uint8_t *frame, const char *format, int full_range, int stride,
                    int image_height, int image_width, int height, int width, int short_side,
                    uint8_t *out);
/* The sentence about the number of bytes of a stream; out: FITTING_TEXT_BYTES. */
PROBE void probe_fitting(const char *format, int stride, int height, int width, uint64_t total,
                         char *out);
PROBE void probe_crop(int image_height, int image_width, int height, int width, int short_side,
                      int *out);
PROBE void probe_clock(double rate_hz, double max_gap_s, const double *times, int count,
                       int64_t *steps, int *resets);
PROBE void probe_cuts(const uint8_t *frames, int count, int height, int width, int *cuts);
/* decoder: smoothing_s, enter, exit, min_duration_s, rearm_s. events: time, start, confidence, label;
 * returns how many. */
PROBE int probe_decode(int classes, const uint8_t *silent, double rate_hz, const double *decoder,
                       const float *logits, const double *times, int count, const int *resets,
                       double *events);
PROBE void probe_clip(uint8_t *frame, int height, int width, int index);
PROBE size_t probe_line(double time_s, const char *label, double confidence, int step, char *out);
/* In pieces of `piece` bytes. portable: without the CPU's instructions for it; 0: it has none. */
PROBE void probe_sha256(const uint8_t *data, size_t length, size_t piece, int portable,
                        uint8_t *digest);

int probe_fit(const uint8_t *frame, const char *format, int full_range, int stride,
              int image_height, int image_width, int height, int width, int short_side,
              uint8_t *out) {
    video video = {image_width, image_height, SHIFTEDGE_BGR24, full_range != 0, stride};
    fit fit;
    if (!video_format_named(format, &video.format) ||
        !fit_open(&fit, &video, height, width, short_side)) {
        return 0;
    }
    /* Twice: nothing of the first frame may stay. */
    (void)fit_frame(&fit, frame);
    memcpy(out, fit_frame(&fit, frame), 3 * (size_t)height * (size_t)width);
    fit_close(&fit);
    return 1;
}

void probe_fitting(const char *format, int stride, int height, int width, uint64_t total,
                   char *out) {
    video video = {.width = width, .height = height, .stride = stride};
    out[0] = '\0';
    if (video_format_named(format, &video.format)) {
        fitting_text(out, &video, total);
    }
}

void probe_crop(int image_height, int image_width, int height, int width, int short_side,
                int *out) {
    region crop = fit_crop(image_height, image_width, height, width, short_side);
    memcpy(out, &crop, sizeof crop);
}

void probe_clock(double rate_hz, double max_gap_s, const double *times, int count, int64_t *steps,
                 int *resets) {
    frame_clock clock;
    clock_open(&clock, rate_hz, max_gap_s);
    for (int i = 0; i < count; i++) {
        tick tick = clock_tick(&clock, times[i]);
        steps[i] = tick.steps;
        resets[i] = (int)tick.reset;
    }
}

void probe_cuts(const uint8_t *frames, int count, int height, int width, int *cuts) {
    cut_detector detector;
    cuts_open(&detector, height, width);
    for (int i = 0; i < count; i++) {
        cuts[i] = cuts_update(&detector, frames + 3 * (size_t)(i * height * width));
    }
}

int probe_decode(int classes, const uint8_t *silent, double rate_hz, const double *settings,
                 const float *logits, const double *times, int count, const int *resets,
                 double *events) {
    const char **labels = calloc((size_t)classes, sizeof *labels);
    shiftedge_spec spec = {
        .classes = classes,
        .labels = labels,
        .silent = silent,
        .frame_rate_hz = rate_hz,
        .decoder = {settings[0], settings[1], settings[2], settings[3], settings[4]},
    };
    decoder decoder;
    int found = -1;
    if (labels != NULL && decode_open(&decoder, &spec)) {
        found = 0;
        for (int i = 0; i < count; i++) {
            shiftedge_event event;
            if (resets[i]) {
                decode_reset(&decoder);
            }
            if (decode_update(&decoder, logits + i * classes, times[i], &event)) {
                double fields[] = {event.time_s, event.start_s, event.confidence, event.index};
                memcpy(events + 4 * found, fields, sizeof fields);
                found++;
            }
        }
        decode_close(&decoder);
    }
    free(labels);
    return found;
}

size_t probe_line(double time_s, const char *label, double confidence, int step, char *out) {
    return output_text(out, time_s, label, confidence, step != 0);
}

void probe_sha256(const uint8_t *data, size_t length, size_t piece, int portable, uint8_t *digest) {
    sha256 sum;
    sha256_open(&sum, portable ? sha256_portable : NULL);
    for (size_t at = 0; at < length; at += piece) {
        sha256_update(&sum, data + at, length - at < piece ? length - at : piece);
    }
    sha256_close(&sum, digest);
}

void probe_clip(uint8_t *frame, int height, int width, int index) {
    clip_frame(frame, height, width, index);
}

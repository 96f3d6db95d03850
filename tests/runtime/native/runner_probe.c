/* The runner's parts as plain functions, for tests that repeat them in Python. */
#include <stdlib.h>
#include <string.h>

#include "clip.h"
#include "clock.h"
#include "cuts.h"
#include "decode.h"
#include "fit.h"
#include "fitting.h"
#include "output.h"
#include "sha256.h"
#include "spec.h"

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
/* events: time, label, confidence; returns how many. */
PROBE int probe_decode(const char *json, const float *logits, const double *times, int count,
                       const int *resets, double *events);
/* 1: read; 0: refused, with the sentence. The bytes are copied so that a sanitizer sees a read
 * behind them. */
PROBE int probe_spec(const char *json, size_t length, char *sentence, size_t room);
PROBE void probe_clip(uint8_t *frame, int height, int width, int index);
PROBE size_t probe_line(double time_s, const char *label, double confidence, int step, char *out);
/* In pieces of `piece` bytes. portable: without the CPU's instructions for it; 0: it has none. */
PROBE void probe_sha256(const uint8_t *data, size_t length, size_t piece, int portable,
                        uint8_t *digest);

int probe_fit(const uint8_t *frame, const char *format, int full_range, int stride,
              int image_height, int image_width, int height, int width, int short_side,
              uint8_t *out) {
    video video = {image_width, image_height, VIDEO_BGR24, full_range != 0, stride};
    fit fit;
    failure failure;
    if (!video_format_named(format, &video.format) ||
        !fit_open(&fit, &video, height, width, short_side, &failure)) {
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

int probe_decode(const char *json, const float *logits, const double *times, int count,
                 const int *resets, double *events) {
    spec spec;
    decoder decoder;
    failure failure;
    int found = -1;
    if (!spec_read(&spec, json, strlen(json), &failure)) {
        return found;
    }
    if (decode_open(&decoder, &spec, &failure)) {
        found = 0;
        for (int i = 0; i < count; i++) {
            gesture_event event;
            if (resets[i]) {
                decode_reset(&decoder);
            }
            if (decode_update(&decoder, logits + i * spec.classes, times[i], &event)) {
                events[3 * found] = event.time_s;
                events[3 * found + 1] = event.index;
                events[3 * found + 2] = event.confidence;
                found++;
            }
        }
        decode_close(&decoder);
    }
    spec_close(&spec);
    return found;
}

int probe_spec(const char *json, size_t length, char *sentence, size_t room) {
    spec spec;
    failure failure = {""};
    char *copy = malloc(length > 0 ? length : 1);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, json, length);
    bool good = spec_read(&spec, copy, length, &failure);
    if (good) {
        spec_close(&spec);
    }
    free(copy);
    sentence[0] = '\0';
    strncat(sentence, failure.text, room - 1);
    return good;
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

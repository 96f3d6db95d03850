#include "decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Camera clocks tick in microseconds. */
#define CLOCK_SLACK_S 1e-6

bool decode_open(decoder *decoder, const shiftedge_spec *spec) {
    size_t classes = (size_t)spec->classes;
    double *memory = malloc(2 * classes * sizeof *memory);
    if (memory == NULL) {
        return false;
    }
    *decoder = (struct decoder){
        .spec = spec,
        .smoothed = memory,
        .probabilities = memory + classes,
    };
    decode_reset(decoder);
    return true;
}

void decode_reset(decoder *decoder) {
    for (int i = 0; i < decoder->spec->classes; i++) {
        decoder->smoothed[i] = 0.0;
    }
    decoder->started = false;
    decoder->candidate = decoder->reported = -1;
    decoder->start_s = decoder->peak = 0.0;
    decoder->armed_from_s = -(double)INFINITY;
}

/* The largest logit is taken off first, so that no power overflows. */
static void softmax(const float *logits, int count, double *out) {
    double most = (double)logits[0], sum = 0.0;
    for (int i = 1; i < count; i++) {
        most = fmax(most, (double)logits[i]);
    }
    for (int i = 0; i < count; i++) {
        out[i] = exp((double)logits[i] - most);
        sum += out[i];
    }
    for (int i = 0; i < count; i++) {
        out[i] /= sum;
    }
}

/* Exponential average whose weights depend on the time passed, not on the frame count. */
static void smooth(decoder *decoder, double time_s) {
    int count = decoder->spec->classes;
    double constant_s = decoder->spec->decoder.smoothing_s;
    if (constant_s == 0.0) {
        memcpy(decoder->smoothed, decoder->probabilities, (size_t)count * sizeof(double));
        return;
    }
    double first_s = 1.0 / decoder->spec->frame_rate_hz;
    double passed_s = decoder->started ? time_s - decoder->time_s : first_s;
    double weight = -expm1(-passed_s / constant_s);
    for (int i = 0; i < count; i++) {
        double change = decoder->probabilities[i] - decoder->smoothed[i];
        decoder->smoothed[i] = decoder->smoothed[i] + weight * change;
    }
}

static void end_gestures(decoder *decoder, double time_s) {
    const shiftedge_decoder_settings *settings = &decoder->spec->decoder;
    if (decoder->reported >= 0 && decoder->smoothed[decoder->reported] < settings->exit) {
        decoder->reported = -1;
        decoder->armed_from_s = time_s + settings->rearm_s;
    }
    if (decoder->candidate >= 0 && decoder->smoothed[decoder->candidate] < settings->exit) {
        decoder->candidate = -1;
    }
}

static void enter(decoder *decoder, double time_s) {
    int strongest = -1;
    if (time_s < decoder->armed_from_s) {
        return;
    }
    for (int i = 0; i < decoder->spec->classes; i++) {
        if (!decoder->spec->silent[i] &&
            (strongest < 0 || decoder->smoothed[i] > decoder->smoothed[strongest])) {
            strongest = i;
        }
    }
    if (strongest >= 0 && strongest != decoder->candidate &&
        decoder->smoothed[strongest] >= decoder->spec->decoder.enter) {
        decoder->candidate = strongest;
        decoder->start_s = time_s;
        decoder->peak = decoder->smoothed[strongest];
    }
}

static bool report(decoder *decoder, double time_s, shiftedge_event *event) {
    int index = decoder->candidate;
    if (index < 0) {
        return false;
    }
    decoder->peak = fmax(decoder->peak, decoder->smoothed[index]);
    if (time_s - decoder->start_s < decoder->spec->decoder.min_duration_s - CLOCK_SLACK_S) {
        return false;
    }
    decoder->candidate = -1;
    decoder->reported = index;
    *event = (shiftedge_event){
        .time_s = time_s,
        .start_s = decoder->start_s,
        .confidence = fmin(decoder->peak, 1.0),
        .index = index,
        .label = decoder->spec->labels[index],
    };
    return true;
}

bool decode_update(decoder *decoder, const float *logits, double time_s, shiftedge_event *event) {
    softmax(logits, decoder->spec->classes, decoder->probabilities);
    smooth(decoder, time_s);
    decoder->time_s = time_s;
    decoder->started = true;
    end_gestures(decoder, time_s);
    if (decoder->reported >= 0) {
        return false;
    }
    enter(decoder, time_s);
    return report(decoder, time_s, event);
}

void decode_close(decoder *decoder) {
    free(decoder->smoothed);
    decoder->smoothed = decoder->probabilities = NULL;
}

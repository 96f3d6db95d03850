/* Logits over time -> gesture events: shiftedge/runtime/decode.py, whose docstring says what holds
 * for every stream of logits. Times in seconds, finite and never going back between resets. */
#ifndef RUNNER_DECODE_H
#define RUNNER_DECODE_H

#include <stdbool.h>

#include "failure.h"
#include "spec.h"

typedef struct decoder {
    const spec *spec;
    double *smoothed, *probabilities; /* one for each label */
    bool started;
    double time_s; /* of the last frame */
    int candidate, reported; /* labels; -1: none */
    double start_s, peak, armed_from_s;
} decoder;

typedef struct gesture_event {
    double time_s;
    int index; /* of the label */
    double confidence;
} gesture_event;

/* `spec` must outlive the decoder. On failure (no memory) there is nothing to close. */
bool decode_open(decoder *decoder, const spec *spec, failure *failure);

/* Forget everything, as at a start. */
void decode_reset(decoder *decoder);

/* Take one frame's logits, finite; true with the event that they settle. */
bool decode_update(decoder *decoder, const float *logits, double time_s, gesture_event *event);

void decode_close(decoder *decoder);

#endif

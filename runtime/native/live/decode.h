/* Logits over time -> gesture events: shiftedge/runtime/live/decode.py, whose docstring says what holds
 * for every stream of logits. Times in seconds, finite and never going back between resets. */
#ifndef SHIFTEDGE_DECODE_H
#define SHIFTEDGE_DECODE_H

#include <stdbool.h>

#include "live.h"

typedef struct decoder {
    const shiftedge_spec *spec;
    double *smoothed, *probabilities; /* one for each label */
    bool started;
    double time_s; /* of the last frame */
    int candidate, reported; /* labels; -1: none */
    double start_s, peak, armed_from_s;
} decoder;

/* `spec` must outlive the decoder. On failure (no memory) there is nothing to close. */
bool decode_open(decoder *decoder, const shiftedge_spec *spec);

/* Forget everything, as at a start. */
void decode_reset(decoder *decoder);

/* Take one frame's logits, finite; true with the event that they settle. */
bool decode_update(decoder *decoder, const float *logits, double time_s, shiftedge_event *event);

void decode_close(decoder *decoder);

#endif

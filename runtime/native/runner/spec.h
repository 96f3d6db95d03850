/* The part of a model's spec that the runner needs, checked as shiftedge/runtime/spec.py checks
 * it. */
#ifndef RUNNER_SPEC_H
#define RUNNER_SPEC_H

#include <stdbool.h>
#include <stddef.h>

#include "failure.h"

/* Bytes of a label or name, and how many labels: far above any model's, so that a line of output
 * has a bound. */
#define SPEC_TEXT_BYTES_MOST 512
#define SPEC_LABELS_MOST 10000
#define SPEC_PRECISION_BYTES 16 /* with the NUL */
/* Of a spec that names none. */
#define SPEC_PRECISION "fp32"

/* Probabilities in 0..1, times in seconds; see decode.h. */
typedef struct decoder_settings {
    double smoothing_s, enter, exit, min_duration_s, rearm_s;
} decoder_settings;

typedef struct spec {
    char *name;
    char **labels; /* `classes` of them */
    bool *silent;  /* for each label: it never becomes an event */
    int classes;
    int height, width; /* of a model frame, pixels */
    int short_side;    /* see fit.h */
    double frame_rate_hz, max_gap_s;
    decoder_settings decoder;
    char precision[SPEC_PRECISION_BYTES]; /* such as "int8" */
} spec;

/* Read JSON text; on failure there is nothing to close. */
bool spec_read(spec *spec, const char *text, size_t length, failure *failure);

void spec_close(spec *spec);

#endif

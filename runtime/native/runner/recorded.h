/* What the manifest of a bundle says about the self-test: the logits of ONNX Runtime. */
#ifndef RUNNER_RECORDED_H
#define RUNNER_RECORDED_H

#include <stdbool.h>

#include "failure.h"

/* Far more than is ever recorded. */
#define RECORDED_FRAMES_MOST 256

typedef struct recorded {
    double tolerance; /* of a difference, relative to the largest magnitude of all logits */
    int frames;
    double *logits; /* frames x classes */
} recorded;

/* Read them.
 *
 * folder: of a bundle.
 * classes: of the model.
 *
 * On failure there is nothing to close. */
bool recorded_read(recorded *recorded, const char *folder, int classes, failure *failure);

void recorded_close(recorded *recorded);

#endif

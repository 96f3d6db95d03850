/* What the manifest of a bundle says about the self-test: the logits of the model's reference, for
 * each precision that the bundle has. */
#ifndef RUNNER_RECORDED_H
#define RUNNER_RECORDED_H

#include <stdbool.h>

#include "failure.h"
#include "spec.h"

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
 * spec: of the library that is to be tested: which precision's, and how many classes.
 *
 * On failure there is nothing to close. */
bool recorded_read(recorded *recorded, const char *folder, const spec *spec, failure *failure);

void recorded_close(recorded *recorded);

#endif

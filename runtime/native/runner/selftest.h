/* `--self-test`: whether this machine computes what was recorded when the model was compiled, and
 * how fast. */
#ifndef RUNNER_SELFTEST_H
#define RUNNER_SELFTEST_H

#include <stdbool.h>

#include "failure.h"
#include "library.h"

/* Timed steps where none are asked for: these, or as many as fit into the seconds, but one. */
#define SELFTEST_STEPS 200
#define SELFTEST_SECONDS 20.0

/* Step the clip, compare each frame's logits with what was recorded, time more steps of the same
 * frames, and print one JSON line (docs/formats.md).
 *
 * model: the folder of a bundle, or NULL: the one in which this program lies.
 * device: of the bundle's variants, which may be taken.
 * threads: for one step; 0: the library's default.
 * steps: to be timed; 0: see SELFTEST_STEPS.
 *
 * False: logits differ, or something else failed. */
bool selftest_run(const char *model, device device, int threads, int steps, failure *failure);

#endif

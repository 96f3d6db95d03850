/* The frames of the self-test, the same bytes as shiftedge/runtime/selftest.py makes: the formula
 * is there. */
#ifndef RUNNER_CLIP_H
#define RUNNER_CLIP_H

#include <stdint.h>

/* Frame `index` of the clip, from 0. frame: 3 * height * width bytes, rows of blue, green, red. */
void clip_frame(uint8_t *frame, int height, int width, int index);

#endif

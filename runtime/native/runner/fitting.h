/* Raw video of another size or format than was said: what its number of bytes tells. The same words
 * as from shiftedge/runtime/capture/rawvideo.py, which explains them. */
#ifndef RUNNER_FITTING_H
#define RUNNER_FITTING_H

#include <stddef.h>
#include <stdint.h>

#include "live/video.h"

/* Fits what fitting_text writes, with its end. */
#define FITTING_TEXT_BYTES 512

/* "100 bytes in all are no whole number of frames of 4x2 bgr24 (24 bytes each): check size, format
 * and padding of rows. 25 frames of 4x1 gray would fit." text: FITTING_TEXT_BYTES. */
void fitting_text(char *text, const video *video, uint64_t total);

#endif

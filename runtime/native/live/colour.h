/* The part of a raw video frame that matters as BGR.
 *
 * The same numbers as shiftedge/runtime/capture/rawvideo.py with OpenCV: YUV is BT.601, of limited
 * or full range, in OpenCV's fixed point (modules/imgproc/src/color_yuv, shift of 20 or 14 bits). */
#ifndef SHIFTEDGE_COLOUR_H
#define SHIFTEDGE_COLOUR_H

#include <stdint.h>

#include "video.h"

/* A region of an image, pixels. */
typedef struct region {
    int top, left, rows, columns;
} region;

/* Write a region of a frame as BGR: region.rows rows of 3 * region.columns bytes, no padding. */
void colour_to_bgr(const video *video, const uint8_t *frame, region region, uint8_t *bgr);

#endif

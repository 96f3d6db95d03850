/* Camera frame -> model frame: the crop and the resize of shiftedge/runtime/preprocess.py, whose
 * docstring is the definition, to the bit as OpenCV's resize does them on x86-64 (its versions for
 * other processors may be off by one grey level, and so may numpy's form, used without OpenCV).
 *
 * Everything that depends on sizes alone is worked out once; a frame allocates nothing. */
#ifndef SHIFTEDGE_FIT_H
#define SHIFTEDGE_FIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colour.h"
#include "video.h"

/* Which two places of an axis each output reads, and their shares of 2048. */
typedef struct fit_tap {
    int first, second;
    int32_t share_first, share_second;
} fit_tap;

typedef struct fit {
    video video;
    int height, width; /* of the model frame */
    region used;       /* of the camera's frame; nothing outside of it is looked at */
    int factor;        /* boxes of factor x factor are averaged first; 1: none are */
    int rows, columns; /* after that */
    fit_tap *down, *across;
    uint32_t *sums;   /* of one row of boxes */
    int32_t *lines[2]; /* two rows, resized across */
    uint8_t *bgr;     /* the used region, where the camera's format is not BGR24 */
    uint8_t *boxes;
    uint8_t *frame; /* the result: height rows of 3 * width bytes */
} fit;

/* The centred region of an image that becomes the model frame. short_side: what the image's short
 * side is scaled to before the cut. All pixels. */
region fit_crop(int image_height, int image_width, int height, int width, int short_side);

/* For all frames of one video; on failure (no memory) there is nothing to close. */
bool fit_open(fit *fit, const video *video, int height, int width, int short_side);

/* The model frame for a camera frame of video_frame_bytes(); valid until the next call. */
const uint8_t *fit_frame(fit *fit, const uint8_t *frame);

void fit_close(fit *fit);

#endif

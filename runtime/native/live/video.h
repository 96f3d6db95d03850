/* Raw video frames and their sizes, for the library and for the runner. */
#ifndef SHIFTEDGE_VIDEO_H
#define SHIFTEDGE_VIDEO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "live.h"

#define VIDEO_SIDE_MOST 16384 /* pixels */
#define VIDEO_STRIDE_MOST (1 << 17) /* bytes */

#define VIDEO_FORMATS (SHIFTEDGE_NV12 + 1)

typedef struct video {
    int width, height; /* pixels */
    shiftedge_format format;
    bool full_range; /* YUV from 0 to 255, as JPEG has it, instead of 16 to 235 */
    int stride;      /* bytes from row to row where they are padded, of Y where there are planes, a
                        row of yuv420p's U or V then having half of them; 0: not padded */
} video;

/* False: no format has this name. */
bool video_format_named(const char *name, shiftedge_format *format);
const char *video_format_name(shiftedge_format format);

/* Bytes of a pixel; 0: of planes. */
size_t video_pixel_bytes(shiftedge_format format);

/* Whether the colours are of half the size, so that both sides must be even. */
bool video_subsampled(shiftedge_format format);

/* Bytes of a row's pixels, and from one row to the next; of Y where there are planes. */
size_t video_row_bytes(const video *video);
size_t video_stride(const video *video);

/* Bytes of one frame. */
size_t video_frame_bytes(const video *video);

#endif

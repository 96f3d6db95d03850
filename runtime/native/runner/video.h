/* Raw video frames: their sizes, and the part of one that matters as BGR.
 *
 * The same numbers as shiftedge/runtime/capture/rawvideo.py with OpenCV: YUV is BT.601, of limited
 * or full range, in OpenCV's fixed point (modules/imgproc/src/color_yuv, shift of 20 or 14 bits). */
#ifndef RUNNER_VIDEO_H
#define RUNNER_VIDEO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIDEO_SIDE_MOST 16384 /* pixels */
#define VIDEO_STRIDE_MOST (1 << 17) /* bytes */

typedef enum video_format {
    VIDEO_BGR24,
    VIDEO_RGB24,
    VIDEO_BGRX, /* four bytes, the last one ignored */
    VIDEO_RGBX,
    VIDEO_GRAY,
    VIDEO_YUV420P, /* planes Y, U, V; even sides */
    VIDEO_NV12,    /* planes Y, UV; even sides */
    VIDEO_FORMATS,
} video_format;

typedef struct video {
    int width, height; /* pixels */
    video_format format;
    bool full_range; /* YUV from 0 to 255, as JPEG has it, instead of 16 to 235 */
    int stride;      /* bytes from row to row where they are padded, of Y where there are planes, a
                        row of yuv420p's U or V then having half of them; 0: not padded */
} video;

/* A region of an image, pixels. */
typedef struct region {
    int top, left, rows, columns;
} region;

/* False: no format has this name. */
bool video_format_named(const char *name, video_format *format);
const char *video_format_name(video_format format);

/* Whether the colours are of half the size, so that both sides must be even. */
bool video_halved(video_format format);

/* Bytes of a row's pixels, and from one row to the next; of Y where there are planes. */
size_t video_row_bytes(const video *video);
size_t video_stride(const video *video);

/* Bytes of one frame. */
size_t video_frame_bytes(const video *video);

/* Write a region of a frame as BGR: region.rows rows of 3 * region.columns bytes, no padding. */
void video_to_bgr(const video *video, const uint8_t *frame, region region, uint8_t *bgr);

#endif

/* Raw video frames: their sizes, and the part of one that matters as BGR.
 *
 * The same numbers as shiftedge/runtime/capture/rawvideo.py with OpenCV: YUV is BT.601 of limited
 * range, in OpenCV's fixed point (modules/imgproc/src/color_yuv, shift of 20 bits). */
#ifndef RUNNER_VIDEO_H
#define RUNNER_VIDEO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIDEO_SIDE_MOST 16384 /* pixels */

typedef enum video_format {
    VIDEO_BGR24,
    VIDEO_RGB24,
    VIDEO_BGRX, /* four bytes, the last one ignored */
    VIDEO_RGBX,
    VIDEO_GRAY,
    VIDEO_YUV420P, /* planes Y, U, V; even sides */
    VIDEO_NV12,    /* planes Y, UV; even sides */
} video_format;

typedef struct video {
    int width, height; /* pixels */
    video_format format;
} video;

/* A region of an image, pixels. */
typedef struct region {
    int top, left, rows, columns;
} region;

/* False: no format has this name. */
bool video_format_named(const char *name, video_format *format);
const char *video_format_name(video_format format);

/* Bytes of one frame, rows without padding. */
size_t video_frame_bytes(const video *video);

/* Write a region of a frame as BGR: region.rows rows of 3 * region.columns bytes, no padding. */
void video_to_bgr(const video *video, const uint8_t *frame, region region, uint8_t *bgr);

#endif

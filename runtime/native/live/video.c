#include "video.h"

#include <string.h>

static const struct {
    const char *name;
    int pixel_bytes; /* 0: of planes */
} formats[] = {
    [SHIFTEDGE_BGR24] = {"bgr24", 3},     [SHIFTEDGE_RGB24] = {"rgb24", 3},
    [SHIFTEDGE_BGRX] = {"bgrx", 4},       [SHIFTEDGE_RGBX] = {"rgbx", 4},
    [SHIFTEDGE_GRAY] = {"gray", 1},       [SHIFTEDGE_YUV420P] = {"yuv420p", 0},
    [SHIFTEDGE_NV12] = {"nv12", 0},
};

bool video_format_named(const char *name, shiftedge_format *format) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *format = (shiftedge_format)i;
            return true;
        }
    }
    return false;
}

const char *video_format_name(shiftedge_format format) { return formats[format].name; }

size_t video_pixel_bytes(shiftedge_format format) {
    return (size_t)formats[format].pixel_bytes;
}

bool video_subsampled(shiftedge_format format) { return formats[format].pixel_bytes == 0; }

size_t video_row_bytes(const video *video) {
    int pixel_bytes = formats[video->format].pixel_bytes;
    return (size_t)video->width * (size_t)(pixel_bytes == 0 ? 1 : pixel_bytes);
}

size_t video_stride(const video *video) {
    return video->stride > 0 ? (size_t)video->stride : video_row_bytes(video);
}

size_t video_frame_bytes(const video *video) {
    size_t first = video_stride(video) * (size_t)video->height;
    return video_subsampled(video->format) ? first + first / 2 : first;
}

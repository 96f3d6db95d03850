#include "colour.h"

#include <stdbool.h>

static uint8_t held(int32_t value) {
    /* Without branches, which noise would make the processor mispredict: below 0 the sign's bits
     * clear all, above 255 they set all. */
    value &= ~(value >> 31);
    return (uint8_t)(value | ((255 - value) >> 31));
}

/* Of limited range. BT.601's factors times 2^20, as in OpenCV: 1.164383, 2.017232, -0.391762,
 * -0.812968, 1.596027. */
enum { LUMA = 1220542, BLUE_U = 2116026, GREEN_U = -409993, GREEN_V = -852492, RED_V = 1673527 };

/* What a colour adds to each channel; shared by the pixels of a square. */
typedef struct colour {
    int32_t blue, green, red;
} colour;

static colour colour_of(int32_t u, int32_t v) {
    u -= 128;
    v -= 128;
    const int32_t half = 1 << 19;
    return (colour){half + BLUE_U * u, half + GREEN_U * u + GREEN_V * v, half + RED_V * v};
}

static void yuv_pixel(uint8_t luma, colour colour, uint8_t *bgr) {
    int32_t y = (luma > 16 ? luma - 16 : 0) * LUMA;
    /* The shift rounds down for negative values too: it is arithmetic in every compiler that this
     * is for. */
    bgr[0] = held((y + colour.blue) >> 20);
    bgr[1] = held((y + colour.green) >> 20);
    bgr[2] = held((y + colour.red) >> 20);
}

/* Of full range: the factors times 2^14, each sum rounded before the luma is added. */
enum { FULL_BLUE_U = 29049, FULL_GREEN_U = -5636, FULL_GREEN_V = -11698, FULL_RED_V = 22987 };

static colour full_colour_of(int32_t u, int32_t v) {
    u -= 128;
    v -= 128;
    const int32_t half = 1 << 13;
    return (colour){(half + FULL_BLUE_U * u) >> 14,
                    (half + FULL_GREEN_U * u + FULL_GREEN_V * v) >> 14,
                    (half + FULL_RED_V * v) >> 14};
}

static void full_pixel(uint8_t luma, colour colour, uint8_t *bgr) {
    bgr[0] = held(luma + colour.blue);
    bgr[1] = held(luma + colour.green);
    bgr[2] = held(luma + colour.red);
}

static void yuv_to_bgr(const video *video, const uint8_t *frame, region region, uint8_t *bgr) {
    size_t width = video_stride(video), height = (size_t)video->height;
    bool planar = video->format == SHIFTEDGE_YUV420P;
    const uint8_t *u = frame + width * height;
    const uint8_t *v = planar ? u + width / 2 * (height / 2) : u + 1;
    size_t row = planar ? width / 2 : width, step = planar ? 1 : 2;
    size_t end = (size_t)(region.left + region.columns);
    for (int y = region.top; y < region.top + region.rows; y++) {
        const uint8_t *luma = frame + (size_t)y * width;
        size_t line = (size_t)(y / 2) * row;
        for (size_t x = (size_t)region.left; x < end; x++, bgr += 3) {
            size_t place = line + x / 2 * step;
            if (video->full_range) {
                full_pixel(luma[x], full_colour_of(u[place], v[place]), bgr);
            } else {
                yuv_pixel(luma[x], colour_of(u[place], v[place]), bgr);
            }
        }
    }
}

void colour_to_bgr(const video *video, const uint8_t *frame, region region, uint8_t *bgr) {
    size_t bytes = video_pixel_bytes(video->format);
    if (bytes == 0) {
        yuv_to_bgr(video, frame, region, bgr);
        return;
    }
    bool reversed = video->format == SHIFTEDGE_RGB24 || video->format == SHIFTEDGE_RGBX;
    size_t blue = reversed ? 2 : 0, green = bytes == 1 ? 0 : 1;
    size_t red = bytes == 1 || reversed ? 0 : 2;
    for (int y = 0; y < region.rows; y++) {
        size_t line = (size_t)(region.top + y) * video_stride(video);
        const uint8_t *pixel = frame + line + (size_t)region.left * bytes;
        for (int x = 0; x < region.columns; x++, pixel += bytes, bgr += 3) {
            bgr[0] = pixel[blue];
            bgr[1] = pixel[green];
            bgr[2] = pixel[red];
        }
    }
}

#include "fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bits of a share (OpenCV's INTER_RESIZE_COEF_BITS). */
#define SHARE_BITS 11

static int smaller(int64_t a, int b) { return a < b ? (int)a : b; }

region fit_crop(int image_height, int image_width, int height, int width, int short_side) {
    /* The scale above / below, the largest of three; 64 bits, for 2 * 8192 * 16384 * 16384. */
    int64_t above = short_side, below = image_height < image_width ? image_height : image_width;
    if (height * below > above * image_height) {
        above = height;
        below = image_height;
    }
    if (width * below > above * image_width) {
        above = width;
        below = image_width;
    }
    int64_t rows = (2 * height * below + above) / (2 * above);
    int64_t columns = (2 * width * below + above) / (2 * above);
    region crop = {.rows = smaller(rows > 1 ? rows : 1, image_height),
                   .columns = smaller(columns > 1 ? columns : 1, image_width)};
    crop.top = (image_height - crop.rows) / 2;
    crop.left = (image_width - crop.columns) / 2;
    return crop;
}

static int held(int place, int size) { return place < 0 ? 0 : place >= size ? size - 1 : place; }

/* At an end OpenCV gives a column whole to the last place; of a row it takes both shares from the
 * same line, which rounds otherwise. */
static void fill_taps(fit_tap *taps, int size, int count, bool ends_whole) {
    double step = 1.0 / ((double)count / (double)size);
    for (int i = 0; i < count; i++) {
        float place = (float)((i + 0.5) * step - 0.5);
        int first = (int)floorf(place);
        float share = place - (float)first;
        if (ends_whole && (first < 0 || first >= size - 1)) {
            share = 0.0f;
        }
        taps[i] = (fit_tap){
            .first = held(first, size),
            .second = held(first + 1, size),
            .share_first = (int32_t)lrintf((1.0f - share) * (float)(1 << SHARE_BITS)),
            .share_second = (int32_t)lrintf(share * (float)(1 << SHARE_BITS)),
        };
    }
}

static void plan(fit *fit, int short_side) {
    const video *video = &fit->video;
    fit->factor = 1;
    fit->used = (region){0, 0, video->height, video->width};
    if (video->height != fit->height || video->width != fit->width) {
        region crop =
            fit_crop(video->height, video->width, fit->height, fit->width, short_side);
        int down = crop.rows / fit->height, across = crop.columns / fit->width;
        int factor = down < across ? down : across;
        if (factor > 1) {
            int rest_down = crop.rows % factor, rest_across = crop.columns % factor;
            crop.top += rest_down / 2;
            crop.left += rest_across / 2;
            crop.rows -= rest_down;
            crop.columns -= rest_across;
            fit->factor = factor;
        }
        fit->used = crop;
    }
    fit->rows = fit->used.rows / fit->factor;
    fit->columns = fit->used.columns / fit->factor;
}

bool fit_open(fit *fit, const video *video, int height, int width, int short_side) {
    *fit = (struct fit){.video = *video, .height = height, .width = width};
    plan(fit, short_side);
    size_t rows = (size_t)height, columns = (size_t)width, line = 3 * columns;
    size_t used = 3 * (size_t)fit->used.rows * (size_t)fit->used.columns;
    size_t boxes = 3 * (size_t)fit->rows * (size_t)fit->columns;
    fit->down = malloc(rows * sizeof *fit->down);
    fit->across = malloc(columns * sizeof *fit->across);
    fit->sums = malloc(3 * (size_t)fit->columns * sizeof *fit->sums);
    fit->lines[0] = malloc(line * sizeof *fit->lines[0]);
    fit->lines[1] = malloc(line * sizeof *fit->lines[1]);
    fit->bgr = malloc(video->format == SHIFTEDGE_BGR24 ? 1 : used);
    fit->boxes = malloc(fit->factor > 1 ? boxes : 1);
    fit->frame = malloc(rows * line);
    if (fit->down == NULL || fit->across == NULL || fit->sums == NULL || fit->lines[0] == NULL ||
        fit->lines[1] == NULL || fit->bgr == NULL || fit->boxes == NULL || fit->frame == NULL) {
        fit_close(fit);
        return false;
    }
    fill_taps(fit->down, fit->rows, height, false);
    fill_taps(fit->across, fit->columns, width, true);
    return true;
}

/* The mean of each box. OpenCV rounds halves up where a box is 2 x 2 and to even elsewhere. */
static void average(const fit *fit, const uint8_t *image, size_t stride, uint8_t *out) {
    size_t factor = (size_t)fit->factor, columns = (size_t)fit->columns;
    float share = 1.0f / (float)(fit->factor * fit->factor);
    for (int row = 0; row < fit->rows; row++) {
        memset(fit->sums, 0, 3 * columns * sizeof *fit->sums);
        for (size_t line = 0; line < factor; line++, image += stride) {
            const uint8_t *pixel = image;
            uint32_t *sum = fit->sums;
            for (size_t column = 0; column < columns; column++, sum += 3) {
                for (size_t i = 0; i < factor; i++, pixel += 3) {
                    sum[0] += pixel[0];
                    sum[1] += pixel[1];
                    sum[2] += pixel[2];
                }
            }
        }
        for (size_t i = 0; i < 3 * columns; i++) {
            *out++ = factor == 2 ? (uint8_t)((fit->sums[i] + 2) >> 2)
                                 : (uint8_t)lrintf((float)fit->sums[i] * share);
        }
    }
}

static void resize_line(const fit *fit, const uint8_t *line, int32_t *out) {
    for (int x = 0; x < fit->width; x++, out += 3) {
        const fit_tap *tap = &fit->across[x];
        const uint8_t *first = line + 3 * (size_t)tap->first;
        const uint8_t *second = line + 3 * (size_t)tap->second;
        for (int c = 0; c < 3; c++) {
            out[c] = first[c] * tap->share_first + second[c] * tap->share_second;
        }
    }
}

/* Half-pixel bilinear in fixed point. Rows come in order, so of the lines resized across the last
 * two are enough. */
static void resize(fit *fit, const uint8_t *image, size_t stride) {
    int held_line[2] = {-1, -1};
    size_t length = 3 * (size_t)fit->width;
    uint8_t *out = fit->frame;
    for (int y = 0; y < fit->height; y++) {
        const fit_tap *tap = &fit->down[y];
        const int wanted[2] = {tap->first, tap->second};
        if (held_line[0] != wanted[0] && held_line[1] == wanted[0]) {
            int32_t *line = fit->lines[0];
            fit->lines[0] = fit->lines[1];
            fit->lines[1] = line;
            held_line[1] = held_line[0];
            held_line[0] = wanted[0];
        }
        for (int i = 0; i < 2; i++) {
            if (held_line[i] != wanted[i]) {
                resize_line(fit, image + (size_t)wanted[i] * stride, fit->lines[i]);
                held_line[i] = wanted[i];
            }
        }
        for (size_t i = 0; i < length; i++) {
            int32_t first = (tap->share_first * (fit->lines[0][i] >> 4)) >> 16;
            int32_t second = (tap->share_second * (fit->lines[1][i] >> 4)) >> 16;
            *out++ = (uint8_t)((first + second + 2) >> 2);
        }
    }
}

const uint8_t *fit_frame(fit *fit, const uint8_t *frame) {
    const region *used = &fit->used;
    const uint8_t *image = fit->bgr;
    size_t stride = 3 * (size_t)used->columns, row = 3 * (size_t)fit->width;
    if (fit->video.format == SHIFTEDGE_BGR24) {
        stride = video_stride(&fit->video);
        image = frame + (size_t)used->top * stride + 3 * (size_t)used->left;
    } else {
        colour_to_bgr(&fit->video, frame, *used, fit->bgr);
    }
    if (fit->factor > 1) {
        average(fit, image, stride, fit->boxes);
        image = fit->boxes;
        stride = 3 * (size_t)fit->columns;
    }
    if (fit->rows != fit->height || fit->columns != fit->width) {
        resize(fit, image, stride);
        return fit->frame;
    }
    if (stride == row) {
        return image;
    }
    for (size_t y = 0; y < (size_t)fit->height; y++) {
        memcpy(fit->frame + y * row, image + y * stride, row);
    }
    return fit->frame;
}

void fit_close(fit *fit) {
    free(fit->down);
    free(fit->across);
    free(fit->sums);
    free(fit->lines[0]);
    free(fit->lines[1]);
    free(fit->bgr);
    free(fit->boxes);
    free(fit->frame);
    *fit = (struct fit){.factor = 1};
}

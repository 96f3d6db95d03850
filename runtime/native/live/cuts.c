#include "cuts.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define TILE_CELLS 4
#define CORRELATION_MAX 0.6
#define TILE_CORRELATION 0.8
#define TILES_KEPT_MAX 0.13
#define TEXTURE_LEVELS 10.0
#define TILE_TEXTURE_LEVELS 4.0
#define TILES_LEAST 3

/* ITU-R BT.601 */
static const double luma_bgr[3] = {0.114, 0.587, 0.299};

void cuts_open(cut_detector *cuts, int height, int width) {
    *cuts = (cut_detector){.height = height, .width = width};
    cuts->tall = (height + CUTS_CELLS - 1) / CUTS_CELLS;
    cuts->wide = (width + CUTS_CELLS - 1) / CUTS_CELLS;
    cuts->rows = height / cuts->tall;
    cuts->columns = width / cuts->wide;
}

void cuts_reset(cut_detector *cuts) { cuts->started = false; }

static double dot(const float *a, const float *b, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void centre(float *values, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += (double)values[i];
    }
    for (int i = 0; i < count; i++) {
        values[i] = (float)((double)values[i] - sum / count);
    }
}

/* Mean-removed luma of each cell, from the line of pixels in its middle. */
static void thumbnail(cut_detector *cuts, const uint8_t *frame) {
    float *cell = cuts->now;
    size_t row_bytes = 3 * (size_t)cuts->width;
    for (int row = 0; row < cuts->rows; row++) {
        const uint8_t *pixel = frame + (size_t)(row * cuts->tall + cuts->tall / 2) * row_bytes;
        for (int column = 0; column < cuts->columns; column++) {
            int sums[3] = {0, 0, 0};
            for (int i = 0; i < cuts->wide; i++, pixel += 3) {
                for (int c = 0; c < 3; c++) {
                    sums[c] += pixel[c];
                }
            }
            double luma = luma_bgr[0] * sums[0] + luma_bgr[1] * sums[1] + luma_bgr[2] * sums[2];
            *cell++ = (float)(luma / cuts->wide);
        }
    }
    centre(cuts->now, cuts->rows * cuts->columns);
}

/* Mean-removed cells of one tile. */
static void tile(const cut_detector *cuts, const float *cells, int row, int column, float *out) {
    for (int y = 0; y < TILE_CELLS; y++) {
        const float *line = cells + (row * TILE_CELLS + y) * cuts->columns + column * TILE_CELLS;
        memcpy(out + y * TILE_CELLS, line, TILE_CELLS * sizeof *out);
    }
    centre(out, TILE_CELLS * TILE_CELLS);
}

/* The second witness; only asked for the frames that the first one suspects. */
static bool keeps_few_tiles(const cut_detector *cuts) {
    enum { COUNT = TILE_CELLS * TILE_CELLS };
    int votes = 0, kept = 0;
    for (int row = 0; row < cuts->rows / TILE_CELLS; row++) {
        for (int column = 0; column < cuts->columns / TILE_CELLS; column++) {
            float a[COUNT], b[COUNT];
            tile(cuts, cuts->last, row, column, a);
            tile(cuts, cuts->now, row, column, b);
            double norm_a = sqrt(dot(a, a, COUNT)), norm_b = sqrt(dot(b, b, COUNT));
            if (fmin(norm_a, norm_b) >= TILE_TEXTURE_LEVELS * TILE_CELLS) {
                votes++;
                kept += dot(a, b, COUNT) >= TILE_CORRELATION * norm_a * norm_b;
            }
        }
    }
    return votes >= TILES_LEAST && kept < TILES_KEPT_MAX * votes;
}

bool cuts_update(cut_detector *cuts, const uint8_t *frame) {
    int count = cuts->rows * cuts->columns;
    thumbnail(cuts, frame);
    double norm = sqrt(dot(cuts->now, cuts->now, count));
    if (norm / sqrt(count) < TEXTURE_LEVELS) {
        return false;
    }
    bool cut = cuts->started &&
               dot(cuts->last, cuts->now, count) / (cuts->norm * norm) < CORRELATION_MAX &&
               keeps_few_tiles(cuts);
    memcpy(cuts->last, cuts->now, sizeof cuts->last);
    cuts->norm = norm;
    cuts->started = true;
    return cut;
}

/* Scene cuts: shiftedge/runtime/live/cuts.py, where each number is explained. Sums are in double here
 * and in float there, so a frame could be told apart only where it lies within some 1e-6 of a
 * threshold. */
#ifndef SHIFTEDGE_CUTS_H
#define SHIFTEDGE_CUTS_H

#include <stdbool.h>
#include <stdint.h>

/* Cells of a thumbnail on each axis at most. */
#define CUTS_CELLS 28

typedef struct cut_detector {
    int height, width; /* of a model frame, pixels */
    int tall, wide;    /* of a cell */
    int rows, columns; /* of cells */
    bool started;
    double norm; /* of `last` */
    float last[CUTS_CELLS * CUTS_CELLS], now[CUTS_CELLS * CUTS_CELLS];
} cut_detector;

void cuts_open(cut_detector *cuts, int height, int width);

/* Forget the last frame: the next one is never a cut. */
void cuts_reset(cut_detector *cuts);

/* Take the next model frame, BGR, rows without padding; true when it begins another scene. */
bool cuts_update(cut_detector *cuts, const uint8_t *frame);

#endif

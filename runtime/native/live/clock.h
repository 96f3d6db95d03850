/* Which camera frames the model takes: shiftedge/runtime/live/clock.py, to the bit. Times are passed
 * in, in seconds, finite. */
#ifndef SHIFTEDGE_CLOCK_H
#define SHIFTEDGE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "live.h"

/* Intervals behind the estimate of the camera's period. */
#define CLOCK_MEMORY_FRAMES 15

typedef struct frame_clock {
    double rate_hz, max_gap_s;
    int64_t max_steps;
    double intervals[CLOCK_MEMORY_FRAMES]; /* a ring: `next` is written next */
    int count, next;
    bool running;
    double start_s, last_s;
    int64_t claimed;
} frame_clock;

typedef struct tick {
    int64_t steps; /* to take with this frame: 0 skips it, more than 1 repeats it */
    shiftedge_reset reset;
} tick;

void clock_open(frame_clock *clock, double rate_hz, double max_gap_s);

/* Begin anew with the next frame; the estimate of the camera's period is kept. */
void clock_reset(frame_clock *clock);

tick clock_tick(frame_clock *clock, double time_s);

#endif

/* Which camera frames the model takes: shiftedge/runtime/clock.py, to the bit. Times are passed
 * in, in seconds, finite. */
#ifndef RUNNER_CLOCK_H
#define RUNNER_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Intervals behind the estimate of the camera's period. */
#define CLOCK_MEMORY_FRAMES 15

/* Why the states are emptied before a frame. */
typedef enum reset_reason {
    RESET_NONE,
    RESET_GAP,   /* the pause before it was longer than the model's limit */
    RESET_CLOCK, /* its time lies before the last one's */
    RESET_CUT,   /* the scene was cut */
    RESET_REASONS,
} reset_reason;

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
    reset_reason reset;
} tick;

void clock_open(frame_clock *clock, double rate_hz, double max_gap_s);

tick clock_tick(frame_clock *clock, double time_s);

#endif

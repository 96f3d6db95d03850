#include "clock.h"

#include <math.h>

/* A tick this close to the border between two frames goes to the earlier one. */
#define TOLERANCE_S 1e-6

void clock_open(frame_clock *clock, double rate_hz, double max_gap_s) {
    *clock = (frame_clock){
        .rate_hz = rate_hz,
        .max_gap_s = max_gap_s,
        .max_steps = (int64_t)ceil(max_gap_s * rate_hz - 1e-9),
    };
}

void clock_reset(frame_clock *clock) { clock->running = false; }

/* The median of the last intervals; 0 before the second frame. */
static double period_s(const frame_clock *clock) {
    double ordered[CLOCK_MEMORY_FRAMES];
    if (clock->count == 0) {
        return 0.0;
    }
    for (int i = 0; i < clock->count; i++) {
        int place = i;
        for (; place > 0 && ordered[place - 1] > clock->intervals[i]; place--) {
            ordered[place] = ordered[place - 1];
        }
        ordered[place] = clock->intervals[i];
    }
    int middle = clock->count / 2;
    return clock->count % 2 != 0 ? ordered[middle] : 0.5 * (ordered[middle - 1] + ordered[middle]);
}

static tick begin(frame_clock *clock, double time_s, shiftedge_reset reset) {
    clock->running = true;
    clock->start_s = clock->last_s = time_s;
    clock->claimed = 1;
    return (tick){1, reset};
}

tick clock_tick(frame_clock *clock, double time_s) {
    if (!clock->running) {
        return begin(clock, time_s, SHIFTEDGE_RESET_NONE);
    }
    double interval_s = time_s - clock->last_s;
    if (interval_s < 0.0) {
        return begin(clock, time_s, SHIFTEDGE_RESET_CLOCK);
    }
    if (interval_s > clock->max_gap_s + TOLERANCE_S) {
        return begin(clock, time_s, SHIFTEDGE_RESET_GAP);
    }
    clock->last_s = time_s;
    if (interval_s > 0.0) { /* two frames with one time are a burst, and say nothing of the rate */
        clock->intervals[clock->next] = interval_s;
        clock->next = (clock->next + 1) % CLOCK_MEMORY_FRAMES;
        clock->count += clock->count < CLOCK_MEMORY_FRAMES;
    }
    double reach_s = time_s + 0.5 * period_s(clock) + TOLERANCE_S - clock->start_s;
    int64_t due = (int64_t)floor(reach_s * clock->rate_hz) + 1;
    int64_t steps = due > clock->claimed ? due - clock->claimed : 0;
    clock->claimed += steps;
    return (tick){steps < clock->max_steps ? steps : clock->max_steps, SHIFTEDGE_RESET_NONE};
}

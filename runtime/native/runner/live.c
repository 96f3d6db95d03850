#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "live.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool live_open(live *live, const char *model, int threads, const video *video, failure *failure) {
    *live = (struct live){0};
    if (!library_open(&live->library, model, threads, failure)) {
        return false;
    }
    const char *json = live->library.spec_json;
    spec *spec = &live->spec;
    if (spec_read(spec, json, strlen(json), failure)) {
        live->logits = malloc((size_t)spec->classes * sizeof *live->logits);
        if (live->logits == NULL) {
            (void)fail(failure, "There is no memory left for the logits.");
        } else if (fit_open(&live->fit, video, spec->height, spec->width, spec->short_side,
                            failure) &&
                   decode_open(&live->decoder, spec, failure)) {
            clock_open(&live->clock, spec->frame_rate_hz, spec->max_gap_s);
            cuts_open(&live->cuts, spec->height, spec->width);
            return true;
        }
    }
    live_close(live);
    return false;
}

static double now_s(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool all_finite(const float *values, int count) {
    for (int i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return false;
        }
    }
    return true;
}

bool live_feed(live *live, const uint8_t *frame, double time_s, live_result *result,
               failure *failure) {
    tick tick = clock_tick(&live->clock, time_s);
    *result = (live_result){.steps = tick.steps, .reset = tick.reset};
    if (tick.reset != RESET_NONE) {
        library_reset(&live->library);
        decode_reset(&live->decoder);
        cuts_reset(&live->cuts);
    }
    if (tick.steps == 0) {
        return true;
    }
    const uint8_t *fitted = fit_frame(&live->fit, frame);
    if (cuts_update(&live->cuts, fitted)) {
        library_reset(&live->library);
        decode_reset(&live->decoder);
        result->reset = RESET_CUT;
        result->steps = 1; /* the other ticks of this frame lie in the time of the scene before */
    }
    double begin_s = now_s();
    for (int64_t i = 0; i < result->steps; i++) {
        if (!library_step(&live->library, fitted, 3 * live->spec.width, live->logits, failure)) {
            return false;
        }
        if (!all_finite(live->logits, live->spec.classes)) {
            return fail(failure,
                        "The model %s gave logits that are not finite; its weights or its "
                        "compiled form are damaged.",
                        live->spec.name);
        }
    }
    result->step_s = now_s() - begin_s;
    result->has_event = decode_update(&live->decoder, live->logits, time_s, &result->event);
    return true;
}

void live_close(live *live) {
    decode_close(&live->decoder);
    fit_close(&live->fit);
    free(live->logits);
    spec_close(&live->spec);
    library_close(&live->library);
}

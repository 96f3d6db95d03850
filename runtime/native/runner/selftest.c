#define _GNU_SOURCE /* sched_getaffinity */
#include "selftest.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clip.h"
#include "library.h"
#include "output.h"

typedef struct selftest {
    library library;
    const bundle_selftest *recorded;
    void *state;
    uint8_t *frames; /* recorded->frames of them */
    float *logits;
    size_t frame_bytes;
    double scale; /* the largest magnitude recorded */
    double worst; /* difference, over the scale */
    int worst_frame;
    double *seconds; /* of each timed step, ascending */
    int steps;
} selftest;

static double now_s(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool step(selftest *test, int index, failure *failure) {
    const uint8_t *frame = test->frames + (size_t)index * test->frame_bytes;
    const library *library = &test->library;
    return library_did(library,
                       library->step(library->model, test->state, frame, 3 * library->spec->width,
                                     test->logits),
                       failure);
}

static bool prepare(selftest *test, int steps, failure *failure) {
    const shiftedge_spec *spec = test->library.spec;
    const bundle_selftest *recorded = test->recorded;
    size_t state_bytes = test->library.state_size();
    test->frame_bytes = 3 * (size_t)spec->height * (size_t)spec->width;
    test->state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, state_bytes);
    test->frames = malloc((size_t)recorded->frames * test->frame_bytes);
    test->logits = malloc((size_t)spec->classes * sizeof *test->logits);
    test->seconds = malloc((size_t)steps * sizeof *test->seconds);
    if (test->state == NULL || test->frames == NULL || test->logits == NULL ||
        test->seconds == NULL) {
        return fail(failure, "There is no memory left for the self-test.");
    }
    memset(test->state, 0, state_bytes);
    for (int i = 0; i < recorded->frames; i++) {
        clip_frame(test->frames + (size_t)i * test->frame_bytes, spec->height, spec->width, i);
    }
    for (int i = 0; i < recorded->frames * spec->classes; i++) {
        test->scale = fmax(test->scale, fabs(recorded->logits[i]));
    }
    test->scale = fmax(test->scale, 1e-6); /* all zeros: no reason to fail over a denormal */
    return true;
}

/* The clip through a fresh stream. Logits that are not finite are as wrong as can be. */
static bool compare(selftest *test, failure *failure) {
    const double *expected = test->recorded->logits;
    for (int i = 0; i < test->recorded->frames; i++) {
        if (!step(test, i, failure)) {
            return false;
        }
        for (int k = 0; k < test->library.spec->classes; k++) {
            double error = fabs((double)test->logits[k] - *expected++) / test->scale;
            error = isfinite(error) ? error : INFINITY;
            if (error > test->worst) {
                test->worst = error;
                test->worst_frame = i;
            }
        }
    }
    return true;
}

static int ascending(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static bool measure(selftest *test, int steps, double most_s, failure *failure) {
    double begin_s = now_s(), before_s = begin_s;
    while (test->steps < steps && (test->steps == 0 || before_s - begin_s < most_s)) {
        if (!step(test, test->steps % test->recorded->frames, failure)) {
            return false;
        }
        double after_s = now_s();
        test->seconds[test->steps++] = after_s - before_s;
        before_s = after_s;
    }
    qsort(test->seconds, (size_t)test->steps, sizeof *test->seconds, ascending);
    return true;
}

/* Milliseconds that `share` of the steps did not pass. */
static double percentile_ms(const selftest *test, double share) {
    return 1e3 * test->seconds[(int)(share * (test->steps - 1))];
}

/* The same choice as the library's, see shiftedge.h. */
static int threads_used(int threads) {
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int wanted = threads > 0 ? threads : 4;
    return wanted < cores ? wanted : cores;
}

static bool print(const selftest *test, int threads, bool passed, failure *failure) {
    char worst[32] = "null", times[160] = "null";
    if (isfinite(test->worst)) {
        (void)snprintf(worst, sizeof worst, "%.3g", test->worst);
    }
    if (test->steps > 0) {
        (void)snprintf(times, sizeof times,
                       "{\"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, \"max\": %.4f}",
                       percentile_ms(test, 0.5), percentile_ms(test, 0.9),
                       percentile_ms(test, 0.99), percentile_ms(test, 1.0));
    }
    bool good = printf("{\"self_test\": \"%s\", \"variant\": \"%s\", \"frames\": %d, "
                       "\"worst_relative_error\": %s, \"tolerance\": %g, \"threads\": %d, "
                       "\"steps\": %d, \"step_ms\": %s}\n",
                       passed ? "passed" : "failed", test->library.variant->name,
                       test->recorded->frames, worst,
                       test->recorded->tolerance, threads_used(threads), test->steps, times) > 0;
    return (fflush(stdout) == 0 && good) || output_failed(failure);
}

static bool run(selftest *test, int threads, int steps, failure *failure) {
    double most_s = steps > 0 ? INFINITY : SELFTEST_SECONDS;
    steps = steps > 0 ? steps : SELFTEST_STEPS;
    if (!prepare(test, steps, failure) || !compare(test, failure)) {
        return false;
    }
    bool passed = test->worst <= test->recorded->tolerance;
    if (passed && !measure(test, steps, most_s, failure)) {
        return false;
    }
    if (!print(test, threads, passed, failure)) {
        return false;
    }
    return passed || fail(failure,
                          "The self-test failed: logits of frame %d differ from the recorded ones "
                          "by %.3g of the largest, accepted is %g; the model's file or this "
                          "machine is damaged, or the compiler is wrong for this processor.",
                          test->worst_frame, test->worst, test->recorded->tolerance);
}

bool selftest_run(const char *model, device device, int threads, int steps, failure *failure) {
    selftest test = {0};
    bool passed = false;
    if (!library_open(&test.library, model, device, threads, failure)) {
        return false;
    }
    if (test.library.variant == NULL) {
        (void)fail(failure,
                   "%s lies in no bundle; --self-test takes the folder of a bundle as --model, the "
                   "one that this runner was made with, for which it knows what is right.",
                   model);
    } else if (test.library.variant->selftest == NULL) {
        (void)fail(failure,
                   "%s has no recorded self-test; compile the model again, with its verification.",
                   test.library.variant->library);
    } else {
        test.recorded = test.library.variant->selftest;
        passed = run(&test, threads, steps, failure);
    }
    free(test.seconds);
    free(test.logits);
    free(test.frames);
    free(test.state);
    library_close(&test.library);
    return passed;
}

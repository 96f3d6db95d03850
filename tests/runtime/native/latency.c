/* What the pool and the step cost by themselves: kernels that do nothing. The figures in pool.h
 * come from here.
 *
 *     gcc -std=c11 -O2 -pthread -Iruntime/native runtime/native/?*.c runtime/native/cpu/?*.c \
 *         runtime/native/live/?*.c tests/runtime/native/latency.c -lm
 *     ./a.out 2 100000 100        threads, steps one after another, frames 80 ms apart
 */
#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/kernels.h"
#include "cpu/pool.h"
#include "program.h"
#include "shiftedge.h"

/* As in MobileNetV2 TSM at 224 x 224: 18 kernels, 27,048 floats of state. */
enum { KERNELS = 18, STATE_BYTES = 27048 * 4, SIDE = 224, CLASSES = 27, ITEMS = 100 };

static int32_t nothing(void *const *buffers, int32_t begin, int32_t end) {
    (void)buffers, (void)begin, (void)end;
    return 0;
}

static const shiftedge_buffer buffers[] = {
    {SHIFTEDGE_STATE, 0, 0}, {SHIFTEDGE_NEXT_STATE, 0, 0}, {SHIFTEDGE_LOGITS, 0, 0}};
#define KERNEL {nothing, buffers, 3, 64, 2}
#define SIX KERNEL, KERNEL, KERNEL, KERNEL, KERNEL, KERNEL
static const shiftedge_kernel kernels[KERNELS] = {SIX, SIX, SIX};

#define NAMES "nothing", "nothing", "nothing", "nothing", "nothing", "nothing"
static const char *const names[KERNELS] = {NAMES, NAMES, NAMES};
static const shiftedge_cpu_plan plan = {.kernels = kernels, .frame_alignment = 1};
static const shiftedge_spec spec = {.height = SIDE, .width = SIDE, .classes = CLASSES};

const shiftedge_program shiftedge_program_table = {
    .spec = &spec,
    .spec_json = "{}",
    .fingerprint = 1,
    .state_bytes = STATE_BYTES,
    .kernel_count = KERNELS,
    .kernel_names = names,
    .executor = &shiftedge_cpu_executor,
    .plan = &plan,
};

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int compare(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void report(const char *what, int64_t *times_ns, int count, double divisor) {
    qsort(times_ns, (size_t)count, sizeof *times_ns, compare);
    printf("%-44s p50 %8.2f  p99 %8.2f us\n", what, (double)times_ns[count / 2] / 1e3 / divisor,
           (double)times_ns[count - 1 - count / 100] / 1e3 / divisor);
}

typedef struct meeting {
    pool *pool;
    pool_item items[ITEMS];
    _Atomic int64_t woken_ns; /* when thread 1 began */
} meeting;

static void do_items(void *context, int32_t index, uint32_t run) {
    meeting *both = context;
    if (index == 1) {
        both->woken_ns = now_ns();
    }
    for (int i = 0; i < ITEMS; i++) {
        while (pool_claim(&both->items[i], run, 2, index) >= 0) {
            pool_finish(both->pool, &both->items[i], 2);
        }
        if (!pool_wait(both->pool, &both->items[i], run, 2, index)) {
            break;
        }
    }
}

/* From the caller's call to thread 1's beginning, or to the end of the items; the caller waits for
 * thread 1 to have begun, as a step would not. */
static int64_t one_run(meeting *both, bool wake) {
    both->woken_ns = 0;
    int64_t begin = now_ns();
    uint32_t run = pool_begin(both->pool);
    if (!wake) {
        do_items(both, 0, run);
        return now_ns() - begin;
    }
    while (both->woken_ns == 0) {
    }
    int64_t woken_ns = both->woken_ns;
    do_items(both, 0, run);
    return woken_ns - begin;
}

static void pause_camera(void) { nanosleep(&(struct timespec){.tv_nsec = 80000000}, NULL); }

static void measure_pool(int64_t *times, int count, int frames) {
    bool out_of_memory;
    static meeting both;
    both.pool = pool_open(2, true, do_items, &both, &out_of_memory);
    for (int i = 0; i < count / ITEMS; i++) {
        times[i] = one_run(&both, true);
    }
    report("wake thread 1, one run after another", times, count / ITEMS, 1.0);
    for (int i = 0; i < frames; i++) {
        pause_camera();
        times[i] = one_run(&both, true);
    }
    report("wake thread 1, asleep for 80 ms", times, frames, 1.0);
    for (int i = 0; i < count / ITEMS; i++) {
        times[i] = one_run(&both, false);
    }
    report("an item of two chunks, mean of 100 in one run", times, count / ITEMS, ITEMS);
    pool_close(both.pool);
}

int main(int argc, char **argv) {
    int32_t threads = argc > 1 ? atoi(argv[1]) : 2;
    int count = argc > 2 ? atoi(argv[2]) : 100000;
    int frames = argc > 3 ? atoi(argv[3]) : 100;
    if (threads < 1 || count < ITEMS || frames < 1 || frames > count) {
        fprintf(stderr, "usage: %s THREADS STEPS FRAMES, with 100 steps or more\n", argv[0]);
        return 2;
    }
    int64_t *times = malloc((size_t)count * sizeof *times);
    unsigned char *frame = calloc(SIDE * SIDE, 3);
    void *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
    shiftedge_options options = {.size = sizeof options, .threads = threads};
    shiftedge_model *model = NULL;
    if (times == NULL || frame == NULL || state == NULL ||
        shiftedge_open(&options, &model) != SHIFTEDGE_OK) {
        fprintf(stderr, "%s\n", shiftedge_last_error());
        return 1;
    }
    memset(state, 0, shiftedge_state_size());
    if (threads > 1) {
        measure_pool(times, count, frames);
    }
    float logits[CLASSES];
    for (int i = 0; i < count; i++) {
        int64_t begin = now_ns();
        int status = shiftedge_step(model, state, frame, 3 * SIDE, logits);
        times[i] = now_ns() - begin;
        if (status != SHIFTEDGE_OK) {
            fprintf(stderr, "%s\n", shiftedge_last_error());
            return 1;
        }
    }
    report("step of 18 empty kernels, one after another", times, count, 1.0);
    for (int i = 0; i < frames; i++) {
        pause_camera();
        int64_t begin = now_ns();
        (void)shiftedge_step(model, state, frame, 3 * SIDE, logits);
        times[i] = now_ns() - begin;
    }
    report("step of 18 empty kernels, 80 ms apart", times, frames, 1.0);
    unsigned char *copy = malloc(STATE_BYTES);
    for (int i = 0; copy != NULL && i < count; i++) {
        int64_t begin = now_ns();
        memcpy(copy, (unsigned char *)state + 64, STATE_BYTES);
        __asm__ volatile("" : : "r"(copy) : "memory"); /* or the copy is left out */
        times[i] = now_ns() - begin;
    }
    report("of it: copying 108 KB of states", times, count, 1.0);
    shiftedge_close(model);
    free(copy);
    free(state);
    free(frame);
    free(times);
    return 0;
}

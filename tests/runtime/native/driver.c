/* Everything that wants threads, sanitizers or a counted allocation, as one program. Prints a line
 * for each part that held; ends with 1 and a sentence at the first that did not. */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fake_model.h"
#include "shiftedge.h"

#if defined(__has_feature) /* clang */
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

enum {
    FRAMES = 24,
    FRAME_BYTES = FAKE_HEIGHT * FAKE_WIDTH * 3,
    ROW = FAKE_WIDTH * 3,
    THREADS_MOST = 4,
    STREAMS = 3,
    SECONDS_MOST = 110, /* before those who wait for this program lose patience */
    CHILD_SECONDS_MOST = 30,
};

static uint8_t frames[FRAMES][FRAME_BYTES];
static float expected[FRAMES][FAKE_CLASSES];
static unsigned char *expected_state;

#define HOLDS(condition)                                                                         \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            printf("line %d: not so: %s (last error: %s)\n", __LINE__, #condition,               \
                   shiftedge_last_error());                                                      \
            fflush(stdout);                                                                      \
            _exit(1);                                                                            \
        }                                                                                        \
    } while (0)

/* Count every allocation of the process, whoever makes it. Sanitizers have an own malloc. */
static _Atomic long allocations;
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
void *malloc(size_t bytes) {
    allocations++;
    return __libc_malloc(bytes);
}
void *calloc(size_t count, size_t bytes) {
    allocations++;
    return __libc_calloc(count, bytes);
}
void *realloc(void *old, size_t bytes) {
    allocations++;
    return __libc_realloc(old, bytes);
}
#endif

static unsigned char *new_state(void) {
    unsigned char *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
    HOLDS(state != NULL);
    memset(state, 0, shiftedge_state_size());
    return state;
}

static shiftedge_model *open_model(int32_t threads) {
    shiftedge_options options = {
        .size = sizeof options, .threads = threads, .flags = SHIFTEDGE_FLAG_OVERSUBSCRIBE};
    shiftedge_model *model = NULL;
    HOLDS(shiftedge_open(&options, &model) == SHIFTEDGE_OK);
    return model;
}

static int step(shiftedge_model *model, void *state, int frame, float *logits) {
    return shiftedge_step(model, state, frames[frame], ROW, logits);
}

/* The whole stream through one state, every logit and the last state compared. */
static void stream(shiftedge_model *model, unsigned char *state) {
    for (int i = 0; i < FRAMES; i++) {
        float logits[FAKE_CLASSES] = {0};
        HOLDS(step(model, state, i, logits) == SHIFTEDGE_OK);
        HOLDS(memcmp(logits, expected[i], sizeof logits) == 0);
    }
    HOLDS(memcmp(state, expected_state, shiftedge_state_size()) == 0);
}

static void prepare(void) {
    uint32_t seed = 1;
    for (int i = 0; i < FRAMES; i++) {
        for (int j = 0; j < FRAME_BYTES; j++) {
            seed = seed * 1664525u + 1013904223u;
            frames[i][j] = (uint8_t)(seed >> 24);
        }
    }
    expected_state = new_state();
    shiftedge_model *model = open_model(1);
    for (int i = 0; i < FRAMES; i++) {
        HOLDS(step(model, expected_state, i, expected[i]) == SHIFTEDGE_OK);
    }
    shiftedge_close(model);
    HOLDS(memcmp(expected[0], expected[1], sizeof expected[0]) != 0);
}

static void any_number_of_threads(void) {
    for (int32_t threads = 1; threads <= THREADS_MOST; threads++) {
        shiftedge_model *model = open_model(threads);
        unsigned char *state = new_state();
        for (int repeat = 0; repeat < 10; repeat++) {
            stream(model, state);
            memset(state, 0, shiftedge_state_size());
        }
        free(state);
        shiftedge_close(model);
    }
}

static void snapshot(void) {
    shiftedge_model *model = open_model(2);
    unsigned char *state = new_state();
    unsigned char *copy = new_state();
    float logits[FAKE_CLASSES];
    for (int i = 0; i < FRAMES; i++) {
        if (i == FRAMES / 2) {
            memcpy(copy, state, shiftedge_state_size());
        }
        HOLDS(step(model, state, i, logits) == SHIFTEDGE_OK);
    }
    for (int i = FRAMES / 2; i < FRAMES; i++) {
        HOLDS(step(model, copy, i, logits) == SHIFTEDGE_OK);
        HOLDS(memcmp(logits, expected[i], sizeof logits) == 0);
    }
    HOLDS(memcmp(copy, state, shiftedge_state_size()) == 0);
    free(copy);
    free(state);
    shiftedge_close(model);
}

static void open_and_close(void) {
    for (int i = 0; i < 100; i++) {
        shiftedge_model *model = open_model(1 + i % THREADS_MOST);
        if (i % 3 != 0) { /* some are closed before their threads have begun */
            unsigned char *state = new_state();
            float logits[FAKE_CLASSES];
            HOLDS(step(model, state, 0, logits) == SHIFTEDGE_OK);
            free(state);
        }
        shiftedge_close(model);
    }
}

static void *stream_often(void *model) {
    unsigned char *state = new_state();
    for (int repeat = 0; repeat < 10; repeat++) {
        stream(model, state);
        memset(state, 0, shiftedge_state_size());
    }
    free(state);
    return NULL;
}

static void several_streams(void) {
    for (int32_t threads = 1; threads <= 2; threads++) {
        shiftedge_model *shared = open_model(threads);
        shiftedge_model *other = open_model(threads);
        pthread_t callers[STREAMS + 1];
        for (int i = 0; i <= STREAMS; i++) {
            HOLDS(pthread_create(&callers[i], NULL, stream_often, i < STREAMS ? shared : other) ==
                  0);
        }
        for (int i = 0; i <= STREAMS; i++) {
            pthread_join(callers[i], NULL);
        }
        shiftedge_close(shared);
        shiftedge_close(other);
    }
}

typedef struct rivals {
    shiftedge_model *model;
    unsigned char *state;
    _Atomic int done;
    _Atomic int busy;
} rivals;

static void *step_against(void *argument) {
    rivals *both = argument;
    for (int i = 0; i < 500; i++) {
        float logits[FAKE_CLASSES];
        int status = step(both->model, both->state, 0, logits);
        HOLDS(status == SHIFTEDGE_OK || status == SHIFTEDGE_ERROR_BUSY);
        *(status == SHIFTEDGE_OK ? &both->done : &both->busy) += 1;
    }
    return NULL;
}

/* However they meet, what was let in was let in one by one: the state is that of so many steps. */
static void one_state_two_threads(void) {
    rivals both = {.model = open_model(2), .state = new_state()};
    pthread_t callers[2];
    for (int i = 0; i < 2; i++) {
        HOLDS(pthread_create(&callers[i], NULL, step_against, &both) == 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(callers[i], NULL);
    }
    HOLDS(both.done + both.busy == 1000);
    unsigned char *state = new_state();
    float logits[FAKE_CLASSES];
    for (int i = 0; i < both.done; i++) {
        HOLDS(step(both.model, state, 0, logits) == SHIFTEDGE_OK);
    }
    HOLDS(memcmp(state, both.state, shiftedge_state_size()) == 0);
    free(state);
    free(both.state);
    shiftedge_close(both.model);
}

/* Wherever a kernel fails, on whichever thread: state and logits stay, and the next step is right. */
static void failing_kernels(void) {
    const int units[] = {FAKE_HEIGHT, FAKE_HEIGHT, FAKE_WIDTH, FAKE_CLASSES};
    for (int32_t threads = 1; threads <= 3; threads++) {
        shiftedge_model *model = open_model(threads);
        unsigned char *state = new_state();
        unsigned char *before = new_state();
        for (int i = 0; i < FRAMES; i++) {
            for (int kernel = 0; kernel < 4; kernel++) {
                memcpy(before, state, shiftedge_state_size());
                float logits[FAKE_CLASSES] = {1, 2, 3, 4};
                fake_fail_unit = (i * 5) % units[kernel];
                fake_fail_kernel = kernel;
                HOLDS(step(model, state, i, logits) == SHIFTEDGE_ERROR_KERNEL);
                fake_fail_kernel = -1;
                HOLDS(logits[0] == 1 && logits[1] == 2 && logits[2] == 3 && logits[3] == 4);
                HOLDS(memcmp(before, state, shiftedge_state_size()) == 0);
            }
            float logits[FAKE_CLASSES];
            HOLDS(step(model, state, i, logits) == SHIFTEDGE_OK);
            HOLDS(memcmp(logits, expected[i], sizeof logits) == 0);
        }
        free(before);
        free(state);
        shiftedge_close(model);
    }
}

static void fork_after_open(void) {
    shiftedge_model *model = open_model(2);
    unsigned char *state = new_state();
    float logits[FAKE_CLASSES];
    HOLDS(step(model, state, 0, logits) == SHIFTEDGE_OK);
    fflush(stdout);
    pid_t child = fork();
    HOLDS(child >= 0);
    if (child == 0) {
        /* However it hangs: ThreadSanitizer's own locks, for one, may have been held by a thread
         * that is not here. Nobody else would end it, since it outlives a killed parent. */
        alarm(CHILD_SECONDS_MOST);
        HOLDS(step(model, state, 1, logits) == SHIFTEDGE_ERROR_FORKED);
        HOLDS(strstr(shiftedge_last_error(), "opened before a fork") != NULL);
        shiftedge_close(model);
#if !defined(__SANITIZE_THREAD__) /* which takes no new threads after a fork */
        model = open_model(2);
        HOLDS(step(model, state, 1, logits) == SHIFTEDGE_OK);
        HOLDS(memcmp(logits, expected[1], sizeof logits) == 0);
        shiftedge_close(model);
#endif
        _exit(0);
    }
    int status = 0;
    HOLDS(waitpid(child, &status, 0) == child);
    HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    HOLDS(step(model, state, 1, logits) == SHIFTEDGE_OK);
    free(state);
    shiftedge_close(model);
}

static double cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void *step_in_a_new_thread(void *argument) {
    rivals *one = argument;
    float logits[FAKE_CLASSES];
    HOLDS(step(one->model, one->state, 0, logits) == SHIFTEDGE_OK);
    long before = allocations;
    for (int i = 0; i < 200; i++) {
        HOLDS(step(one->model, one->state, 0, logits) == SHIFTEDGE_OK);
    }
    HOLDS(allocations == before);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
    HOLDS(allocations > 0); /* they are counted at all */
#endif
    return NULL;
}

static void nothing_allocated(void) {
    rivals one = {.model = open_model(2), .state = new_state()};
    pthread_t caller;
    HOLDS(pthread_create(&caller, NULL, step_in_a_new_thread, &one) == 0);
    pthread_join(caller, NULL);
    free(one.state);
    shiftedge_close(one.model);
}

/* Ten frames of a camera at 12.5 Hz. Spinning would take 0.8 s per thread; the bound allows for a
 * sanitizer's own work. */
static void idle_between_frames(void) {
    shiftedge_model *models[] = {open_model(2), open_model(4)};
    unsigned char *state = new_state();
    float logits[FAKE_CLASSES];
    double before = cpu_s();
    for (int i = 0; i < 10; i++) {
        HOLDS(step(models[i % 2], state, i, logits) == SHIFTEDGE_OK);
        nanosleep(&(struct timespec){.tv_nsec = 80000000}, NULL);
    }
    double used = cpu_s() - before;
    printf("cpu of 4 threads over 0.8 s: %.1f ms\n", used * 1e3);
    HOLDS(used < 0.08);
    free(state);
    shiftedge_close(models[0]);
    shiftedge_close(models[1]);
}

static void part(const char *name, void (*run)(void)) {
    run();
    printf("ok %s\n", name);
    fflush(stdout);
}

int main(void) {
    alarm(SECONDS_MOST);
    prepare();
    part("any number of threads", any_number_of_threads);
    part("snapshot", snapshot);
    part("open and close", open_and_close);
    part("several streams", several_streams);
    part("one state, two threads", one_state_two_threads);
    part("failing kernels", failing_kernels);
    part("fork", fork_after_open);
    part("nothing allocated", nothing_allocated);
    part("idle between frames", idle_between_frames);
    free(expected_state);
    return 0;
}

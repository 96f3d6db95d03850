/* Streams frames through a compiled model:
 *
 * stream LIBRARY THREADS STEPS FRAMES HEIGHT WIDTH CLASSES OUTPUT [profile]
 *
 * FRAMES holds images of HEIGHT x WIDTH x 3 bytes, blue first, begun again where it ends. OUTPUT
 * receives, after each step, CLASSES floats and the state block; "-" keeps nothing. With `profile`
 * the model looks at the clock around each kernel, and the kernels' names are printed, a line each.
 * After each step the system call getppid is made, for who counts between steps; nothing else makes
 * it.
 * Exits with the status that a call answered. */
#define _POSIX_C_SOURCE 200809L /* getppid under -std=c11 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shiftedge.h"

/* The functions of shiftedge.h, found in the library that was named. */
typedef struct api {
    size_t (*state_size)(void);
    uint32_t (*kernel_count)(void);
    const char *(*kernel_name)(uint32_t);
    int (*open)(const shiftedge_options *, shiftedge_model **);
    int (*step)(shiftedge_model *, void *, const uint8_t *, int32_t, float *);
    int (*profile)(shiftedge_model *, double *);
    const char *(*last_error)(void);
    void (*close)(shiftedge_model *);
} api;

enum { USAGE = 64, NO_LIBRARY, NO_MEMORY, NO_FILE };

static int fail(int status, const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why == NULL ? "it failed" : why);
    return status;
}

/* ISO C has no cast from an object's address to a function's. */
static int find(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static int load(const char *path, api *to) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return library != NULL && find(library, "shiftedge_state_size", &to->state_size) &&
           find(library, "shiftedge_kernel_count", &to->kernel_count) &&
           find(library, "shiftedge_kernel_name", &to->kernel_name) &&
           find(library, "shiftedge_open", &to->open) &&
           find(library, "shiftedge_step", &to->step) &&
           find(library, "shiftedge_profile", &to->profile) &&
           find(library, "shiftedge_last_error", &to->last_error) &&
           find(library, "shiftedge_close", &to->close);
}

int main(int count, char **words) {
    if (count != 9 && (count != 10 || strcmp(words[9], "profile") != 0)) {
        return fail(USAGE, "stream", "expected LIBRARY THREADS STEPS FRAMES HEIGHT WIDTH CLASSES "
                                     "OUTPUT [profile]");
    }
    api call;
    if (!load(words[1], &call)) {
        return fail(NO_LIBRARY, words[1], dlerror());
    }
    shiftedge_options options = {.size = sizeof options,
                                 .threads = atoi(words[2]),
                                 .flags = SHIFTEDGE_FLAG_OVERSUBSCRIBE};
    int steps = atoi(words[3]), width = atoi(words[6]);
    size_t frame_bytes = (size_t)atoi(words[5]) * (size_t)width * 3;
    size_t classes = (size_t)atoi(words[7]);
    shiftedge_model *model = NULL;
    int status = call.open(&options, &model);
    if (status != SHIFTEDGE_OK) {
        return fail(status, "open", call.last_error());
    }
    uint8_t *frame = malloc(frame_bytes);
    float *logits = malloc(classes * sizeof *logits);
    double *seconds = calloc(call.kernel_count(), sizeof *seconds);
    void *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, call.state_size());
    if (frame == NULL || logits == NULL || seconds == NULL || state == NULL) {
        return fail(NO_MEMORY, "stream", "out of memory");
    }
    memset(state, 0, call.state_size());
    FILE *frames = fopen(words[4], "rb");
    FILE *output = strcmp(words[8], "-") == 0 ? NULL : fopen(words[8], "wb");
    if (frames == NULL || (output == NULL && strcmp(words[8], "-") != 0)) {
        return fail(NO_FILE, words[4], "it, or the output, cannot be opened");
    }
    if (count == 10) {
        call.profile(model, seconds);
        for (uint32_t kernel = 0; kernel < call.kernel_count(); kernel++) {
            puts(call.kernel_name(kernel));
        }
    }
    for (int step = 0; step < steps && status == SHIFTEDGE_OK; step++) {
        if (fread(frame, 1, frame_bytes, frames) != frame_bytes) {
            rewind(frames);
            if (fread(frame, 1, frame_bytes, frames) != frame_bytes) {
                return fail(NO_FILE, words[4], "it holds no whole frame");
            }
        }
        status = call.step(model, state, frame, 3 * width, logits);
        (void)getppid();
        if (status != SHIFTEDGE_OK) {
            fail(status, "step", call.last_error());
        } else if (output != NULL &&
                   (fwrite(logits, sizeof *logits, classes, output) != classes ||
                    fwrite(state, 1, call.state_size(), output) != call.state_size())) {
            return fail(NO_FILE, words[8], "it cannot be written");
        }
    }
    call.close(model);
    if (output != NULL && fclose(output) != 0) {
        return fail(NO_FILE, words[8], "it cannot be written");
    }
    fclose(frames);
    free(state);
    free(seconds);
    free(logits);
    free(frame);
    return status;
}

/* A model for GPUs, opened, stepped and closed in one process: what each call answered, as lines.
 *
 *     cuda_driver STEPS [profile] [stride] [again] [two] [fork] [device=N]
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shiftedge.h"

enum { H = 24, W = 32, K = 4, ROW = W * 3, APART = ROW + 20 };

static bool wanted(int argc, char **argv, const char *word) {
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], word, strlen(word)) == 0) {
            return true;
        }
    }
    return false;
}

static shiftedge_model *open_model(int argc, char **argv) {
    shiftedge_options options = {.size = sizeof options};
    shiftedge_model *model = NULL;
    for (int i = 2; i < argc; i++) {
        (void)sscanf(argv[i], "device=%d", &options.device);
    }
    int status = shiftedge_open(&options, &model);
    printf("open %d %s\n", status, status == SHIFTEDGE_OK ? "" : shiftedge_last_error());
    return model;
}

/* A step; after a failure state and logits must be as they were. */
static int step(shiftedge_model *model, unsigned char *state, int index, bool apart) {
    static uint8_t frame[H * APART];
    float logits[K] = {-1, -2, -3, -4}, before[K] = {-1, -2, -3, -4};
    size_t bytes = shiftedge_state_size();
    unsigned char *copy = malloc(bytes);
    int stride = apart ? APART : ROW;
    for (int i = 0; i < H * ROW; i++) {
        frame[i / ROW * stride + i % ROW] = (uint8_t)(i * 7 + index * 13 + i / 256);
    }
    memcpy(copy, state, bytes);
    int status = shiftedge_step(model, state, frame, stride, logits);
    if (status == SHIFTEDGE_OK) {
        printf("step 0 %.9g %.9g %.9g %.9g\n", logits[0], logits[1], logits[2], logits[3]);
    } else {
        bool same = memcmp(copy, state, bytes) == 0 && memcmp(logits, before, sizeof logits) == 0;
        printf("step %d %s%s\n", status, same ? "" : "CHANGED ", shiftedge_last_error());
    }
    free(copy);
    return status;
}

static unsigned char *new_state(void) {
    unsigned char *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
    memset(state, 0, shiftedge_state_size());
    return state;
}

static void child(shiftedge_model *model, unsigned char *state, int argc, char **argv) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)step(model, state, 0, false);
        shiftedge_close(model);
        (void)open_model(argc, argv);
        free(state);
        fflush(stdout);
        _exit(0);
    }
    int ended = 0;
    (void)waitpid(pid, &ended, 0);
    printf("child %d\n", ended);
}

int main(int argc, char **argv) {
    int steps = atoi(argv[1]);
    shiftedge_model *model = open_model(argc, argv);
    shiftedge_model *other = wanted(argc, argv, "two") ? open_model(argc, argv) : NULL;
    if (model == NULL) {
        return 0;
    }
    unsigned char *state = new_state(), *kept = new_state();
    double seconds[3] = {-1, -1, -1};
    if (wanted(argc, argv, "profile")) {
        (void)shiftedge_profile(model, seconds);
    }
    for (int i = 0; i < steps; i++) {
        (void)step(other != NULL && i % 2 ? other : model, state, i, wanted(argc, argv, "stride"));
        if (i == 1) {
            memcpy(kept, state, shiftedge_state_size());
        }
    }
    if (wanted(argc, argv, "profile")) {
        printf("profile %d\n", seconds[0] >= 0 && seconds[1] >= 0 && seconds[2] >= 0);
    }
    printf("state ");
    for (size_t i = 64; i < shiftedge_state_size(); i++) {
        printf("%02x", state[i]);
    }
    printf("\n");
    if (wanted(argc, argv, "again")) { /* from the snapshot on, the same frames */
        for (int i = 2; i < steps; i++) {
            (void)step(model, kept, i, false);
        }
        printf("same %d\n", memcmp(state, kept, shiftedge_state_size()) == 0);
    }
    if (wanted(argc, argv, "fork")) {
        child(model, state, argc, argv);
        (void)step(model, state, steps, false);
    }
    shiftedge_close(model);
    shiftedge_close(other);
    free(state);
    free(kept);
    return 0;
}

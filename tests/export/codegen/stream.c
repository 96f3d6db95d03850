/* Steps a compiled model over frames of noise and prints every logit's bits, for a sanitizer and
 * for comparing: stream THREADS FRAMES HEIGHT WIDTH CLASSES. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shiftedge.h"

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, shiftedge_last_error());
    return 1;
}

int main(int count, char **words) {
    if (count != 6) {
        return fail("stream THREADS FRAMES HEIGHT WIDTH CLASSES");
    }
    shiftedge_options options = {.size = sizeof options,
                                 .threads = atoi(words[1]),
                                 .flags = SHIFTEDGE_FLAG_OVERSUBSCRIBE};
    int frames = atoi(words[2]), height = atoi(words[3]), width = atoi(words[4]);
    int classes = atoi(words[5]);
    shiftedge_model *model = NULL;
    if (shiftedge_open(&options, &model) != SHIFTEDGE_OK) {
        return fail("open");
    }
    /* Exactly what is asked for, on the heap: a byte more is a finding. */
    size_t frame_bytes = (size_t)height * (size_t)width * 3;
    uint8_t *frame = malloc(frame_bytes);
    float *logits = malloc((size_t)classes * sizeof *logits);
    void *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
    if (frame == NULL || logits == NULL || state == NULL) {
        return fail("memory");
    }
    memset(state, 0, shiftedge_state_size());
    uint32_t noise = 1;
    int status = 0;
    for (int step = 0; step < frames && status == 0; step++) {
        for (size_t i = 0; i < frame_bytes; i++) {
            noise = noise * 1664525u + 1013904223u;
            frame[i] = (uint8_t)(noise >> 24);
        }
        if (shiftedge_step(model, state, frame, 3 * width, logits) != SHIFTEDGE_OK) {
            status = fail("step");
        }
        for (int i = 0; i < classes && status == 0; i++) {
            uint32_t bits;
            memcpy(&bits, &logits[i], sizeof bits);
            printf("%08" PRIx32 "%c", bits, i + 1 == classes ? '\n' : ' ');
        }
    }
    shiftedge_close(model);
    free(state);
    free(logits);
    free(frame);
    return status;
}

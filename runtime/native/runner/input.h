/* Whole frames out of a file or a pipe that gives bytes in any pieces. */
#ifndef RUNNER_INPUT_H
#define RUNNER_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

typedef struct input {
    int descriptor;
    size_t frame_bytes;
    uint8_t *frame; /* allocated once */
    size_t got;     /* bytes of it */
    uint64_t total; /* bytes read so far */
} input;

typedef enum input_answer {
    INPUT_FRAME,   /* input.frame is whole */
    INPUT_END,     /* input.got bytes of a frame were left over */
    INPUT_STOPPED, /* by a signal, see stop.h */
    INPUT_FAILED,
} input_answer;

/* path: NULL or "-" is standard input. On failure there is nothing to close. */
bool input_open(input *input, const char *path, size_t frame_bytes, failure *failure);

input_answer input_next(input *input, failure *failure);

void input_close(input *input);

#endif

#define _GNU_SOURCE /* F_SETPIPE_SZ */
#define _FILE_OFFSET_BITS 64 /* recordings are long */
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stop.h"

/* What an ordinary user may give a pipe (/proc/sys/fs/pipe-max-size). */
#define PIPE_BYTES_MOST (1 << 20)

bool input_open(input *input, const char *path, size_t frame_bytes, failure *failure) {
    bool standard = path == NULL || strcmp(path, "-") == 0;
    *input = (struct input){.descriptor = STDIN_FILENO, .frame_bytes = frame_bytes};
    if (!standard) {
        input->descriptor = stop_or_open(path);
        if (input->descriptor < 0) {
            return fail(failure, "Cannot open %s: %s.", path, strerror(errno));
        }
    }
    input->frame = malloc(frame_bytes);
    if (input->frame == NULL) {
        input_close(input);
        return fail(failure, "There is no memory left for a frame of %zu bytes.", frame_bytes);
    }
    /* A frame in few pieces, if the input is a pipe and the system allows it. */
    size_t wanted = frame_bytes < PIPE_BYTES_MOST ? frame_bytes : PIPE_BYTES_MOST;
    int has = fcntl(input->descriptor, F_GETPIPE_SZ);
    if (has > 0 && (size_t)has < wanted) {
        (void)fcntl(input->descriptor, F_SETPIPE_SZ, (int)wanted);
    }
    return true;
}

input_answer input_next(input *input, failure *failure) {
    input->got = 0;
    while (input->got < input->frame_bytes) {
        if (!stop_or_readable(input->descriptor)) {
            return INPUT_STOPPED;
        }
        ssize_t count = read(input->descriptor, input->frame + input->got,
                             input->frame_bytes - input->got);
        if (count == 0) {
            return INPUT_END;
        }
        if (count > 0) {
            input->got += (size_t)count;
            input->total += (uint64_t)count;
        } else if (errno != EINTR && errno != EAGAIN) {
            (void)fail(failure, "Cannot read frames: %s.", strerror(errno));
            return INPUT_FAILED;
        }
    }
    return INPUT_FRAME;
}

void input_close(input *input) {
    free(input->frame);
    if (input->descriptor > STDIN_FILENO) {
        (void)close(input->descriptor);
    }
    *input = (struct input){.descriptor = -1};
}

/* The command line. */
#ifndef RUNNER_OPTIONS_H
#define RUNNER_OPTIONS_H

#include <stdbool.h>

#include "failure.h"
#include "library.h"
#include "live/video.h"

typedef struct options {
    const char *model; /* NULL: the one beside the program */
    const char *input; /* NULL or "-": standard input */
    const char *logits; /* NULL, or a file to write them to */
    video video;
    double rate_hz; /* frame i is taken at i / rate_hz seconds; 0: frames are taken as they come */
    device device;
    int threads;    /* 0: the library's default */
    int self_test_steps; /* to be timed; 0: the default */
    bool range_given, stride_given;
    bool steps, self_test, help, version;
} options;

/* False: wrong usage, the failure says what. The texts stay argv's. */
bool options_read(options *options, int argc, char *const argv[], failure *failure);

extern const char options_help[];

#endif
